"""The errors aweigh raises on purpose, each with the exit code of the command line.

    AweighError
    ├── CheckFailed   exit 1   a comparison was made and did not hold
    ├── BadInput      exit 2   a file, flag, annotation or request that cannot be used
    │   ├── NotAnImage         bytes that are no image file
    │   ├── TooLarge           an image file with more pixels or bytes than allowed
    │   └── Undecodable        an image file that is truncated, corrupt or of an unsupported kind
    └── CannotRun     exit 3   this machine lacks what was asked for (device, library, disk space)

A message says what was got, what was expected and what to do. Any other exception that reaches the user is a defect of
aweigh.
"""

from __future__ import annotations

import re

_MOST_CHARACTERS = 6000
_LAST_CHARACTERS = 500  # what to do stands at the end
# C0 and C1 without tab and newline, and halves of surrogate pairs, as in names of files that are not UTF-8.
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters and halves of surrogate pairs written out; newlines and tabs stay.

    Names of classes and files come from others, and an escape sequence in one would be an order to the terminal.

    Example:
        >>> print(printable("\\x1b[31mcat"))
        \\x1b[31mcat
    """
    return _ODD.sub(lambda odd: odd[0].encode("unicode_escape").decode(), text)


def install_advice(*extras: str) -> str:
    """The command that installs one of these extras; no package index has aweigh.

    Example:
        >>> install_advice("cpu", "gpu")
        "pip install '.[cpu]' or '.[gpu]' in a clone of aweigh"
    """
    quoted = " or ".join(f"'.[{extra}]'" for extra in extras)
    return f"pip install {quoted} in a clone of aweigh"


class AweighError(Exception):
    """Base of all errors raised on purpose.

    A message that quotes a very long text is cut in its middle, and its control characters are written out.
    """

    exit_code = 1

    def __str__(self) -> str:
        text = printable(super().__str__())
        if len(text) <= _MOST_CHARACTERS:
            return text
        return f"{text[: _MOST_CHARACTERS - _LAST_CHARACTERS]} ... {text[-_LAST_CHARACTERS:]}"


class CheckFailed(AweighError):
    """A comparison (receipt, conformance, self-test) was made and did not hold."""

    exit_code = 1


class BadInput(AweighError):
    """A file, flag, annotation or request that cannot be used as it is."""

    exit_code = 2


class NotAnImage(BadInput):
    """Bytes that are no image file of a known format, or cut off within the header."""


class TooLarge(BadInput):
    """An image file with more pixels or bytes than allowed."""


class Undecodable(BadInput):
    """An image file of a known format that is truncated, corrupt or of a kind that cannot be decoded."""


class CannotRun(AweighError):
    """This machine cannot do what was asked: no such device, a missing extra, no space left."""

    exit_code = 3
