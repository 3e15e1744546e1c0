"""Models that are served from an address or a repository of a hub: fetched before the server listens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from file_server import FileServer, file_server, secure_server
from server_process import Server, jpeg

from aweigh.runtime.cli.main import main
from aweigh.runtime.files.digest import file_sha256

__all__ = ["file_server", "secure_server"]

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWEIGH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(red_model: Path, file_server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    for revision in ("main", "v2"):
        file_server.files[f"/owner/red/resolve/{revision}/best.onnx"] = red_model.read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", file_server.url)
    return file_server


def test_https_with_a_digest_and_repositories_are_served(
    start: Callable[..., Server],
    red_model: Path,
    secure_server: FileServer,
    hub: FileServer,
    cache: Path,
    picture: npt.NDArray[np.uint8],
) -> None:
    digits = file_sha256(red_model)
    secure_server.files["/nets/street.onnx"] = red_model.read_bytes()
    address = f"{secure_server.url}/nets/street.onnx#sha256={digits[:8]}"
    pinned = f"hf:owner/red@v2#sha256={digits}"
    server = start("--model", address, "--model", "small=hf:owner/red", "--model", pinned)
    with server.client() as client:
        named = {model["name"] for model in client.get("/v1/models").json()["models"]}
        assert named == {"street", "small", "red"}  # of the file, as given, of the repository
        found = [client.post(f"/v1/models/{name}/detect", content=jpeg(picture), headers=JPEG) for name in named]
    assert [answer.status_code for answer in found] == [200] * 3
    assert len(found[0].json()["detections"]) == 2
    assert found[0].json()["detections"] == found[1].json()["detections"] == found[2].json()["detections"]
    assert secure_server.seen == ["GET /nets/street.onnx"]
    assert [path for path in cache.rglob("street.onnx") if file_sha256(path) == digits]


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("{secure}/nets/street.onnx#sha256=00000000", 2, "expected 00000000"),
        ("{secure}/nets/street.onnx", 2, "needs #sha256=DIGITS"),
        ("hf:owner/none", 2, "404"),
        ("street=https://127.0.0.1:1/street.onnx#sha256=00000000", 3, "cannot be fetched"),
    ],
)
def test_what_cannot_be_had_is_one_line_and_no_server(
    source: str,
    code: int,
    words: str,
    red_model: Path,
    secure_server: FileServer,
    hub: FileServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secure_server.files["/nets/street.onnx"] = red_model.read_bytes()
    source = source.format(secure=secure_server.url)
    assert main(["serve", "--model", source, "--port", "0", "--grpc-port", "-1"]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    line = printed.err.splitlines()[-1]
    assert line.startswith("aweigh: --model")
    assert words in line
