"""gpu_all.sh without a GPU: each part asks for commands that the scripts and the command line take."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from source_tree import ROOT

from aweigh.runtime.backends.onnxruntime_options import OrtOptions
from aweigh.runtime.cli import main as cli
from support.artifact import parse_artifact

SCRIPT = ROOT / "benchmarks" / "gpu_all.sh"
# In place of python: notes its arguments, and computes nothing. `find_spec` finds everything, a CUDA device is there.
NOTING = """#!{python} -S
import json, os, sys, time
with open(os.environ["NOTES"], "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
time.sleep(float(os.environ.get("SLOW", "0")))
"""
MODEL_FLAGS = ("model", "a", "b")


class Parsed(BaseException):
    """The arguments were understood; no handler of errors takes it."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.options = options


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parser of arguments reads them, and then goes no further."""
    parse = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, args: Sequence[str] | None = None, namespace: Any = None) -> NoReturn:
        raise Parsed(parse(self, args, namespace))

    known = argparse.ArgumentParser.parse_known_args

    def stop_aweigh(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        options, left_over = known(self, args, namespace)
        if self.prog == "aweigh" and not left_over:  # parsers of verbs, and of other programs, are asked by theirs
            raise Parsed(options)
        return options, left_over

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", stop_aweigh)


def ran(tmp_path: Path, *parts: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """The script, and the arguments of python in its order."""
    noting, notes = tmp_path / "python", tmp_path / "notes"
    noting.write_text(NOTING.format(python=sys.executable))
    noting.chmod(0o755)
    notes.write_text("")
    (tmp_path / "data" / "datasets" / "bccd").mkdir(parents=True, exist_ok=True)
    places = {"PYTHON": str(noting), "RESULTS": str(tmp_path / "results"), "AWEIGH_TEST_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        ["bash", str(SCRIPT), *parts],
        env={**os.environ, **places, "NOTES": str(notes), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, [json.loads(line) for line in notes.read_text().splitlines()]


def parts() -> list[str]:
    [line] = [line for line in SCRIPT.read_text().splitlines() if line.startswith("PARTS=(")]
    return line.removeprefix("PARTS=(").removesuffix(")").split()


def require_understood(arguments: list[str]) -> None:
    """Raises where a command of the script is none."""
    if arguments[0] == "-m":
        assert arguments[1:5] == ["pytest", "-q", "-m", "gpu"]
        for path in arguments[5:]:
            files = [ROOT / path] if path.endswith(".py") else list((ROOT / path).rglob("test_*.py"))
            assert any("pytest.mark.gpu" in file.read_text() for file in files), f"{path}: no test has the marker"
        return
    if arguments[0] == "-c":
        ast.parse(arguments[1])
        if "cli.main" in arguments[1]:
            with pytest.raises(Parsed):
                cli.main(arguments[2:])
        return
    script = ROOT / arguments[0]
    assert script.is_file()
    module = importlib.import_module(script.stem)
    try:
        with pytest.raises(Parsed) as found:
            module.main(arguments[1:])
    except SystemExit:
        pytest.fail(f"not understood: {shlex.join(arguments)}")
    options = found.value.options
    for name in MODEL_FLAGS if hasattr(options, "ort_options") else ():
        given = getattr(options, name, None) or []
        for text in [given] if isinstance(given, str) else given:
            OrtOptions.parse(parse_artifact(text, options).settings.get("ort_options", ""))


@pytest.mark.usefixtures("parse_only")
@pytest.mark.parametrize("part", parts())
def test_every_command_of_a_part_is_understood(part: str, tmp_path: Path) -> None:
    done, commands = ran(tmp_path, part)
    assert done.returncode == 0, done.stderr
    work = [command for command in commands if "find_spec" not in command[1] and "is_available" not in command[1]]
    assert work
    for command in work:
        require_understood(command)
    reports = [Path(command[command.index("--out") + 1]) for command in work if "--out" in command]
    assert len(set(reports)) == len(reports)
    assert all((tmp_path / "results") in report.parents for report in reports)


@pytest.mark.usefixtures("parse_only")
def test_a_wrong_flag_is_noticed() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"not understood: benchmarks/latency\.py --modle x"):
        require_understood(["benchmarks/latency.py", "--modle", "x"])


def test_parts_are_listed_and_others_are_refused(tmp_path: Path) -> None:
    done, commands = ran(tmp_path)
    assert (done.returncode, commands) == (2, [])
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == parts()
    done, commands = ran(tmp_path, "losses", "everything")
    assert (done.returncode, commands) == (2, [])
    assert "no part everything; expected of: tests losses" in done.stderr


def test_a_part_that_takes_too_long_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    done, commands = ran(tmp_path, "compile", "losses", SLOW="3", SECONDS_A_PART="1")
    assert done.returncode == 1
    assert "failed: compile losses" in done.stderr
    assert [command[0] for command in commands if command[0] != "-c"] == ["benchmarks/losses.py"] * 2
