from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime.cli import main as cli
from aweigh.runtime.errors import BadInput, CannotRun, CheckFailed

MakeModel = Callable[..., Path]
runtime_only = pytest.mark.usefixtures("only_runtime_verbs")


@runtime_only
def test_alone_prints_help_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    for verb in cli.VERBS:
        assert verb in captured.err


@runtime_only
def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "train a detector (needs aweigh[train])" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("aweigh ")
    assert cli.main(["predict", "--help"]) == 0
    assert "--on-error" in capsys.readouterr().out


@runtime_only
@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["--fly"],
        ["inspect"],
        ["inspect", "--model", "x", "--fly"],
        ["inspect", "--mod", "x"],
        ["inspect", "--model", "x", "fly=1"],
        ["inspect", "--model", "x", "stray"],
        ["predict", "--model", "x", "--source", "y", "--conf", "high"],
        ["predict", "--model", "x", "--source", "y", "--on-error", "ignore"],
        ["bench", "--model", "x", "--iters", "1", "--seconds", "1"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert "--help lists" in line or "is left over" in line


@runtime_only
@pytest.mark.parametrize("rest", [[], ["--help"], ["--data", "x", "--method=dw"], ["a", "b=c", "--json"], ["-1"]])
@pytest.mark.parametrize(
    ("verb", "extra"), [("train", "train"), ("val", "train"), ("export", "export"), ("demo", "export")]
)
def test_a_verb_whose_extra_is_missing(
    verb: str, extra: str, rest: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([verb, *rest]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"aweigh {verb} needs" in captured.err
    assert f"pip install '.[{extra}]' in a clone" in captured.err


@runtime_only
def test_the_missing_module_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train"]) == 3
    assert "'a_module_that_is_not_installed'" in capsys.readouterr().err


@pytest.fixture
def fly(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a verb whose work is the function given."""

    def run(work: Callable[[argparse.Namespace], Any], *arguments: str) -> int:
        def register(verbs: cli.Verbs) -> None:
            parser = verbs.add("train", work)
            parser.add_argument("--data")
            parser.add_argument("--weight-decay", type=float)

        point = EntryPoint("train", "stands_for:register", "aweigh.verbs")
        monkeypatch.setattr(EntryPoint, "load", lambda self: register)
        monkeypatch.setattr(cli, "entry_points", lambda group: [point])
        return cli.main(["train", *arguments])

    return run


def raiser(error: BaseException) -> Callable[[argparse.Namespace], None]:
    def work(_: argparse.Namespace) -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckFailed("words"), 1),
        (BadInput("words"), 2),
        (CannotRun("words"), 3),
        (FileNotFoundError(2, "words"), 2),
        (OSError(28, "words"), 3),
        (PermissionError(13, "words"), 3),
        (ModuleNotFoundError("words", name="torch"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(
    fly: Callable[..., int], error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fly(raiser(error)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("aweigh: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("division"),
        KeyError("lone half of a pair: \ud800"),
        RecursionError("deep"),
        ValueError("two\nlines"),
        ModuleNotFoundError("words", name="aweigh.train.loop.trainer"),
    ],
)
def test_a_defect_of_our_own_is_one_line_that_says_so(
    fly: Callable[..., int], error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fly(raiser(error)) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"aweigh: a defect of aweigh, please report it: {type(error).__name__}: ")
    assert "(test_main.py:" in line
    assert line.count("\n") == 1
    monkeypatch.setenv(cli.TRACEBACK_VARIABLE, "1")
    with pytest.raises(type(error)):
        fly(raiser(error))


def test_memory_that_runs_out_is_one_line(fly: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert fly(raiser(MemoryError())) == 3
    assert capsys.readouterr().err.startswith("aweigh: not enough memory")


def test_a_stage_that_lacks_its_own_modules_is_a_defect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = EntryPoint("train", "aweigh.no_such_stage:register", "aweigh.verbs")
    monkeypatch.setattr(cli, "entry_points", lambda group: [point])
    assert cli.main(["--version"]) == 1
    assert "a defect of aweigh, please report it: ModuleNotFoundError" in capsys.readouterr().err


def test_key_value_and_underscores(fly: Callable[..., int]) -> None:
    seen: list[argparse.Namespace] = []
    assert fly(seen.append, "data=x=y", "--weight_decay", "0.5", "--json") == 0
    assert fly(seen.append, "--weight_decay=0.25", "--data", "json=odd_name.yaml") == 0
    assert fly(seen.append, "weight_decay=1e-4", "data=a\nb") == 0
    assert [(n.data, n.weight_decay, n.json) for n in seen] == [
        ("x=y", 0.5, True),
        ("json=odd_name.yaml", 0.25, False),
        ("a\nb", 1e-4, False),
    ]


def test_return_codes_of_verbs(fly: Callable[..., int]) -> None:
    assert fly(lambda _: None) == 0
    assert fly(lambda _: 1) == 1


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = (
        "import sys; from aweigh.runtime.cli import main as cli; from aweigh.runtime.cli.output import emit_json; "
        "cli._dispatch = lambda _: [emit_json(i) for i in range(99999)] and 0; sys.exit(cli.main([]))"
    )
    command = f"'{sys.executable}' -c '{program}' | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


# The page of bad inputs, as far as the runtime goes: message and exit code through the command line.


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def fails(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    assert cli.main(list(map(str, arguments))) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


@runtime_only
def test_no_such_file(model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("inspect", "bench"):
        assert "none.onnx: no such model file" in fails(capsys, 2, verb, "--model", tmp_path / "none.onnx")
    gone = tmp_path / "none.jpg"
    assert "none.jpg: no such file or folder" in fails(capsys, 2, "predict", "--model", model, "--source", gone)
    missing_model = ("predict", "--model", tmp_path / "none.onnx", "--source", folder)
    assert "none.onnx: no such model file" in fails(capsys, 2, *missing_model)


@runtime_only
def test_a_folder_without_pictures(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    message = fails(capsys, 2, "predict", "--model", model, "--source", tmp_path / "empty")
    assert f"folder {tmp_path / 'empty'}: no images in it" in message


@runtime_only
def test_a_picture_bomb(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    message = fails(capsys, 2, "predict", "--model", model, "--source", bomb)
    assert "bomb.png: 60000x60000 pixels, the limit is 178956970" in message


@runtime_only
def test_a_truncated_onnx_file(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_bytes(model.read_bytes()[:-200])
    for arguments in (("inspect",), ("bench",), ("predict", "--source", folder)):
        assert "truncated" in fails(capsys, 2, *arguments, "--model", model)


@runtime_only
def test_an_onnx_file_of_others(make_model: MakeModel, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_model(metadata=None)
    for arguments in (("inspect",), ("bench",), ("predict", "--source", folder)):
        assert "not one of aweigh's" in fails(capsys, 2, *arguments, "--model", path)


@runtime_only
def test_a_device_that_is_not_there(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is installed here")
    for arguments in (("predict", "--source", folder), ("bench", "--iters", "1")):
        message = fails(capsys, 3, *arguments, "--model", model, "--device", "cuda")
        assert "CPUExecutionProvider" in message
        assert ".[gpu]" in message


@runtime_only
def test_a_full_disk(model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        (disk / "filler").write_bytes(bytes(8192))
        message = fails(capsys, 3, "predict", "--model", model, "--source", folder, "--out", disk / "out", "--json")
        assert "No space left on device" in message
        assert [name for _, _, names in os.walk(disk) for name in names] == ["filler"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@runtime_only
def test_json_stays_one_document_on_success(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "--model", str(model), "--source", str(folder), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
