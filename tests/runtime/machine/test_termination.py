from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

_VERB = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored, and what is ignored stays so
from importlib.metadata import EntryPoint
from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.cli import main as cli

def work(arguments):
    with atomic_write(sys.argv[1]) as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        time.sleep(60)

EntryPoint.load = lambda self: lambda verbs: verbs.add("train", work)
cli.entry_points = lambda group: [EntryPoint("train", "stands_for:register", "aweigh.verbs")]
sys.exit(cli.main(["train"]))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)], ids=["TERM", "HUP", "INT"]
)
def test_a_verb_that_is_ended_leaves_nothing(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _VERB, str(tmp_path / "out.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
@pytest.mark.parametrize(
    "after",
    [
        """
        except BaseException as error:
            raise ImportError("initialization failed") from error
""",
        """
        except BaseException:
            pass
        raise ValueError("Invalid bounding box")
""",
    ],
    ids=["as ONNX Runtime while it is loaded", "as matplotlib in its compiled code, which loses the cause"],
)
def test_a_library_that_makes_an_error_of_its_own_of_it(
    tmp_path: Path, after: str, number: signal.Signals, code: int
) -> None:
    wrapped = _VERB.replace("        time.sleep(60)", "        try:\n            time.sleep(60)" + after)
    with subprocess.Popen(
        [sys.executable, "-c", wrapped, str(tmp_path / "out.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said.count("\n")) == (code, 1), said
    assert list(tmp_path.iterdir()) == []


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As nohup has it."""
    script = _VERB.replace("SIG_DFL", "SIG_IGN").replace("sleep(60)", "sleep(1)")
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "out.json")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.wait(30)
    assert process.returncode == 0
    assert (tmp_path / "out.json").read_text() == "half"
