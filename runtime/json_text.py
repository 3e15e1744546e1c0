"""JSON documents: read, where whatever is wrong is a BadInput, and written, in text that every encoding takes."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from aweigh.runtime.errors import BadInput

_DEEPEST = 100  # of lists and objects within each other; what aweigh writes has fewer than ten
_LONE = re.compile("[\ud800-\udfff]")
_HALF_OF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str | bytes, where: str, hint: str = "", *, foreign: bool = False) -> Any:
    """The values of a JSON document.

    Args:
        text: the document, in UTF-8 (or UTF-16 or 32) where it is bytes.
        where: begins every error message: the file, or what is being read.
        hint: ends every error message: what to do.
        foreign: another program wrote it, and its reader reports what it cannot use entry by entry: NaN and infinity,
            which Python's own writer puts down, are kept, and so is half of a surrogate pair.

    Raises:
        BadInput: no JSON; nesting deeper than 100 (of a foreign document, than Python reads). Unless it is foreign:
            NaN, Infinity or a number beyond the range of its type; a text with half of a surrogate pair, which could
            neither be printed nor written.

    Example:
        >>> parse_json('{"epochs": 3}', "run.json")
        {'epochs': 3}
        >>> parse_json('{"epochs": NaN}', "run.json")
        Traceback (most recent call last):
        aweigh.runtime.errors.BadInput: run.json: not JSON (NaN is no number of JSON)
    """
    end = f"; {hint}" if hint else ""
    too_deep = f"{where}: nested too deeply, expected at most {_DEEPEST} levels{end}"
    try:
        if isinstance(text, bytes):  # strictly: the json module lets halves of pairs pass
            text = text.decode(json.detect_encoding(text))
        text = text.removeprefix("\ufeff")
        if foreign:
            return json.loads(text)
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        if not text.isascii() or _HALF_OF_A_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise BadInput(too_deep) from error
    except UnicodeError as error:
        raise BadInput(f"{where}: a text that is no Unicode ({getattr(error, 'reason', error)}){end}") from error
    except ValueError as error:
        raise BadInput(f"{where}: not JSON ({error}){end}") from error
    if _deeper(value, _DEEPEST):
        raise BadInput(too_deep)
    return value


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects go deeper than so many levels."""
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(item, levels - 1) for item in inner if isinstance(item, (dict, list)))


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:20]} is beyond the range of a float")
    return number


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON text that every encoding can write. Raises ValueError for NaN and infinity, which JSON does not have.

    A file name that is not UTF-8 has half a surrogate pair for each odd byte (PEP 383), which strict readers refuse:
    the byte is written as text, ``\\xfc``.

    Example:
        >>> json_text({"file": "gr\\udcfcn.jpg", "label": "Ähre"})
        '{"file": "gr\\\\\\\\xfcn.jpg", "label": "Ähre"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return _LONE.sub(_escaped, text)


def _escaped(half: re.Match[str]) -> str:
    code = ord(half[0])
    return f"\\\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\\\u{code:04x}"
