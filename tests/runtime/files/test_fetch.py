"""Model files by their address or from a hub, as the verbs take them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from file_server import FileServer, file_server
from red import red_picture

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.digest import file_sha256
from aweigh.runtime.files.fetch import fetch, fetch_model

__all__ = ["file_server"]

MakeModel = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWEIGH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(make_model: MakeModel) -> Path:
    return make_model("best.onnx")


@pytest.fixture
def address(model: Path, file_server: FileServer) -> str:
    file_server.files["/nets/best.onnx"] = model.read_bytes()
    return f"{file_server.url}/nets/best.onnx#sha256={file_sha256(model)}"


@pytest.fixture
def hub(model: Path, file_server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    file_server.files["/owner/red/resolve/main/best.onnx"] = model.read_bytes()
    file_server.files["/owner/red/resolve/v2/small/red.onnx"] = model.read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", file_server.url)
    return file_server


def test_an_address_is_fetched_once_and_keeps_its_name(address: str, file_server: FileServer, cache: Path) -> None:
    paths = [fetch_model(address) for _ in range(2)]
    assert paths[0] == paths[1]
    assert paths[0].name == "best.onnx"
    assert paths[0].is_relative_to(cache)
    assert file_server.seen == ["GET /nets/best.onnx"]


def test_a_partial_download_goes_on_and_another_digest_leaves_nothing(
    address: str, file_server: FileServer, cache: Path
) -> None:
    file_server.cut_after_bytes = 1000
    with pytest.raises(CannotRun, match="1000 of"):
        fetch_model(address)
    fetch_model(address)
    assert file_server.seen[-1] == "GET /nets/best.onnx bytes=1000-"
    wrong = f"{address.partition('#')[0]}#sha256={'0' * 64}"
    with pytest.raises(BadInput, match=f"expected {'0' * 64}"):
        fetch_model(wrong)
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["best.onnx"]


@pytest.mark.parametrize("source", ["hf:owner/red", "hf:owner/red/small/red.onnx@v2"])
def test_a_repository_of_a_hub(source: str, hub: FileServer, model: Path) -> None:
    assert fetch_model(source).read_bytes() == model.read_bytes()
    with pytest.raises(BadInput, match="sha256 of"):
        fetch_model(f"{source}#sha256={'0' * 8}")
    assert fetch_model(f"{source}#sha256={file_sha256(model)[:8]}").read_bytes() == model.read_bytes()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("hf:owner/red/absent.onnx", "the repository has no absent.onnx"),
        ("hf:owner/none", "404"),
        ("hf:red", "expected hf:owner/name, hf:owner/name/FILE"),
        ("hf:owner/red/../x.onnx", "expected hf:owner/name, hf:owner/name/FILE"),
        ("https://example.com/best.onnx", "needs #sha256=DIGITS"),
        ("ftp://example.com/best.onnx#sha256=01234567", "expected an https URL"),
        ("absent.onnx", "no such file"),
    ],
)
def test_bad_sources(source: str, words: str, hub: FileServer) -> None:
    with pytest.raises(BadInput, match=words):
        fetch_model(source)


def test_a_repository_without_a_known_file_is_told_how_to_name_one(hub: FileServer) -> None:
    with pytest.raises(BadInput, match=r"neither a\.onnx nor b\.onnx; name the file: hf:owner/red/FILE"):
        fetch("hf:owner/red", "--model", ("a.onnx", "b.onnx"))


def test_offline_is_one_line_that_says_what_to_do(
    hub: FileServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for source in ("hf:owner/red", f"https://127.0.0.1:1/best.onnx#sha256={'0' * 8}"):
        assert main(["predict", "--model", source, "--source", str(tmp_path)]) == 3
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"aweigh: --model {source.partition('#')[0]}: cannot be fetched")
        assert line.endswith("fetch it elsewhere, name the file")


def test_verbs_take_addresses_and_repositories(
    address: str,
    hub: FileServer,
    write_picture: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """predict without flags, as a user types it; the others through the same function."""
    image = str(write_picture(tmp_path / "red.png", red_picture()))
    assert main(["predict", address, image, "--json"]) == 0
    [entry] = json.loads(capsys.readouterr().out)
    assert len(entry["detections"]) == 2
    assert main(["inspect", "hf:owner/red", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == address.rpartition("=")[2]
    assert main(["compare", "hf:owner/red", address, "--source", image, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "same"
    assert main(["bench", "--model", "hf:owner/red", "--iters", "1", "--threads", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["model"].endswith("best.onnx")
