"""The commands of the documents run, each in a folder with the files that they name, or are listed here with a reason.

A command that cannot run is in ``NOT_RUN``, or its code block follows a line ``<!-- not run: REASON -->``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from checkpoints import save_untrained
from hub import WRITER, serving_hub
from huggingface_hub import constants
from layouts import LAYOUTS, make_items
from red import red_picture
from red_files import folder, make_model, write_picture
from server_process import servers
from source_tree import ROOT

from aweigh.export import ExportOptions, export
from aweigh.runtime.cli.main import main
from aweigh.train.data.shapes import generate_shapes

__all__ = ["folder", "make_model", "write_picture"]

CHECKPOINTS = Path(os.environ.get("AWEIGH_TEST_DATA", "/nowhere")) / "checkpoints"
# The pages of the cookbook run as a whole in tests/test_examples.py.
DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")} - {*ROOT.glob("docs/cookbook/[0-9]*.md")})
# Pattern -> why its commands are not run here, and the tests of what they do.
NOT_RUN = {
    r"^(pip install|make |\.ci/run)": "installs, or runs the tests themselves; .ci/run does it",
    r"^(torchrun|srun|first=)": "a cluster: tests/train/run/test_hosts.py",
    r"--devices 4": "four GPUs: tests/train/run/test_launch.py, on CPUs",
    r"--format (engine|torch-trt|triton)|\.engine\b|--build": "TensorRT: tests/export/engine, tests/runtime/backends",
    r"--device cuda": "a GPU: tests/runtime/backends",
    r"--source (0|rtsp:)": "a camera: tests/runtime/live",
    r"aweigh import --(name|checkpoint auto)": "a released file, by its digest: tests/train/official",
    r"--weights imagenet": "weights from elsewhere: tests/train/weights/test_imagenet.py",
    r"--config \S+_lite0": "weights from a package: tests/train/recipes",
    r"--data COCO": "a benchmark's data: tests/train/recipes",
}
# What a reader puts into a command.
MEANT = {"DATA": "data", "IMAGES": "images", "PICTURES": "images", "IMAGE": "000001.jpg", "FOLDER": "converted"}
# Exit code 1: of a machine without all extras, of data with faults; of a receipt of an untrained network in INT8.
MAY_FIND = re.compile(r"^aweigh doctor|--precision int8")
# What runs until it is stopped, and what asks it, is not run by test_it_runs but below.
ENDLESS = re.compile(r"^(aweigh serve|curl|python -m http\.server)")
HUB = "hf:owner/name"
# Training as long as a test may last: flags given last win.
SHORT = ["--model", "nano", "--imgsz", "64", "--batch", "4", "--workers", "0", "--threads", "1", "--precision", "fp32"]
LENGTH = re.compile(r"--(minutes|epochs|iterations) \S+")
# The layers are those of a ResNet, and the tests' network is another.
OTHERWISE = {"backbone.layer4,neck.output.0": "neck.output.0"}

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


HERE = [command for command in COMMANDS if reason(command) is None]
RUN = [command for command in HERE if not ENDLESS.search(command) and HUB not in command]
SERVED = [command for command in HERE if command.startswith("aweigh serve")]
ASKED = [command for command in HERE if command.startswith("curl")]


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
    # Of the network that the trainings here have.
    code = main(["train", "--data", str(root / "data"), *SHORT, "--iterations", "1", "--project", str(root / "first")])
    assert code == 0
    shutil.copy(next((root / "first").rglob("best.pt")), root / "mine.pt")
    options = ExportOptions(golden=1, verify=False)
    onnx = export(best, root / "best.onnx", options).artifact
    export(best, root / "sizes.onnx", replace(options, dynamic_size=True))
    for name, size_hw in (("at640", (64, 64)), ("at800", (96, 96))):
        export(best, root / f"{name}.onnx", replace(options, size_hw=size_hw))
    if CHECKPOINTS.is_dir():
        for name in ("F.pth", "F.io.npz"):
            shutil.copy(CHECKPOINTS / name.replace("F", "dw"), root / name)
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


@pytest.fixture
def at(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a command runs in, with links to what it names."""
    for path in prepared.iterdir():
        if path.name != "runs":
            (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_it_runs(
    command: str, prepared: Path, at: Path, capfd: pytest.CaptureFixture[str], set_up: Callable[[str], list[str]]
) -> None:
    if "F.pth" in command and not (at / "F.pth").exists():
        pytest.skip("AWEIGH_TEST_DATA has no checkpoints/")
    words = set_up(command)
    if words[0] != "train":
        (at / "runs").symlink_to(prepared / "runs")
    for name in re.findall(r"--out (\S+)", command):  # written anew, not through the link
        (at / name).unlink(missing_ok=True)
    if "--devices" in command:  # torch's launcher leaves its logs to the end of the process to close
        done = subprocess.run(
            [sys.executable, "-P", "-m", "aweigh.runtime.cli", *words], capture_output=True, text=True
        )
        code, told = done.returncode, done.stderr
    else:
        code, told = main(words), capfd.readouterr().err
    assert code in ((0, 1) if MAY_FIND.search(command) else (0,)), told
    assert "a defect of aweigh" not in told


@pytest.mark.slow
@pytest.mark.parametrize("command", SERVED)
def test_it_serves(command: str, at: Path, set_up: Callable[[str], list[str]]) -> None:
    with servers(at) as begin, begin(*set_up(command)[1:]).client() as client:
        named = [model["name"] for model in client.get("/v1/models").json()["models"]]
        wanted = [Path(word.rpartition("=")[2]).stem for word in command.split() if word.endswith(".onnx")]
        assert len(named) == len(wanted)
        body, headers = (at / "street.jpg").read_bytes(), {"Content-Type": "image/jpeg"}
        answers = [client.post(f"/v1/models/{name}/detect", content=body, headers=headers) for name in named]
    assert [answer.status_code for answer in answers] == [200] * len(named)


@pytest.mark.slow
@pytest.mark.parametrize("command", ASKED)
def test_it_is_answered(command: str, at: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    with servers(at) as begin:
        server = begin("--model", "best.onnx")
        assert "http://127.0.0.1:8000" in command
        words = shlex.split(command.replace("http://127.0.0.1:8000", server.http))
        answer = subprocess.run([*words, "--silent"], check=True, capture_output=True, text=True).stdout
    assert "detections" in json.loads(answer)


@pytest.mark.slow
def test_the_web_page_is_served(at: Path) -> None:
    [command] = [command for command in HERE if command.startswith("python")]
    assert main(["export", "--format", "web", "--model", "best.onnx", "--out", "site"]) == 0
    _, *words = shlex.split(command)
    process = subprocess.Popen([sys.executable, "-u", *words, "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"port (\d+)", process.stdout.readline())
        assert found is not None
        page = httpx.get(f"http://127.0.0.1:{found[1]}/", trust_env=False)
        assert page.status_code == 200
        assert page.text == (at / "site" / "index.html").read_text(encoding="utf-8")
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the hub's client's own, of its uploads
def test_a_hub_takes_a_model_and_gives_it_back(
    at: Path, monkeypatch: pytest.MonkeyPatch, set_up: Callable[[str], list[str]]
) -> None:
    """A stand-in of a hub, on this machine."""
    monkeypatch.setenv("AWEIGH_CACHE", str(at / "cache"))
    monkeypatch.setenv("HF_TOKEN", WRITER)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(at / "no-token"))
    commands = sorted((command for command in HERE if HUB in command), key=lambda one: "push" not in one)
    assert [command.split()[1] for command in commands] == ["push", "predict", "pull"]
    (at / "mine.onnx").unlink()
    with serving_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for command in commands:
            assert main(set_up(command)) == 0
    assert (at / "mine.onnx").read_bytes() == (at / "best.onnx").read_bytes()


@pytest.fixture
def set_up() -> Callable[[str], list[str]]:
    """The words of a command, with what a reader puts in, and as short as a test."""

    def words_of(command: str) -> list[str]:
        for text, other in OTHERWISE.items():
            command = command.replace(text, other)
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
    assert [text for text in OTHERWISE if not any(text in command for command in RUN)] == []
    assert len(RUN) > 40
    assert SERVED
    assert ASKED
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
