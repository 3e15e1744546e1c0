"""A stand-in for a Hugging Face hub: an HTTP server with the endpoints that huggingface_hub's client calls to create a
repository, to commit files to it (plain ones in the commit, large ones by Git LFS) and to fetch them.

Written from the client's source, version 2.4.0: what a real hub answers beyond what the client reads is not here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

WRITER, READER = "hf_writer", "hf_reader"
_RESOLVE = re.compile(r"/(?P<repo>[\w.-]+/[\w.-]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_MODEL = re.compile(r"/api/models/(?P<repo>[\w.-]+/[\w.-]+?)(/(?P<what>preupload|commit)/(?P<revision>[^/]+))?")


@dataclass
class Repository:
    private: bool
    # Of each revision, by its name and by its commit, the files by their path.
    revisions: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})


@dataclass
class Hub:
    """Two tokens are known: ``WRITER`` may write, ``READER`` may not. Files ending in .onnx go by LFS.

    Attributes:
        seen: requests so far, as "METHOD path".
        tokens: those that were sent, once each.
        objects: contents that went by LFS, by their sha256.
        most_bytes: of a content that goes by LFS.
        refused_license: in the head of a card.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    most_bytes: int | None = None
    refused_license: str | None = None

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        return self.repositories[repo].revisions[revision]


class Answer(Exception):
    """Ends a request."""

    def __init__(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.headers = status, headers or {}
        self.body = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """A hub on a free port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            hub.seen.append(f"{self.command} {path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            hub.tokens |= {token} - {""}
            try:
                _route(hub, self.command, path, body, token)
            except Answer as answer:
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _route(hub: Hub, command: str, path: str, body: bytes, token: str) -> None:
    if command in ("GET", "HEAD"):
        if found := _RESOLVE.fullmatch(path):
            _resolve(hub, found["repo"], found["revision"], found["file"], token)
        if found := _MODEL.fullmatch(path):
            _repository(hub, found["repo"], token)
            raise Answer(200, {"id": found["repo"]})
        raise Answer(404)
    if path == "/api/validate-yaml":
        _validate(hub, json.loads(body)["content"])
    if command == "PUT" and path.startswith("/lfs/"):  # signed addresses need no token
        _store(hub, path.removeprefix("/lfs/"), body)
    if token not in (WRITER, READER):
        raise Answer(401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
    if token == READER:
        raise Answer(403, headers={"X-Error-Message": "this token may not write"})
    if path == "/api/repos/create":
        _create(hub, json.loads(body))
    if path.endswith(".git/info/lfs/objects/batch"):
        objects = json.loads(body)["objects"]
        _repository(hub, path.removeprefix("/").removesuffix(".git/info/lfs/objects/batch"), token)
        raise Answer(200, {"transfer": "basic", "objects": [_upload(hub, one) for one in objects]})
    found = _MODEL.fullmatch(path)
    if found is None or found["what"] is None:
        raise Answer(404)
    repository = _repository(hub, found["repo"], token)
    if found["revision"] not in repository.revisions:
        raise Answer(404, headers={"X-Error-Code": "RevisionNotFound"})
    if found["what"] == "preupload":
        raise Answer(200, {"files": [_mode(one["path"]) for one in json.loads(body)["files"]]})
    _commit(hub, found["repo"], found["revision"], body)


def _repository(hub: Hub, repo: str, token: str) -> Repository:
    repository = hub.repositories.get(repo)
    if repository is None or (repository.private and token not in (WRITER, READER)):
        raise Answer(401 if not token else 404, headers={"X-Error-Code": "RepoNotFound"})
    return repository


def _resolve(hub: Hub, repo: str, revision: str, file: str, token: str) -> None:
    revisions = _repository(hub, repo, token).revisions
    if revision not in revisions:
        raise Answer(404, headers={"X-Error-Code": "RevisionNotFound"})
    if file not in revisions[revision]:
        raise Answer(404, headers={"X-Error-Code": "EntryNotFound"})
    content = revisions[revision][file]
    commit = next(name for name, files in revisions.items() if len(name) == 40 and files == revisions[revision])
    raise Answer(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit})


def _create(hub: Hub, wanted: dict[str, Any]) -> None:
    repo = f"{wanted['organization']}/{wanted['name']}"
    if repo in hub.repositories:
        raise Answer(409, {"error": "You already created this model repo", "url": f"{hub.url}/{repo}"})
    private = wanted.get("private", wanted.get("visibility") == "private")
    hub.repositories[repo] = Repository(bool(private))
    raise Answer(200, {"url": f"{hub.url}/{repo}"})


def _validate(hub: Hub, card: str) -> None:
    """The head as a hub demands it: YAML, an object."""
    try:
        head = yaml.safe_load(card.split("---\n")[1])
    except (IndexError, yaml.YAMLError) as error:
        raise Answer(400, {"errors": [{"message": str(error)}]}) from error
    if not isinstance(head, dict) or not isinstance(head.get("license"), str):
        raise Answer(400, {"errors": [{"message": "license: expected a text"}]})
    if head["license"] == hub.refused_license:
        raise Answer(400, {"errors": [{"message": f"license: {head['license']} is none"}]})
    raise Answer(200, {"errors": [], "warnings": []})


def _mode(path: str) -> dict[str, Any]:
    return {"path": path, "uploadMode": "lfs" if path.endswith(".onnx") else "regular", "shouldIgnore": False}


def _upload(hub: Hub, wanted: dict[str, Any]) -> dict[str, Any]:
    upload = {"upload": {"href": f"{hub.url}/lfs/{wanted['oid']}"}}
    return {**wanted, **({} if wanted["oid"] in hub.objects else {"actions": upload})}


def _store(hub: Hub, oid: str, content: bytes) -> None:
    if hub.most_bytes is not None and len(content) > hub.most_bytes:
        raise Answer(413)
    if hashlib.sha256(content).hexdigest() != oid:
        raise Answer(400)
    hub.objects[oid] = content
    raise Answer(200)


def _commit(hub: Hub, repo: str, revision: str, body: bytes) -> None:
    repository = hub.repositories[repo]
    lines = [json.loads(line) for line in body.splitlines()]
    files = dict(repository.revisions[revision])
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = hub.objects[value["oid"]]
    commit = hashlib.sha1(body).hexdigest()
    repository.revisions[revision] = repository.revisions[commit] = files
    raise Answer(200, {"commitUrl": f"{hub.url}/{repo}/commit/{commit}", "commitOid": commit})
