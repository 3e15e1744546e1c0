"""What a training records of the weights that it started from."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch

from aweigh.runtime.spec import Category, InputSpec, ModelSpec
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import TrainConfig, make_config
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.methods import make_method
from aweigh.train.models.detector import build_detector
from aweigh.train.run.session import train
from aweigh.train.weights import imagenet
from aweigh.train.weights.imagenet import PUBLISHED, Published
from aweigh.train.weights.origin import RANDOM, RECORDED, origin_of_checkpoint, origin_of_weights

TINY = {"width": 8, "channels": 16, "convs": 1}


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    data = generate_shapes(tmp_path / "shapes", train=4, val=2, size_hw=(64, 64))
    values = {"data": str(data), "model": "r18", "imgsz": "64", "iterations": 1, "batch": 2, "threads": 1}
    return make_config({**values, "workers": 0, "network": TINY, "project": str(tmp_path / "runs")})


@pytest.fixture
def published(tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backbone that fits, as if it was published."""
    spec = ModelSpec("dw", "r18", (Category(1, "a"),), InputSpec((64, 64)), make_method("dw", 1).post())
    backbone = build_detector("r18", "dw", 1, spec.input, config.network).backbone
    path = tmp_path / "by-hand.pth"
    torch.save(backbone.state_dict(), path)
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(PUBLISHED, "r18", Published(f"resnet18-{digits}.pth", digits))
    return path


def stop(_: object) -> None:
    raise InterruptedError


def recorded(config: TrainConfig, name: str = "best.pt") -> dict[str, str]:
    parents = load_checkpoint(config.run_dir / "weights" / name).spec.parents
    return {name: parents[name] for name in RECORDED if name in parents}


def test_every_published_file_has_a_licence() -> None:
    assert {name: one.license for name, one in PUBLISHED.items() if one.package} == {
        "lite0": "Apache-2.0",
        "lite2": "Apache-2.0",
    }
    assert {one.license for one in imagenet.PUBLISHED.values() if not one.package} == {"BSD-3-Clause"}


def test_the_licence_goes_by_the_digest(published: Path) -> None:
    sha256 = hashlib.sha256(published.read_bytes()).hexdigest()
    assert origin_of_weights(str(published), published) == {
        "starting_weights": f"resnet18-{sha256[:8]}.pth",
        "starting_weights_digest": sha256,
        "starting_weights_license": "BSD-3-Clause",
    }


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/somebody/other.pth", "other.pth"),
        ("https://user:secret@example.com/nets/other.pth?token=secret#sha256=01234567", "other.pth"),
        ("hf:owner/name@v2#sha256=01234567", "hf:owner/name@v2"),
    ],
)
def test_other_files_have_no_licence_and_keep_folders_and_passwords_to_themselves(
    source: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(b"tensors")
    origin = origin_of_weights(source, path)
    assert origin == {"starting_weights": name, "starting_weights_digest": hashlib.sha256(b"tensors").hexdigest()}


@pytest.mark.parametrize(
    ("parents", "how"),
    [
        ({}, "which does not record what it started from"),
        ({"starting_weights": "x.pth", "starting_weights_license": "Apache-2.0"}, "which started from x.pth"),
        ({"released_file": "r.pth"}, "which holds the released r.pth"),
    ],
)
def test_a_checkpoint_passes_on_what_it_knows(parents: dict[str, str], how: str) -> None:
    origin = origin_of_checkpoint(Path("folder/best.pt"), "0" * 64, parents)
    assert origin["starting_weights"] == f"best.pt, {how}"
    assert origin.get("starting_weights_license") == parents.get("starting_weights_license")


@pytest.mark.slow
def test_runs_record_it_and_resumed_ones_keep_it(config: TrainConfig, published: Path) -> None:
    train(config)
    assert recorded(config) == RANDOM
    first = dataclasses.replace(config, name="first", weights=str(published), iterations=4, val_every=2)
    with pytest.raises(InterruptedError):
        train(first, on_epoch=stop)
    assert recorded(first, "last.pt")["starting_weights_license"] == "BSD-3-Clause"
    before = recorded(first, "last.pt")
    train(first, resume=True)
    assert load_checkpoint(first.run_dir / "weights" / "last.pt").training["counters"]["iteration"] == 4
    assert recorded(first, "last.pt") == before
    second = dataclasses.replace(config, name="second", weights=str(first.run_dir / "weights" / "best.pt"))
    train(second)
    assert recorded(second)["starting_weights"] == f"best.pt, which started from {published_name(published)}"
    assert recorded(second)["starting_weights_license"] == "BSD-3-Clause"


def published_name(path: Path) -> str:
    return f"resnet18-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
