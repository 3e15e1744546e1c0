"""The shipped recipes: each resolves, says what its paper says, and trains when it is made small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.spec import InputSpec
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import TrainConfig, make_config, read_recipe, shipped
from aweigh.train.data.open import load_split
from aweigh.train.loop.learner import Learner
from aweigh.train.methods import make_method
from aweigh.train.models.detector import ARCHITECTURES, architecture, build_detector
from aweigh.train.models.freezing import freeze, synchronised
from aweigh.train.process.processes import make_fabric
from aweigh.train.run.data import make_augment, make_spec
from aweigh.train.run.session import train

RECIPES = sorted(shipped())
SMALL: dict[str, Any] = {"width": 8, "channels": 16, "convs": 1}


def small(name: str, data: Path, project: Path, **changes: Any) -> TrainConfig:
    """A recipe with the same features at a hundredth of the size."""
    values = read_recipe(name)
    sides = {"short_sides_px": [48, 64]} if "short_sides_px" in values["augment"] else {}
    values |= {
        "data": str(data),
        "imgsz": "64x96",
        "batch": 4,
        "iterations": 2,
        "weights": None,
        "workers": 0,
        "threads": 1,
        "device": "cpu",
        "project": str(project),
        "network": {**values.get("network", {}), **SMALL},
        "augment": {**values["augment"], **sides},
    }
    return make_config(values | changes)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_resolves(name: str, shapes: Path) -> None:
    values = read_recipe(name)
    config = make_config({**values, "data": str(shapes)})
    architecture(config.model, config.network)
    make_method(config.method, 3, config.options)
    spec = make_spec(config, load_split(shapes, "train"))
    assert make_augment(config.augment).largest(spec.input).size_hw[1] == spec.input.size_hw[1]
    stem = shipped()[name].stem
    assert stem.startswith(config.method)
    assert config.model in stem
    # Complete: what decides a published figure does not come from our defaults.
    assert set(values) >= {
        "imgsz",
        "resize",
        "batch",
        "lr_batch",
        "lr0",
        "steps",
        "undecayed",
        "clip",
        "ema",
        "augment",
    }
    assert shipped()[name].read_text().startswith("# ")


def test_there_is_a_recipe_of_every_method() -> None:
    models = {"fcos", "autoassign", "paa", "ala", "dw", "o2f"}
    assert {f"{method}_r50_1x" for method in models} <= set(RECIPES)
    assert {f"{method}_lite0" for method in (*models, "ala-one-to-one")} <= set(RECIPES)
    assert {read_recipe(name)["model"] for name in RECIPES} <= set(ARCHITECTURES)


LITE = [name for name in RECIPES if name.endswith("_lite0")]


@pytest.mark.parametrize("name", LITE)
def test_recipes_of_small_networks_are_the_defaults_from_imagenet_weights(name: str) -> None:
    """They state in full what ``--method M --model lite0 --weights imagenet`` trains with."""
    recipe = make_config({**read_recipe(name), "data": "any"})
    short = {"data": "any", "model": "lite0", "weights": "imagenet", "lr_batch": 8, "method": recipe.method}
    plain = make_config({**short, "options": recipe.options})
    ours, defaults = recipe.to_dict(), plain.to_dict()
    assert ours.pop("steps") == pytest.approx(defaults.pop("steps"), abs=1e-6)
    assert make_augment(ours.pop("augment")) == make_augment(defaults.pop("augment"))
    assert ours == defaults
    assert make_method(recipe.method, 1, recipe.options).one_to_one == (name in ("o2f_lite0", "ala-one-to-one_lite0"))


@pytest.mark.parametrize("name", ["dw_lite0", "ala-one-to-one_lite0", "paa_lite0"])
def test_a_small_network_trains_by_its_recipe(name: str, shapes: Path, tmp_path: Path) -> None:
    summary = train(small(name, shapes, tmp_path))
    assert (summary.iterations, summary.model) == (2, "lite0")


@pytest.mark.parametrize(
    ("name", "at_steps"),
    [
        ("dw_r50_1x", (8, 11, 12)),
        ("o2f_r50_3x", (24, 33, 36)),
        ("paa_r101_2x", (120, 160, 180)),
        ("ala_r101_2x", (16, 22, 24)),
    ],
)
def test_steps_lie_where_the_papers_put_them(name: str, at_steps: tuple[int, int, int]) -> None:
    first, second, end = at_steps
    assert read_recipe(name)["steps"] == pytest.approx([first / end, second / end], abs=1e-6)


@pytest.mark.parametrize("name", ["paa_r101_2x", "fcos_r101_2x", "o2f_crowdhuman_r50"])
def test_a_small_copy_trains(name: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small(name, shapes, tmp_path)
    summary = train(config)
    assert summary.iterations == 2
    said = capsys.readouterr().err
    scaled = config.lr0 * 4 / config.lr_batch
    assert f"learning rate {scaled:g}: {config.lr0:g} is for batch {config.lr_batch}, scaled to batch 4" in said


@pytest.mark.parametrize("norm", ["learned", "frozen"])
def test_what_is_frozen_stays_and_the_rest_learns(norm: str, shapes: Path, tmp_path: Path) -> None:
    config = small("dw_r50_1x", shapes, tmp_path, backbone_norm=norm, warmup_iterations=1, undecayed=[])
    learner = Learner(config, make_spec(config, load_split(shapes, "train")), make_fabric(config))
    start = learner.detector.state_dict()
    train(config)
    end = load_checkpoint(config.run_dir / "weights" / "last.pt").training["model"]
    changed = {key for key in start if not torch.equal(start[key], end[key])}
    assert not {key for key in changed if key.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer1"))}
    assert "backbone.layer2.0.conv1.weight" in changed
    assert ("backbone.layer2.0.bn1.running_mean" in changed) == (norm == "learned")
    assert ("backbone.layer2.0.bn1.bias" in changed) == (norm != "frozen")


def test_frozen_parts_stay_in_evaluation_mode() -> None:
    detector = build_detector("r18", "fcos", 3, InputSpec((64, 64)), SMALL)
    freeze(detector, 1, "learned")
    for mode in (True, False, True):
        detector.train(mode)
        assert not detector.backbone.layer1[0].bn1.training
        assert detector.backbone.layer2[0].bn1.training is mode
    with pytest.raises(BadInput, match="--frozen-stages 5"):
        freeze(detector, 5, "learned")


def test_flags_override_a_shipped_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--config", "dw_r50_1x", "--data", str(tmp_path / "none"), "--device", "cuda:7"]) == 3
    assert main(["train", "--config", "dw_r50_9x", "--data", str(tmp_path)]) == 2
    assert "dw_r50_1x" in capsys.readouterr().err
    assert main(["train", "--config", "dw_r50_1x", "--data", str(tmp_path), "--method", "fcos"]) == 2
    assert "refine" in capsys.readouterr().err  # DW's option, which FCOS does not have


def test_sync_bn() -> None:
    detector = build_detector("r18", "fcos", 3, InputSpec((64, 64)), SMALL)
    names = list(detector.state_dict())
    freeze(detector, 1, "learned")
    assert synchronised(detector, 1, torch.device("cpu")) is detector
    with pytest.raises(CannotRun, match="--sync-bn"):
        synchronised(detector, 2, torch.device("cpu"))
    synchronised(detector, 2, torch.device("cuda"))
    kinds = {name: type(module).__name__ for name, module in detector.backbone.named_modules() if "bn1" in name}
    assert kinds["layer1.0.bn1"] == "BatchNorm2d"
    assert kinds["layer2.0.bn1"] == "SyncBatchNorm"
    assert list(detector.state_dict()) == names
