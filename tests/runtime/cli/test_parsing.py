"""How the command line is read."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from aweigh.runtime.cli.parsing import Parser, normalise, unknown_verb, unknown_words
from aweigh.runtime.errors import BadInput

MakeParser = Callable[..., argparse.ArgumentParser]


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = Parser(prog="aweigh fly", allow_abbrev=False)
    for flag in ("--model", "--source", "--against", "--max-det"):
        parser.add_argument(flag)
    parser.add_argument("--tags", nargs="+")
    parser.add_argument("--exist-ok", action=argparse.BooleanOptionalAction)
    parser.add_argument("--json", action="store_true")
    return parser


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["model=a.pt", "max_det=3"], ["--model=a.pt", "--max-det=3"]),
        (["--max_det", "3"], ["--max-det", "3"]),
        (["a.onnx", "images"], ["--model=a.onnx", "--source=images"]),
        (["images", "a.ENGINE"], ["--source=images", "--model=a.ENGINE"]),
        (["a.onnx", "b.onnx"], ["--model=a.onnx", "--against=b.onnx"]),
        (["--source", "b.pt", "a.pt"], ["--source", "b.pt", "--model=a.pt"]),
        (["--json", "a.pt"], ["--json", "--model=a.pt"]),
        (["--model", "a.pt", "stray", "other"], ["--model", "a.pt", "--source=stray", "other"]),
        (["--tags", "x", "y.pt", "--json"], ["--tags", "x", "y.pt", "--json"]),
        (["--source", "model=a.pt"], ["--source", "model=a.pt"]),
        (["--exist-ok=true", "json=yes"], ["--exist-ok", "--json"]),
        (["exist_ok=False"], ["--no-exist-ok"]),
        (["--max-det", "-1"], ["--max-det", "-1"]),
        (["rtsp://camera/1?a=b"], ["--source=rtsp://camera/1?a=b"]),
        (["https://a/b.onnx#sha256=0123abcd", "x"], ["--model=https://a/b.onnx#sha256=0123abcd", "--source=x"]),
        (["hf:owner/name", "x"], ["--model=hf:owner/name", "--source=x"]),
    ],
)
def test_words_keys_and_switches(given: list[str], expected: list[str], parser: argparse.ArgumentParser) -> None:
    assert normalise(given, parser) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--modle", "x"], "fly: there is no flag --modle; did you mean --model?"),
        (["--zzz=1"], "fly: there is no flag --zzz; aweigh fly --help lists all"),
        (["--exist-ok=maybe"], "--exist-ok=maybe: expected true or false"),
        (["json=false"], "--json=false: expected true; leave it out otherwise"),
    ],
)
def test_what_a_verb_does_not_take(given: list[str], words: str, parser: argparse.ArgumentParser) -> None:
    with pytest.raises(BadInput) as refused:
        normalise(given, parser)
    assert words in str(refused.value)


def test_words_that_are_left_over(parser: argparse.ArgumentParser) -> None:
    assert str(unknown_words("fly", ["modell=3"], parser)).startswith(
        "fly: there is no key 'modell'; did you mean --model?"
    )
    assert "'stray' is left over" in str(unknown_words("fly", ["stray"], parser))
    assert (
        str(unknown_verb("trian", ["train", "val"])) == "no verb 'trian'; did you mean train? aweigh --help lists all"
    )


def test_a_complaint_is_one_line(parser: argparse.ArgumentParser) -> None:
    with pytest.raises(BadInput, match=r"^fly: argument --tags: expected at least one argument; aweigh fly --help"):
        parser.parse_args(["--tags"])


def completed(line: str) -> list[str]:
    """What the shell is offered, by the protocol of argcomplete: the answer goes to file descriptor 8."""
    read, write = os.pipe()
    command = f'exec 8>&{write} 9>/dev/null; exec "$0" -m aweigh.runtime.cli'
    subprocess.run(
        ["bash", "-c", command, sys.executable],
        env={
            **os.environ,
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_SHELL": "bash",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "COMP_TYPE": "9",
        },
        pass_fds=[write],
        check=False,
        timeout=60,
    )
    os.close(write)
    with os.fdopen(read) as answer:
        return [word.strip() for word in answer.read().splitlines()]


def test_the_shell_completes_verbs_and_flags() -> None:
    assert completed("aweigh pre") == ["predict"]
    assert completed("aweigh predict --so") == ["--source"]
    assert completed("aweigh predict --backend openv") == ["openvino"]
