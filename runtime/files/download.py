"""Download a file whose digest is known: it appears whole and checked, or not at all."""

from __future__ import annotations

import fcntl
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.digest import file_sha256

_BLOCK_BYTES = 1 << 20
_TIMEOUT_S = 60
_WHOLE_DIGITS = 64


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but none from TLS to a connection without."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and urllib.parse.urlsplit(newurl).scheme != "https":
            raise urllib.error.HTTPError(req.full_url, code, f"redirects to {newurl}, which is not https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str,
    target: Path,
    digits: str,
    flag: str,
    on_progress: Callable[[int, int | None], None] = lambda done_bytes, total_bytes: None,
) -> Path:
    """``target``, fetched from ``url`` unless it is there already; its digest is compared either way.

    What an interrupted download left is kept next to ``target`` as ``.NAME.part``, and the next one goes on from there.
    Two processes that want one file take turns.

    Args:
        url: https; plain http only where all 64 digits are given. Redirects to http are refused.
        digits: the first 8 to 64 hexadecimal digits of the file's SHA-256.
        flag: begins every message.
        on_progress: called with the bytes that are there and, where the server says so, those of the whole file.

    Raises:
        BadInput: another digest, too few digits, another kind of URL.
        CannotRun: it cannot be fetched; the message says what to do.
    """
    scheme, _ = split_url(url, flag)
    if not re.fullmatch(r"[0-9a-fA-F]{8,64}", digits) or (scheme == "http" and len(digits) < _WHOLE_DIGITS):
        raise BadInput(f"{flag} {url}: a URL needs #sha256=DIGITS at its end, a plain http one all 64 digits")
    if target.exists():
        require_digest(target, digits, flag)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with open(os.open(part, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if target.exists():  # another process was first
            require_digest(target, digits, flag)
            return target
        resumed = _fetch(url, file, flag, on_progress)
        if resumed and not file_sha256(part).startswith(digits.lower()):
            file.truncate(0)  # the beginning was of another file
            _fetch(url, file, flag, on_progress)
        file.flush()
        os.fsync(file.fileno())
        try:
            require_digest(part, digits, flag, target.name)
        except BadInput:
            part.unlink()
            raise
        part.replace(target)
    return target


def split_url(url: str, flag: str) -> tuple[str, str]:
    """Its scheme, ``https`` or ``http``, and the name of the file. Raises BadInput for anything else."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError as error:
        raise BadInput(f"{flag} {url}: expected an https URL ({error})") from error
    if parts.scheme not in ("https", "http"):
        raise BadInput(f"{flag} {url}: expected an https URL")
    return parts.scheme, Path(parts.path).name


def _fetch(url: str, file: IO[bytes], flag: str, on_progress: Callable[[int, int | None], None]) -> bool:
    """Append what is missing of ``url`` to ``file``; whether something was there before that was kept."""
    have_bytes = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have_bytes}-"} if have_bytes else {})
    opener = urllib.request.build_opener(_NoDowngrade)
    try:
        try:
            response = opener.open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            return True  # nothing is missing; the digest decides
        with response:
            continued = response.status == http.HTTPStatus.PARTIAL_CONTENT and str(
                response.headers.get("Content-Range", "")
            ).startswith(f"bytes {have_bytes}-")
            if not continued:
                have_bytes = 0
                file.seek(0)
                file.truncate()
            length = response.headers.get("Content-Length", "")
            total_bytes = have_bytes + int(length) if length.isdecimal() else None
            on_progress(have_bytes, total_bytes)
            done_bytes = have_bytes
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                done_bytes += len(block)
                on_progress(done_bytes, total_bytes)
            file.flush()
            if total_bytes is not None and done_bytes < total_bytes:
                raise ConnectionError(f"the connection ended after {done_bytes} of {total_bytes} bytes")
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise CannotRun(f"{flag} {url}: cannot be fetched ({reason}); fetch it elsewhere, name the file") from error
    return have_bytes > 0


def require_digest(path: Path, digits: str, flag: str, name: str | None = None) -> None:
    """Raises BadInput unless the file's SHA-256 begins with ``digits``; ``name`` stands for the file in the message."""
    sha256 = file_sha256(path)
    if not sha256.startswith(digits.lower()):
        raise BadInput(f"{flag}: sha256 of {name or path.name} is {sha256}, expected {digits}")
