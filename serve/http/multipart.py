"""Forms: the files of a multipart/form-data body."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from aweigh.serve.problem import Problem


def split_multipart(body: bytes, content_type_header: str, max_files: int) -> list[bytes]:
    """The parts named ``file`` of a multipart/form-data body, in order.

    Args:
        content_type_header: with the boundary.
        max_files: most parts.

    Raises:
        Problem: 400 not such a form, or cut off; 413 more files than ``max_files``; 422 a part of another name.
    """
    kind, options = parse_options_header(content_type_header)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise Problem(400, "multipart/form-data: expected a boundary of 1 to 70 characters in the Content-Type")
    form = _Form(max_files)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": form.part_begin,
            "on_header_field": form.header_field,
            "on_header_value": form.header_value,
            "on_header_end": form.header_end,
            "on_headers_finished": form.headers_finished,
            "on_part_data": form.part_data,
            "on_part_end": form.part_end,
            "on_end": form.end,
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem(400, f"multipart/form-data: malformed ({error})") from error
    if not form.complete:
        raise Problem(400, "multipart/form-data: cut off, the closing boundary is missing")
    if not form.files:
        raise Problem(422, "multipart/form-data: expected a part named 'file'")
    return form.files


class _Form:
    """The callbacks of python-multipart's parser, which itself bounds the number and the length of headers."""

    def __init__(self, max_files: int) -> None:
        self._max_files = max_files
        self.files: list[bytes] = []
        self.complete = False
        self._field, self._value, self._data = bytearray(), bytearray(), bytearray()
        self._name = b""

    def part_begin(self) -> None:
        if len(self.files) >= self._max_files:
            raise Problem(413, f"more than {self._max_files} files in one request, the limit")
        self._name, self._data = b"", bytearray()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"name", b"")
        self._field.clear()
        self._value.clear()

    def headers_finished(self) -> None:
        if self._name != b"file":
            name = self._name[:80].decode("latin-1")
            raise Problem(422, f"multipart/form-data: a part named {name!r}; expected 'file'")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def part_end(self) -> None:
        self.files.append(bytes(self._data))

    def end(self) -> None:
        self.complete = True
