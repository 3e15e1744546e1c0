"""Mutations of files that readers take, and the promise of every reader: a value or one of our errors, soon and small.

``AWEIGH_FUZZ_EXAMPLES`` is the number of mutations for each reader. Without it there are few, always the same ones.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from aweigh.runtime.errors import AweighError

_GIVEN = os.environ.get("AWEIGH_FUZZ_EXAMPLES")
EXAMPLES = int(_GIVEN or 80)
_CPU_SECONDS = 20  # of one reading of a few kilobytes: it hangs
_GROWTH_BYTES = 1 << 30  # of address space, during one reading

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=_GIVEN is None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

_ODD = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1", b"0", b"0.5", b"-0.0", b"1e308", b"9" * 400, b"9" * 5000),
    *(b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"4294967296", b"2147483648"),
    *(b"null", b"true", b"~", b"{}", b"[]", b'""', b'"x"', b"[[]]", b'{"a": 1}', b"[1, 2]", b'"\\ud800"', b'"\\u0000"'),
    *(b"[" * 3000, b'{"a":' * 3000, b"- " * 3000, b"(" * 3000, b"<a>" * 3000, b"}" * 9, b"]" * 9, b"a: " * 50),
    *(b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc3\x28", "é１２ \u2028".encode(), b"\r\n", b"\t"),
    *(b"../../../etc/passwd", b"/dev/zero", b"x" * 5000, b"a/b", b"%s%n", b"\x1b[31m", b"1_000", b"0x10"),
    *(b"010", b"&a [*a, *a]", b"*a", b"!!int abc", b"!!python/object/apply:os.system [x]", b"2020-99-99"),
    *(b"!!binary x", b"<<: 3", b"!!timestamp x", b"---\n", b"? [a]", b"&e;", b"<!DOCTYPE a [<!ENTITY e 'x'>]>", b"--b"),
    *(b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff\xff\xff\xff\xff", b"\x80" * 12, b"\0" * 8, b"\xff" * 40),
)
_TOKEN = re.compile(rb'"[^"\n]{0,80}"|-?\d+(?:\.\d+)?|[A-Za-z_]+')

odd_bytes = st.sampled_from(_ODD)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([-1, 0, 1, 2**31, 2**63, 10**400, 1e308, "", "\ud800", "\0", "x" * 5000, "../x", "NaN"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def mutated_bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """``valid`` with up to four changes; now and then any bytes or text."""
    kind = draw(st.integers(0, 19))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return draw(st.text(max_size=200)).encode(errors="surrogatepass")
    data = valid
    for _ in range(draw(st.integers(1, 4))):
        data = _changed(draw, data)
    return data


def _changed(draw: st.DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, len(data)))
    to = min(len(data), at + draw(st.integers(1, 64) | st.integers(1, max(1, len(data)))))
    match draw(st.integers(0, 8)):
        case 0 if at < len(data):
            return data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        case 1 if at < len(data):
            return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
        case 2:
            return data[:at]
        case 3:
            return data[:at] + data[to:]
        case 4:
            return data[:to] + data[at:to] * draw(st.integers(1, 3)) + data[to:]
        case 5:
            elsewhere = draw(st.integers(0, len(data)))
            return data[:elsewhere] + data[at:to] + data[elsewhere:]
        case 6:
            return data[:at] + draw(odd_bytes) + data[at:]
        case 7:
            odd = draw(odd_bytes)
            return data[:at] + odd + data[at + len(odd) :]
    if token := _TOKEN.search(data, at):
        return data[: token.start()] + draw(odd_bytes) + data[token.end() :]
    return data


@st.composite
def mutated_values(draw: st.DrawFn, valid: Any, others: st.SearchStrategy[Any] = json_values) -> Any:
    """A copy of nested lists and dictionaries with up to three parts replaced, removed, doubled or renamed."""
    value = _copied(valid)
    for _ in range(draw(st.integers(1, 3))):
        holder: dict[str, Any] = {"": value}
        _change_part(draw, holder, others)
        value = holder.get("")
    return value


def _change_part(draw: st.DrawFn, holder: Any, others: st.SearchStrategy[Any]) -> None:
    target: Any = holder
    key: Any = ""
    while True:
        inner = target[key]
        if not (isinstance(inner, (dict, list)) and inner) or draw(st.integers(0, 4)) == 0:
            break
        target = inner
        key = draw(st.sampled_from(list(target) if isinstance(target, dict) else range(len(target))))
    match draw(st.integers(0, 5)):
        case 0:
            del target[key]
        case 1 if isinstance(target, list):
            target.insert(draw(st.integers(0, len(target))), _copied(target[key]))
        case 1 if target is not holder:
            target[draw(st.text(max_size=4) | st.sampled_from(["schema", "x", "0"]))] = target.pop(key)
        case _:
            target[key] = draw(others)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, (list, tuple)) else value


def mutated_json(valid: bytes) -> st.SearchStrategy[bytes]:
    """A JSON document with changes in its bytes or in its values."""
    values = mutated_values(json.loads(valid)).map(lambda value: json.dumps(value).encode())
    return mutated_bytes(valid) | values


def only_our_errors(reader: Callable[[], object], ours: type[Exception] = AweighError) -> None:
    """Run a reader: it may raise one of our errors, with a message that can be printed, and nothing else."""
    try:
        with _bounded():
            reader()
    except ours as error:
        message = str(error)
        message.encode()
        assert message
        assert len(message) < 7000, f"a message of {len(message)} characters: {message[:300]}"


@contextmanager
def _bounded() -> Iterator[None]:
    """Too much CPU time is a TimeoutError, too much memory a MemoryError."""
    before = signal.signal(signal.SIGPROF, _hangs)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        now_bytes = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now_bytes + _GROWTH_BYTES, hard))
    signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)


def _hangs(number: int, frame: object) -> None:
    raise TimeoutError(f"a reader takes more than {_CPU_SECONDS} s for a small file")
