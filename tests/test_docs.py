"""What the documentation names is there: files, links, verbs of the command line and their flags."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from source_tree import ROOT, STAGES

from aweigh.runtime.cli.main import VERBS, main

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
# Examples of mistakes, with their messages.
MISTAKES = {"sail", "train --epoch"}
FOLDERS = (*STAGES, "benchmarks", "tests", "docs", ".ci")

_PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]*[\w/]")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
_COMMAND = re.compile(r"\baweigh (?P<verb>[a-z]+)(?P<rest>[^`|#\n]*)")
_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def code_of(document: Path) -> list[str]:
    """Code blocks and spans, continued lines joined."""
    return [found.replace("\\\n", " ") for found in _CODE.findall(document.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_and_links_lead_to_files(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = [path for path in _LINK.findall(text) if not (document.parent / path).exists()]
    for code in code_of(document):
        missing += [path for path in _PATH.findall(code) if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_there(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = []
    for code in code_of(document):
        for command in _COMMAND.finditer(code):
            verb = command["verb"]
            if verb not in VERBS:
                unknown.append(verb)
                continue
            flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", command["rest"]))
            unknown += [f"{verb} {flag}" for flag in sorted(flags - flags_of(verb, capsys))]
    assert set(unknown) <= MISTAKES


def flags_of(verb: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The flags that ``aweigh VERB --help`` lists."""
    if verb not in _FLAGS:
        assert main([verb, "--help"]) == 0
        _FLAGS[verb] = set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    return _FLAGS[verb]


_FLAGS: dict[str, set[str]] = {}
