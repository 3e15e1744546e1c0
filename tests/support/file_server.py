"""A local HTTP server of files."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class FileServer:
    """Serves ``files``, by path. Files below /OWNER/NAME/resolve/ are answered as by a Hugging Face hub.

    Attributes:
        seen: requests so far, as "METHOD path", and the range that was asked for, if any.
        redirects: paths that are answered with another address.
        cut_after_bytes: of the next answer only so much is sent, and the connection closed; None sends all.
        ranges: whether it understands requests for a part.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    cut_after_bytes: int | None = None
    ranges: bool = True

    def repositories(self) -> set[str]:
        return {"/".join(path.split("/")[1:3]) for path in self.files if "/resolve/" in path}


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    with serving() as served:
        yield served


@pytest.fixture
def secure_server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server over TLS whose certificate this process trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", *files],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(context) as served:
        yield served


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    """A server on a free port of this machine, over TLS where a context is given."""
    served = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            wanted = self.headers.get("Range")
            served.seen.append(f"{self.command} {self.path}" + (f" {wanted}" if wanted else ""))
            if self.path in served.redirects:
                self.send_response(302)
                self.send_header("Location", served.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = served.files.get(self.path)
            status = 404 if content is None else 200
            if wanted and served.ranges and content is not None:
                start, whole = int(wanted.removeprefix("bytes=").removesuffix("-")), len(content)
                status = 206 if start < whole else 416
                content = content[start:]
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            if content is None and "/resolve/" in self.path:
                known = "/".join(self.path.split("/")[1:3]) in served.repositories()
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            elif content is not None and "/resolve/" in self.path:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if body and content is not None:
                sent, served.cut_after_bytes = served.cut_after_bytes, None
                self.wfile.write(content[:sent])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
