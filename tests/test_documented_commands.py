"""The commands of the documents run, each in a folder with the files that they name, or are listed here with a reason.

A command that cannot run is in ``NOT_RUN``, or its code block follows a line ``<!-- not run: REASON -->``.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from checkpoints import save_untrained
from layouts import LAYOUTS, make_items
from red import red_picture
from red_files import folder, make_model, write_picture
from source_tree import ROOT

from aweigh.export import ExportOptions, export
from aweigh.runtime.cli.main import main
from aweigh.train.data.shapes import generate_shapes

__all__ = ["folder", "make_model", "write_picture"]

# The pages of the cookbook run as a whole in tests/test_examples.py.
DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")} - {*ROOT.glob("docs/cookbook/[0-9]*.md")})
# Pattern -> why its commands are not run here, and the tests of what they do.
NOT_RUN = {
    r"^(pip install|make |\.ci/run)": "installs, or runs the tests themselves; .ci/run does it",
    r"^(torchrun|srun|first=)": "a cluster: tests/train/run/test_hosts.py",
    r"--devices \d": "several processes: tests/train/run/test_launch.py",
    r"^(aweigh serve|curl)": "runs until it is stopped: tests/serve/test_life_cycle.py",
    r"--format (engine|torch-trt|triton)|\.engine\b|--build": "TensorRT: tests/export/engine, tests/runtime/backends",
    r"--device cuda": "a GPU: tests/runtime/backends",
    r"--source (0|rtsp:)": "a camera: tests/runtime/live",
    r"aweigh import --(name|checkpoint)": "files from elsewhere: tests/train/official",
    r"^aweigh (push|pull)|hf:owner": "a hub: tests/runtime/hub, tests/runtime/files/test_fetch.py",
    r"--weights mine\.pt": "a network of another size than that of the tests: tests/train/run/test_fine_tune.py",
    r"--weights imagenet": "weights from elsewhere: tests/train/weights/test_imagenet.py",
    # An export takes longer than all that is run here; one of them is.
    r"aweigh export .*(--precision|--keep-high|--bisect)": "other precisions: tests/export/precision",
    r"aweigh export .*(--agnostic|--dynamic-size)": "other graphs: tests/export/graph, tests/export/test_to_onnx.py",
    r"aweigh export .*--out mine\.onnx": "the export of best.pt under other names",
    r"aweigh predict --model runs": "a checkpoint, exported for the run: tests/train/data/test_as_cloned.py",
    r"sizes\.onnx|at800\.onnx": "files of several sizes: tests/runtime/views/test_augmented.py",
    r"^python -m http\.server": "runs until it is stopped: tests/export/web",
    r"--data COCO": "a benchmark's data: tests/train/recipes",
}
# What a reader puts into a command.
MEANT = {"DATA": "data", "IMAGES": "images", "PICTURES": "images", "IMAGE": "000001.jpg", "FOLDER": "converted"}
# Training as long as a test may last: flags given last win.
SHORT = ["--model", "nano", "--imgsz", "64", "--batch", "4", "--workers", "0", "--threads", "1", "--precision", "fp32"]
LENGTH = re.compile(r"--(minutes|epochs|iterations) \S+")
MAY_FIND = re.compile(r"^aweigh doctor")  # exit code 1: of a machine without all extras, of data with faults

_BLOCK = re.compile(
    r"(?P<mark><!-- not run: [^>]+ -->\n\s*)?^ *```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
_COMMAND = re.compile(r"(aweigh|pip|make|python|pytest|torchrun|srun|curl|\.ci/run|[a-z]+=\$)[ (/]?.*|\.ci/run")


def commands_of(document: Path) -> Iterator[str]:
    """Those of unmarked code blocks, without their comments, continued lines joined."""
    for block in _BLOCK.finditer(document.read_text(encoding="utf-8")):
        if block["mark"] or block["language"] not in ("", "bash", "sh", "console"):
            continue
        for line in block["text"].replace("\\\n", " ").splitlines():
            line = " ".join(re.sub(r"(^|\s)#.*", "", line).split())
            if _COMMAND.fullmatch(line):
                yield line


COMMANDS = sorted({command for document in DOCUMENTS for command in commands_of(document)})


def reason(command: str) -> str | None:
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, command)), None)


RUN = [command for command in COMMANDS if reason(command) is None]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the commands name, in part under several names."""
    root = tmp_path_factory.mktemp("documents")
    generate_shapes(root / "data", train=6, val=4, test=4, size_hw=(64, 64))
    cloned = root / "raccoon_dataset"
    cloned.mkdir()
    LAYOUTS["voc-as-cloned"].write(cloned, make_items(root / "items"))
    (root / "corrected").symlink_to(cloned)
    best = save_untrained("dw", root / "best.pt")
    for run in ("mine", "raccoon"):
        weights = root / "runs" / "train" / run / "weights"
        weights.mkdir(parents=True)
        shutil.copy(best, weights)
    shutil.copy(best, root / "mine.pt")
    onnx = export(best, root / "best.onnx", ExportOptions(golden=1, verify=False)).artifact
    for name in ("mine", "fp32", "int8"):
        shutil.copy(onnx, root / f"{name}.onnx")
    (root / "images").mkdir()
    for path, size_hw in (("street.jpg", (128, 192)), ("images/a.png", (128, 192)), ("aerial.tif", (700, 1000))):
        assert cv2.imwrite(str(root / path), np.ascontiguousarray(red_picture(size_hw)[:, :, ::-1]))
    writer = cv2.VideoWriter(str(root / "clip.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (192, 128))
    assert writer.isOpened()
    for _ in range(3):
        writer.write(red_picture())
    writer.release()
    return root


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_it_runs(
    command: str,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    set_up: Callable[[str], list[str]],
) -> None:
    for path in prepared.iterdir():
        if path.name != "runs":
            (tmp_path / path.name).symlink_to(path)
    words = set_up(command)
    if words[0] != "train":
        (tmp_path / "runs").symlink_to(prepared / "runs")
    for name in re.findall(r"--out (\S+)", command):  # written anew, not through the link
        (tmp_path / name).unlink(missing_ok=True)
    monkeypatch.chdir(tmp_path)
    code = main(words)
    printed = capfd.readouterr()
    assert code in ((0, 1) if MAY_FIND.search(command) else (0,)), printed.err
    assert "a defect of aweigh" not in printed.err


@pytest.fixture
def set_up() -> Callable[[str], list[str]]:
    """The words of a command, with what a reader puts in, and as short as a test."""

    def words_of(command: str) -> list[str]:
        program, verb, *words = shlex.split(LENGTH.sub("--iterations 1", command))
        assert program == "aweigh"
        words = [MEANT.get(word, word).partition("|")[0] for word in words]
        if verb == "train":
            words += SHORT
        elif verb == "bench":
            words += ["--iters", "1", "--threads", "1"]
        elif verb in ("val", "predict", "verify", "compare", "export"):
            words += ["--threads", "1"]
        return [verb, *words]

    return words_of


def test_reasons_are_used_and_not_all_that_there_is() -> None:
    unused = [pattern for pattern in NOT_RUN if not any(re.search(pattern, command) for command in COMMANDS)]
    assert unused == []
    assert len(RUN) > 20
    assert {"train", "val", "export", "predict", "verify", "compare"} <= {command.split()[1] for command in RUN}


def test_commands_are_found_and_marked_blocks_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "```\naweigh train --data DATA \\\n  --name x   # why\n# aweigh no\ntext\n```\n"
        "<!-- not run: needs a camera -->\n```\naweigh predict --source 0\n```\n"
        "```python\naweigh = 1\n```\n  ```\n  pip install x && aweigh bench\n  ```\n"
    )
    assert list(commands_of(tmp_path / "a.md")) == [
        "aweigh train --data DATA --name x",
        "pip install x && aweigh bench",
    ]
