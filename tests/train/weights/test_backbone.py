"""Weights from files, a web server and a hub, and what is loaded of them."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
import threading
from pathlib import Path

import huggingface_hub
import pytest
import torch
from file_server import FileServer
from safetensors.torch import save, save_file
from torch import nn

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.train.models.resnet import ResNet
from aweigh.train.weights.backbone import load_backbone
from aweigh.train.weights.source import fetch_weights


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWEIGH_CACHE", str(tmp_path / "cache"))


def resnet(seed: int, depth: int = 10) -> ResNet:
    torch.manual_seed(seed)
    return ResNet(depth, width=8)


def saved(network: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    return buffer.getvalue()


def require_same(a: nn.Module, b: nn.Module) -> None:
    x = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(a.eval()(x), b.eval()(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("form", ["plain", "state_dict", "model", "prefixed", "safetensors"])
def test_every_form_of_file(form: str, tmp_path: Path) -> None:
    source, target = resnet(0), resnet(1)
    state = {**source.state_dict(), "fc.weight": torch.zeros(1000, 64)}
    path = tmp_path / ("r10.safetensors" if form == "safetensors" else "r10.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "prefixed":
        torch.save({f"module.backbone.{name}": tensor for name, tensor in state.items()}, path)
    else:
        torch.save(state if form == "plain" else {form: state, "epoch": 3}, path)
    loaded = load_backbone(target, str(path))
    require_same(source, target)
    assert loaded.loaded == loaded.total > 40
    assert loaded.unused == ("fc.weight",)
    assert "unused: fc.weight" in str(loaded)


def test_what_does_not_fit_is_named_and_the_rest_loaded(tmp_path: Path) -> None:
    source, target = resnet(0), resnet(1)
    state = source.state_dict()
    del state["layer2.0.bn1.bias"]
    state["conv1.weight"] = torch.zeros(8, 4, 7, 7)
    torch.save(state, tmp_path / "odd.pth")
    kept = target.conv1.weight.clone()
    loaded = load_backbone(target, str(tmp_path / "odd.pth"))
    assert loaded.missing == ("conv1.weight (file (8, 4, 7, 7), network (8, 3, 7, 7))", "layer2.0.bn1.bias")
    assert torch.equal(target.conv1.weight, kept)
    assert torch.equal(target.layer4[0].conv1.weight, source.layer4[0].conv1.weight)


@pytest.mark.parametrize("depth", [34, 50])
def test_weights_of_another_network_are_refused(depth: int, tmp_path: Path) -> None:
    torch.save(resnet(0).state_dict(), tmp_path / "r10.pth")
    with pytest.raises(BadInput, match="do not fit"):
        load_backbone(resnet(0, depth), str(tmp_path / "r10.pth"))


def test_url(file_server: FileServer) -> None:
    source, target = resnet(0), resnet(1)
    content = saved(source)
    file_server.files["/models/r10.pth"] = content
    digest = hashlib.sha256(content).hexdigest()
    address = f"{file_server.url}/models/r10.pth"
    for _ in range(2):
        load_backbone(target, f"{address}#sha256={digest}")
        require_same(source, target)
    assert file_server.seen == ["GET /models/r10.pth"]  # the second one came from the cache
    with pytest.raises(BadInput, match=f"is {digest}, expected"):
        load_backbone(target, f"{address}#sha256={'0' * 64}")
    with pytest.raises(CannotRun, match="404"):
        load_backbone(target, f"{file_server.url}/models/other.pth#sha256={digest}")
    with pytest.raises(BadInput, match="64 digits"):
        load_backbone(target, f"{address}#sha256={digest[:8]}")


def test_an_answer_that_is_no_http_or_ends_early_is_told() -> None:
    for answer in (b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def reply(listener: socket.socket = listener, answer: bytes = answer) -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(answer)

            thread = threading.Thread(target=reply)
            thread.start()
            address = f"http://127.0.0.1:{listener.getsockname()[1]}/x.pth"
            with pytest.raises(CannotRun, match="cannot be fetched"):
                fetch_weights(f"{address}#sha256={'0' * 64}")
            thread.join()


def test_a_file_of_the_cache_that_was_changed_is_noticed(file_server: FileServer, tmp_path: Path) -> None:
    content = saved(resnet(0))
    file_server.files["/r10.pth"] = content
    source = f"{file_server.url}/r10.pth#sha256={hashlib.sha256(content).hexdigest()}"
    path = fetch_weights(source)
    path.write_bytes(content[:-1])
    with pytest.raises(BadInput, match="sha256"):
        fetch_weights(source)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_hub(name: str, file_server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = resnet(0), resnet(1)
    content = save(source.state_dict()) if name.endswith("safetensors") else saved(source)
    file_server.files[f"/timm/resnet10.none/resolve/v1/{name}"] = content
    monkeypatch.setenv("HF_ENDPOINT", file_server.url)
    load_backbone(target, "hf:timm/resnet10.none@v1")
    require_same(source, target)
    with pytest.raises(BadInput, match="sha256"):
        load_backbone(target, f"hf:timm/resnet10.none@v1#sha256={'0' * 64}")


def test_hub_says_what_is_missing(file_server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    file_server.files["/owner/name/resolve/main/config.json"] = b"{}"
    monkeypatch.setenv("HF_ENDPOINT", file_server.url)
    with pytest.raises(BadInput, match=r"neither model\.safetensors"):
        fetch_weights("hf:owner/name")
    with pytest.raises(BadInput, match="404"):
        fetch_weights("hf:owner/other")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CannotRun, match="cannot be fetched"):
        fetch_weights("hf:owner/name")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("no-such.pth", "no such file"),
        ("ftp://example.com/x.pth#sha256=" + "0" * 64, "https"),
        ("https://example.com/x.pth", "#sha256="),
        ("https://example.com/x.pth#sha256=zz", "hexadecimal"),
        ("hf:resnet50", "hf:owner/name"),
        ("https://[::1/x.pth#sha256=" + "0" * 64, "expected an https URL"),
        ("https://example.com:port/x.pth#sha256=" + "0" * 64, "expected an https URL"),
    ],
)
def test_bad_sources(source: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        fetch_weights(source)


def test_a_pickle_posing_as_weights_is_not_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"conv1.weight": Evil()}))
    (tmp_path / "evil.safetensors").write_bytes(pickle.dumps({"conv1.weight": Evil()}))
    for name in ("evil.pth", "evil.safetensors"):
        with pytest.raises(BadInput, match="safely"):
            load_backbone(resnet(0), str(tmp_path / name))
    assert not (tmp_path / "executed").exists()
