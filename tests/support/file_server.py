"""A local HTTP server of files."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class FileServer:
    """Serves ``files``, by path. Files below /OWNER/NAME/resolve/ are answered as by a Hugging Face hub.

    Attributes:
        seen: requests so far, as "METHOD path".
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def repositories(self) -> set[str]:
        return {"/".join(path.split("/")[1:3]) for path in self.files if "/resolve/" in path}


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    served = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            served.seen.append(f"{self.command} {self.path}")
            content = served.files.get(self.path)
            self.send_response(404 if content is None else 200)
            if content is None and "/resolve/" in self.path:
                known = "/".join(self.path.split("/")[1:3]) in served.repositories()
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            elif content is not None and "/resolve/" in self.path:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if body and content is not None:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    yield served
    server.shutdown()
    server.server_close()
    thread.join()
