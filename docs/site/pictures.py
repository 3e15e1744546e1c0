"""Make the images of the documentation: train a small model, run the verbs, and photograph what they show.

    make pictures                       # with AWEIGH_TEST_DATA, which has datasets/bccd
    make pictures ONLY=doctor,receipt   # some of them
    make pictures ONLY=video MODEL=best.pt   # with a checkpoint trained on BCCD before

What the verbs write is kept in the folder of work, and made again only where it is missing: delete it to start anew.
The training (200 iterations) takes a quarter of an hour of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import album
import plots
import scenes
from chromium import Chromium
from shots import MOST_BYTES, write_small

ROOT = Path(__file__).parents[2]
AWEIGH = str(Path(sys.executable).parent / "aweigh")
OUT = ROOT / "docs/pictures"
MOST_BYTES_IN_ALL = 2_000_000


class Studio:
    """What is photographed: files of a run on BCCD, made by the verbs as a user calls them."""

    def __init__(self, data: Path, work: Path, model: Path | None = None) -> None:
        self.work = work.resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.data = Path("bccd")  # in the folder of work: pages show the path that they are given
        if not (self.work / self.data).is_symlink():
            (self.work / self.data).symlink_to(data.resolve(), target_is_directory=True)
        self.best = self.work / "runs/train/cells/weights/best.pt"
        if model is not None:
            self.best.parent.mkdir(parents=True, exist_ok=True)
            self.best.unlink(missing_ok=True)
            self.best.symlink_to(model.resolve(strict=True))
        names = (self.work / self.data / "ImageSets/Main/test.txt").read_text(encoding="utf-8").split()
        self.images = [self.work / self.data / f"JPEGImages/{name}.jpg" for name in names]
        self.image = self.images[2]

    def run(self, *arguments: object, made: str = "", codes: tuple[int, ...] = (0,)) -> str:
        """What a verb prints on both streams; nothing is run where ``made`` is there already."""
        if made and (self.work / made).exists():
            return ""
        words = [str(argument) for argument in arguments]
        print("aweigh", *words, file=sys.stderr)
        environment = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        command = [AWEIGH, *words]
        done = subprocess.run(
            command, cwd=self.work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode not in codes:
            raise RuntimeError(f"aweigh {' '.join(words)}: exit code {done.returncode}\n{done.stdout}")
        return done.stdout

    def train(self) -> Path:
        self.run(
            *("train", "--data", self.data, "--method", "dw", "--model", "lite0", "--weights", "imagenet"),
            *("--imgsz", "256x320", "--iterations", 200, "--threads", 1, "--name", "cells"),
            made=str(self.best.relative_to(self.work)),
        )
        return self.best

    def export(self, precision: str = "fp32") -> Path:
        """The exported file; its receipt may fail, and is shown as it is."""
        name = f"{precision}.onnx"
        model = self.train()
        more = ("--precision", precision, "--data", self.data, "--threads", 1, "--out", name)
        self.run("export", "--model", model, *more, made=name, codes=(0, 1))
        return self.work / name

    def serve(self) -> tuple[subprocess.Popen[str], str]:
        """A server of the file, and its address."""
        command = [AWEIGH, "serve", "--model", f"cells={self.export()}"]
        command += ["--port", "0", "--grpc-port", "-1", "--threads", "1", "--json"]
        process = subprocess.Popen(command, cwd=self.work, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        text = ""
        while True:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the server did not start: {text}")
            text += line
            try:
                return process, str(json.loads(text)["http"])
            except ValueError:
                continue


def drawn(plot: Callable[[], album.Image], *_: object) -> album.Image:
    return plot()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--data", required=True, type=Path, help="folder of BCCD")
    parser.add_argument("--work", type=Path, default=ROOT / "build/pictures")
    parser.add_argument("--only", default="", metavar="NAME,NAME")
    parser.add_argument(
        "--model", type=Path, help="checkpoint trained on BCCD, in place of the training; an empty --work"
    )
    options = parser.parse_args(arguments)
    studio = Studio(options.data, options.work, options.model)
    makers: dict[str, Callable[[Studio, Chromium], album.Image]] = {
        **album.PAGES,
        **scenes.SCENES,
        **{name: partial(drawn, plot) for name, plot in plots.PLOTS.items()},
    }
    chosen = [name for name in options.only.split(",") if name] or list(makers)
    if unknown := set(chosen) - makers.keys():
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(makers)}")
    OUT.mkdir(parents=True, exist_ok=True)
    with Chromium() as browser:
        for name in chosen:
            path = OUT / f"{name}.webp"
            write_small(path, makers[name](studio, browser), width_px=1000)
            print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1000:.0f} kB (at most {MOST_BYTES / 1000:.0f})")
    in_all = sum(path.stat().st_size for path in OUT.glob("*.webp"))
    print(f"in all {in_all / 1e6:.2f} MB (at most {MOST_BYTES_IN_ALL / 1e6:.0f})")
    return int(in_all > MOST_BYTES_IN_ALL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
