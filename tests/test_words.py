"""Plain English: the field's standard terms, and subject, verb, object. CONTRIBUTING.md has the glossary."""

from __future__ import annotations

import io
import re
import tokenize
from collections import Counter

import pytest
from source_tree import STAGES, modules

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
# How many there are still, by stage: these only go down.
KNOWN = {"runtime": 35, "train": 348, "export": 22, "serve": 0}

_PATTERN = re.compile("|".join(rf"(?P<w{i}>\b(?:{words})\b)" for i, words in enumerate(PLAIN)), re.IGNORECASE)
# Python 3.12 splits f-strings into tokens of their own.
_PROSE = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def prose_and_names(source: str) -> str:
    """Docstrings, messages and comments; and the words of names, as in `picture_header`."""
    parts = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _PROSE:
            parts.append(token.string)
        elif token.type == tokenize.NAME:
            parts.append(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", token.string).replace("_", " "))
    return "\n".join(parts)


def unplain_words(source: str) -> list[str]:
    return [match[0].lower() for match in _PATTERN.finditer(prose_and_names(source))]


@pytest.mark.parametrize("stage", STAGES)
def test_the_source_is_in_plain_english(stage: str) -> None:
    counts = Counter((str(module.path), word) for module in modules(stage) for word in unplain_words(module.text))
    assert counts.total() <= KNOWN[stage], counts.most_common(20)


def test_unplain_words_are_noticed_in_comments_texts_and_names() -> None:
    assert unplain_words("# nobody waits\n") == ["nobody"]
    assert unplain_words('raise ValueError(f"{n} pictures, but for one")\n') == ["pictures", "but for"]
    assert unplain_words("class PictureHeader: memory_told = 1\n") == ["picture", "told"]
    assert unplain_words("retold = besides = untold = 1\n") == []
