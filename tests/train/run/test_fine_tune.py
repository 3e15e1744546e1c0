"""Starting from a checkpoint of one's own: same classes, other classes, another method, another network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category, InputSpec, ModelSpec
from aweigh.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from aweigh.train.config import TrainConfig, make_config
from aweigh.train.methods import make_method
from aweigh.train.models.detector import DenseDetector, build_detector
from aweigh.train.run.fine_tune import is_checkpoint, start_from
from aweigh.train.run.result import TrainResult
from aweigh.train.run.session import train

NETWORK = {"width": 8, "channels": 16, "convs": 1}
INPUT = InputSpec((64, 64))


def built(
    method: str, names: list[str], network: dict[str, Any] | None = None, seed: int = 0
) -> tuple[DenseDetector, ModelSpec, TrainConfig]:
    torch.manual_seed(seed)
    config = make_config({"data": "x", "model": "nano", "method": method, "network": network or NETWORK})
    categories = tuple(Category(10 * i, name) for i, name in enumerate(names))
    spec = ModelSpec(method, "nano", categories, INPUT, make_method(method, len(names)).post())
    return build_detector("nano", method, len(names), INPUT, config.network), spec, config


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    detector, spec, config = built("autoassign", ["cat", "dog", "cow"], seed=1)
    with torch.no_grad():
        for value in detector.parameters():
            value.normal_()
    save_checkpoint(Checkpoint(spec, config.network, {}, detector.state_dict(), {}, {}), tmp_path / "best.pt")
    return tmp_path / "best.pt"


def test_same_classes_everything_is_taken(saved: Path) -> None:
    detector, spec, config = built("autoassign", ["cat", "dog", "cow"])
    found = start_from(detector, spec, config, load_checkpoint(saved))
    weights = load_checkpoint(saved).weights
    assert all(torch.equal(value, weights[name]) for name, value in detector.state_dict().items())
    assert (found.class_names, found.new_classes, found.unfit, found.unused) == (["cat", "dog", "cow"], [], {}, {})


def test_as_many_classes_in_another_order_are_taken_by_name(saved: Path) -> None:
    """The trap: shapes are equal, so that loading by shape would call cats dogs."""
    detector, spec, config = built("autoassign", ["dog", "horse", "cat"])
    fresh = {name: value.clone() for name, value in detector.state_dict().items()}
    found = start_from(detector, spec, config, load_checkpoint(saved))
    assert (found.class_names, found.new_classes) == (["dog", "cat"], ["horse"])
    weights, now = load_checkpoint(saved).weights, detector.state_dict()
    class_wise = [name for name in now if now[name].shape[:1] == (3,) and now[name].ndim and "mean" not in name]
    assert "head.outputs.cls.weight" in class_wise
    assert any(name.startswith("method.") for name in class_wise)  # AutoAssign's centre prior
    for name in (
        "head.outputs.cls.weight",
        "head.outputs.cls.bias",
        *(n for n in class_wise if n.startswith("method.")),
    ):
        assert torch.equal(now[name][0], weights[name][1])
        assert torch.equal(now[name][2], weights[name][0])
        assert torch.equal(now[name][1], fresh[name][1])
    shared = [name for name in now if name.startswith("backbone.")]
    assert all(torch.equal(now[name], weights[name]) for name in shared)


def test_other_classes_and_method_are_named_with_shapes(saved: Path) -> None:
    detector, spec, config = built("dw", ["car"])
    found = start_from(detector, spec, config, load_checkpoint(saved))
    assert found.unfit["head.outputs.cls.weight"] == ([3, 16, 3, 3], [1, 16, 3, 3])
    assert (found.class_names, found.new_classes) == ([], ["car"])
    assert any(name.startswith("method.") for name in found.unused)
    text = "\n".join(found.lines())
    assert "starts afresh: head.outputs.cls.weight: [3, 16, 3, 3] in the file, [1, 16, 3, 3] in the network" in text
    assert "not used: method." in text
    assert found.loaded > 50


def test_a_network_of_which_nothing_fits(saved: Path) -> None:
    detector, spec, config = built("autoassign", ["cat"], {**NETWORK, "width": 12, "depth": 50})
    with pytest.raises(BadInput, match="nothing of its backbone"):
        start_from(detector, spec, config, load_checkpoint(saved))


def test_foreign_files(saved: Path, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "backbone.pt")
    assert is_checkpoint(saved)
    assert not is_checkpoint(tmp_path / "backbone.pt")


@pytest.mark.parametrize("content", ["missing", "text", "other network"])
def test_wrong_weights_leave_no_run_folder(content: str, saved: Path, tiny_config: TrainConfig) -> None:
    weights = saved.with_name("weights.pt")
    if content == "text":
        weights.write_text("no tensors")
    elif content == "other network":
        torch.save({"conv1.weight": torch.zeros(1)}, weights)
    config = dataclasses.replace(tiny_config, weights=str(weights))
    with pytest.raises(BadInput, match=r"--weights .*weights\.pt"):
        train(config)
    assert not config.run_dir.exists()


@pytest.mark.slow
def test_a_run_starts_from_its_weights_and_records_what_it_took(
    tiny_config: TrainConfig, finished: tuple[TrainConfig, TrainResult], capfd: Any
) -> None:
    config, first = finished
    again = dataclasses.replace(tiny_config, epochs=1, weights=first.checkpoint, method="fcos", lr0=1e-9, ema=0.0)
    train(again)
    assert "not used: head.outputs" in capfd.readouterr().err  # DW's offsets
    args = yaml.safe_load((again.run_dir / "args.yaml").read_text())
    assert args["resolved"]["transfer"]["loaded"] > 50
    before, after = (load_checkpoint(c.run_dir / "weights" / "best.pt").weights for c in (config, again))
    name = next(n for n in before if n.startswith("backbone.") and before[n].ndim == 4)
    assert torch.allclose(before[name], after[name], atol=1e-6)
