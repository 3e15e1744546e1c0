from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aweigh.serve.http.multipart import split_multipart
from aweigh.serve.problem import Problem

HEADER = "multipart/form-data; boundary=b"


def part(data: bytes, name: str = "file", extra: str = "") -> bytes:
    head = f'--b\r\n{extra}Content-Disposition: form-data; name="{name}"; filename="x.jpg"\r\n\r\n'
    return head.encode() + data + b"\r\n"


def test_files_in_their_order() -> None:
    body = part(b"one") + part(b"\r\n--bb\r\n\0\xff", extra="Content-Type: image/jpeg\r\n") + part(b"") + b"--b--\r\n"
    assert split_multipart(body, HEADER, 3) == [b"one", b"\r\n--bb\r\n\0\xff", b""]
    assert split_multipart(part(b"one") + b"--b--", HEADER, 1) == [b"one"]


@pytest.mark.parametrize(
    ("body", "header", "status", "words"),
    [
        (part(b"x") + part(b"y") + b"--b--", HEADER, 413, "more than 1 files"),
        (part(b"x", "picture") + b"--b--", HEADER, 422, "'picture'; expected 'file'"),
        (b"--b--", HEADER, 422, "a part named 'file'"),
        (part(b"x"), HEADER, 400, "closing boundary"),
        (part(b"x") + b"--b--", "multipart/form-data", 400, "boundary of 1 to 70"),
        (part(b"x") + b"--b--", "multipart/form-data; boundary=" + "b" * 71, 400, "boundary of 1 to 70"),
        (part(b"x") + b"--b--", "multipart/form-data; boundary=c", 400, "malformed"),
        (part(b"x") + b"--b--", "multipart/mixed; boundary=b", 400, "boundary"),
        (part(b"x", extra="X-Long: " + "y" * 10_000 + "\r\n") + b"--b--", HEADER, 400, "malformed"),
        (part(b"x", extra="X-Many: y\r\n" * 1000) + b"--b--", HEADER, 400, "malformed"),
        (b"", HEADER, 400, "closing boundary"),
    ],
)
def test_forms_that_are_none(body: bytes, header: str, status: int, words: str) -> None:
    with pytest.raises(Problem, match=words) as refused:
        split_multipart(body, header, 1)
    assert refused.value.status == status


_PIECES = st.sampled_from(
    [b"--b", b"--b--", b"\r\n", b"\r\n\r\n", b'Content-Disposition: form-data; name="file"', b": ", b"--", b"\0", b"x"]
)


# Headers reach a handler as latin-1.
LATIN = st.text(st.characters(max_codepoint=255), max_size=5)


@settings(deadline=None)
@given(pieces=st.lists(_PIECES | st.binary(max_size=6), max_size=20), boundary=st.just("b") | LATIN)
def test_any_body_is_files_or_a_problem(pieces: list[bytes], boundary: str) -> None:
    try:
        outcome = len(split_multipart(b"".join(pieces), f"multipart/form-data; boundary={boundary}", 3))
    except Problem as problem:
        outcome = problem.status
    assert outcome in (1, 2, 3, 400, 413, 422)
