"""Plain English: the field's standard terms, and subject, verb, object. docs/glossary.md explains the former."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest
from source_tree import ROOT, STAGES, modules

# Word or phrase -> what to write.
PLAIN = {
    r"told|tells?": "says, reports, prints, explains",
    r"to be (had|got)": "available, present, installed",
    r"stands? (for )?alone": "is the only one, is independent",
    r"(no|every)body": "no client, each client",
    r"who(so)?ever": "a client that, the caller",
    r"but for": "except",
    r"for else": "otherwise",
    r"of (ours|theirs)": "of this project",
    r"beside": "next to, as well as",
    r"pictures?": "image",
    r"whence|whither|thereof|therein|thereby|wherein|lest|hitherto|henceforth|naught|nought": "plain words",
}
# Spelled so in file formats, JSON keys, flags and public parameters, which stay as they are.
KEPT = re.compile(
    r"""--pictures|(['"`])pictures\1|\.pictures\}|/pictures\b|\.?pictures-|\.pictures\.lock|pictures_differing"""
    r"|full_picture|\bpictures: number"
    r"|(broken|missing|unknown|duplicate|unlisted)-picture"
)
KEPT_NAMES = {"pictures", "full_picture"}

_PATTERN = re.compile("|".join(rf"(?P<w{i}>\b(?:{words})\b)" for i, words in enumerate(PLAIN)), re.IGNORECASE)
# Python 3.12 splits f-strings into tokens of their own.
_PROSE = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def prose_and_names(source: str) -> str:
    """Docstrings, messages and comments; and the words of names, as in `picture_header`."""
    parts = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _PROSE:
            parts.append(KEPT.sub("", token.string))
        elif token.type == tokenize.NAME and token.string not in KEPT_NAMES:
            parts.append(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", token.string).replace("_", " "))
    return "\n".join(parts)


def unplain_words(source: str) -> list[str]:
    return [match[0].lower() for match in _PATTERN.finditer(prose_and_names(source))]


# Code blocks and spans; and a file of docs/bad-input.md, whose third column is compared with messages as it is.
# Neither are the targets of links, which are file names.
_CODE = re.compile(r"```.*?```|`[^`\n]+`|\| picture\.jpg \||(?<=\])\([^)\n]*\)", re.DOTALL)


def unplain_words_of_document(text: str) -> list[str]:
    """Those outside code blocks and spans, which quote file names, flags and messages."""
    return [match[0].lower() for match in _PATTERN.finditer(_CODE.sub("", text))]


@pytest.mark.parametrize("stage", STAGES)
def test_the_source_is_in_plain_english(stage: str) -> None:
    words = {str(module.path): found for module in modules(stage) if (found := unplain_words(module.text))}
    assert words == {}


@pytest.mark.parametrize("pattern", ["README.md", "docs/**/*.md", "benchmarks/*.md"])
def test_the_documents_are_in_plain_english(pattern: str) -> None:
    documents = sorted(ROOT.glob(pattern))
    assert documents
    words = {
        str(document.relative_to(ROOT)): found
        for document in documents
        if (found := unplain_words_of_document(document.read_text(encoding="utf-8")))
    }
    assert words == {}


@pytest.mark.parametrize("script", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda path: path.stem)
def test_the_heads_of_the_benchmarks_are_in_plain_english(script: Path) -> None:
    head = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    assert head
    assert unplain_words_of_document(KEPT.sub("", head.replace("``", "`")).replace("folder,picture", "")) == []


def test_unplain_words_of_a_document_are_noticed_outside_code() -> None:
    assert unplain_words_of_document("A picture\n```\nthe picture\n```\nis told by `--pictures`.") == [
        "picture",
        "told",
    ]


def test_unplain_words_are_noticed_in_comments_texts_and_names() -> None:
    assert unplain_words("# nobody waits\n") == ["nobody"]
    assert unplain_words('raise ValueError(f"{n} pictures, but for one")\n') == ["pictures", "but for"]
    assert unplain_words("class PictureHeader: memory_told = 1\n") == ["picture", "told"]
    assert unplain_words('content = {"pictures": pictures, "picture": 1}\n') == ["picture"]
    assert unplain_words("retold = besides = untold = 1\n") == []
