"""Time of exported files in ONNX Runtime, as this checkout and another write them, in turns: what a change costs.

    python benchmarks/graph_turns.py --old ../before
    python benchmarks/graph_turns.py --old ../before --architecture r18 --methods fcos,dw --rounds 40

Each checkout has a virtual environment of its own in .venv (`make .venv/.installed`), whose `aweigh export` writes the
same untrained checkpoint. Both files run in this process, one thread, a call here, a call there, on an image that
leaves 2,000 candidates: spread over 80 classes, where few suppress each other and the matrix form of NMS is soon done,
and over 2 with a threshold of 0.3, where many do and it goes on with all of them. What counts is the median ratio of
neighbouring calls, new over old, and whether both files give the same bits.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from aweigh.runtime.backends.onnxruntime_session import session_options
from aweigh.runtime.errors import CannotRun
from aweigh.runtime.network import ImagesU8
from aweigh.train.process.console import track
from support.checkouts import HERE, commit_of, other_checkout
from support.paired import in_turns, paired_ratio
from support.reports.grid import Column, interval
from support.reports.layout import Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run
from support.untrained import write_checkpoint

METHODS = "fcos,autoassign,ala,dw,paa,o2f"
CANDIDATES, IOU_OF_CROWDS = 2000, 0.3

LAYOUT = Layout(
    tables(
        {
            "exported files now and before": (
                Column("method", "method"),
                Column("classes", "classes"),
                Column("NMS", "nms"),
                Column("before ms", "old_ms", ".2f"),
                Column("now ms", "new_ms", ".2f"),
                Column("now over before", interval("ratio")),
                Column("same bits", lambda row: "yes" if row["same_bits"] else "no"),
            )
        }
    ),
    plots=(Bars("time now over before", ("method", "classes", "nms"), "ratio", "ratio", 1.0),),
)


def exported(checkout: Path, checkpoint: Path, out: Path, flags: Sequence[str]) -> Path:
    """The file that the checkout's own `aweigh export` writes."""
    program = checkout / ".venv" / "bin" / "aweigh"
    command = [str(program), "export", "--model", str(checkpoint), "--out", str(out), "--no-verify", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout)
    if done.returncode:
        raise CannotRun(f"{checkout}: aweigh export ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return out


def session(path: Path) -> onnxruntime.InferenceSession:
    options = session_options(onnxruntime, threads=1)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds(of: onnxruntime.InferenceSession, images_u8: ImagesU8) -> dict[str, Any]:
    """The images, and their size for a file that asks for it."""
    size_hw = np.array([images_u8.shape[1:3]], np.float32)
    return {each.name: images_u8 if len(each.shape) == 4 else size_hw for each in of.get_inputs()}


def measure(old: Path, method: str, classes: int, nms: str, options: Any, folder: Path) -> Row:
    size_px = options.imgsz
    few = np.random.default_rng(0).integers(0, 255, (size_px // 8, size_px // 8, 3), dtype=np.uint8)
    image_u8 = cv2.resize(few, (size_px, size_px)).astype(np.uint8)
    checkpoint = folder / f"{method}-{classes}.pt"
    thin = (image_u8, CANDIDATES)
    write_checkpoint(checkpoint, options.architecture, method, (size_px, size_px), classes=classes, thin=thin)
    flags = [] if method == "o2f" else ["--nms", nms]
    if classes < 80 and method != "o2f":
        flags += ["--iou", str(IOU_OF_CROWDS)]
    name = f"{method}-{classes}-{nms}"
    files = {
        "old": session(exported(old, checkpoint, folder / f"{name}-old.onnx", flags)),
        "new": session(exported(HERE, checkpoint, folder / f"{name}-new.onnx", flags)),
    }
    inputs = {side: feeds(file, image_u8[None]) for side, file in files.items()}
    results = [files[side].run(None, inputs[side]) for side in files]
    same = all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
    times_ms = in_turns(
        {side: lambda side=side: files[side].run(None, inputs[side]) for side in files},  # type: ignore[misc]
        options.rounds,
    )
    return {
        "method": method,
        "classes": classes,
        "nms": "none" if method == "o2f" else nms,
        "old_ms": statistics.median(times_ms["old"]),
        "new_ms": statistics.median(times_ms["new"]),
        "ratio": paired_ratio(times_ms["new"], times_ms["old"]).to_dict(),
        "same_bits": same,
    }


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--old", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--methods", default=METHODS, help="default %(default)s")
    parser.add_argument("--architecture", default="nano", help="default %(default)s")
    parser.add_argument("--imgsz", type=int, default=320, help="square (default %(default)s)")
    parser.add_argument("--classes", default="80,2", help="default %(default)s")
    parser.add_argument("--nms", default="matrix", help="matrix, onnx or both with a comma (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=100, help="default %(default)s")
    options = parser.parse_args(arguments)
    old = other_checkout(options.old)
    cases = [
        (method, int(classes), nms)
        for method in options.methods.split(",")
        for classes in options.classes.split(",")
        for nms in ([""] if method == "o2f" else options.nms.split(","))
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(old, *case, options, Path(folder)) for case in track(cases, "graphs", len(cases))]
    what = f"exported {options.architecture} at {options.imgsz} px in ONNX Runtime, one thread, now and in commit "
    what += f"{commit_of(old)}, in turns"
    publish(Report.here("graph_turns", what, rows, public_command("graph_turns.py", arguments)), LAYOUT, options)
    return 0


if __name__ == "__main__":
    sys.exit(run("graph_turns.py", main))
