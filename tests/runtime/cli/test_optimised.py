"""Help texts do not depend on docstrings, which ``python -OO`` removes: whole, and there for every flag."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from aweigh.runtime.cli.main import VERBS, Verbs, register_stages

PROGRAM = """
from aweigh.runtime.cli.main import VERBS, main
for verb in VERBS:
    print(f"=== {verb}", flush=True)
    if code := main([verb, "--help"]):
        raise SystemExit(f"{verb}: exit code {code}")
"""


def helps(*flags: str) -> dict[str, str]:
    """The help of every verb, in one process of its own."""
    done = subprocess.run([sys.executable, *flags, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(part.split("\n", 1) for part in done.stdout.split("=== ")[1:])


def test_help_is_the_same_without_docstrings() -> None:
    optimised = helps("-OO")
    assert list(optimised) == list(VERBS)
    assert optimised == helps()


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_flag_has_a_whole_help_text(verb: str) -> None:
    verbs = Verbs(argparse.ArgumentParser().add_subparsers())
    absent = register_stages(verbs)
    if verb not in verbs.parsers:
        pytest.skip(f"{verb} needs the module {absent[VERBS[verb][0]]}")
    for action in verbs.complete(verb)._actions:
        text = (action.help or "").strip()
        where = f"{verb} {' '.join(action.option_strings) or action.dest}: {text!r}"
        assert len(text.split()) >= 2, where
        assert not text.endswith((",", ";", ":", " a", " or", " and", " the")), where
        assert text.count("(") == text.count(")"), where
