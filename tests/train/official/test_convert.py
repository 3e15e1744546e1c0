"""Released files of every family: what is read off them, what of them is refused, and that the result computes."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aweigh.runtime.errors import BadInput
from aweigh.train.cli.official import FAMILY_NAMES
from aweigh.train.official.categories import COCO, categories
from aweigh.train.official.convert import Import, convert, import_released
from aweigh.train.official.families import FAMILIES
from aweigh.train.official.released import Released

ROOT = Path(os.environ.get("AWEIGH_TEST_DATA", "/nowhere")) / "checkpoints"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="AWEIGH_TEST_DATA has no checkpoints/")

# Of each list of names and shapes of a released model: family, architecture, what differs from it, options.
FULL: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "autoassign_mmdet": ("autoassign_mmdet", "r50", {"stride_in_1x1": True, "p6_from": "c5", "tower_bias": True}, {}),
    "autoassign_cvpods": ("autoassign_cvpods", "r50", {"stride_in_1x1": True, "tower_bias": True}, {}),
    "paa_mmdet": ("paa_mmdet", "r50", {"p7_relu": False}, {"pixels": "continuous", "point_offset": 0.0}),
    "paa_kkhoot": ("paa_kkhoot", "r50", {"stride_in_1x1": True, "tower_bias": True}, {}),
    "paa_kkhoot_dcn": ("paa_kkhoot", "r101-dcn", {"stride_in_1x1": True, "tower_bias": True}, {}),
    "fcos_mmdet": ("fcos_mmdet", "r50", {"stride_in_1x1": True}, {"regression": "exp", "centerness_tower": "cls"}),
    "fcos_x101_mmdet": ("fcos_mmdet", "x101-64x4d", {}, {"regression": "exp", "centerness_tower": "cls"}),
    "fcos_dcn_mmdet": ("fcos_mmdet", "r50-dcn", {"stride_in_1x1": True, "tower_bias": True}, {}),
    "dw": ("dw", "r50", {"tower_bias": True}, {"refine": True}),
    "dw_worefine": ("dw", "r50", {"tower_bias": True}, {"refine": False}),
    "dw_dcn": ("dw", "r50-dcn", {"tower_bias": True}, {"refine": True}),
    "o2f": ("o2f", "r50", {"tower_bias": True}, {"centerness_convs": 3}),
}
# Every channel count is divided by it, but those of coordinates.
NARROWER = 8


def listed(name: str, narrower: int = 1) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a released model."""
    shapes = {}
    for line in (ROOT / f"{name}.full.keys.txt").read_text().splitlines():
        key, shape, _ = line.split("\t")
        sizes = () if shape == "scalar" else tuple(map(int, shape.split("x")))
        shapes[key] = tuple(size // narrower if size >= 64 else size for size in sizes)
    return shapes


def released(tensors: dict[str, Tensor], names: tuple[str, ...] = ()) -> Released:
    return Released(Path("some.pth"), "0" * 64, tensors, {}, names)


@pytest.mark.parametrize("name", sorted(FULL))
def test_sizes_are_read_off_the_tensors_of_real_models(name: str) -> None:
    """On no memory: the shapes of all tensors must fit the network that is made of them."""
    tensors = {key: torch.empty(shape, device="meta") for key, shape in listed(name).items()}
    with torch.device("meta"):
        found = convert(released(tensors))
    family, architecture, network, options = FULL[name]
    assert (found.family, found.checkpoint.spec.architecture) == (family, architecture)
    assert found.checkpoint.network == {**network, "gn_groups": 32}
    assert found.checkpoint.options == options
    assert found.checkpoint.spec.categories == COCO
    assert len(found.matched) + len(found.ignored) == len(tensors)


@pytest.mark.parametrize("name", ["dw_worefine", "dw_dcn", "fcos_x101_mmdet", "paa_kkhoot_dcn"])
def test_families_of_which_only_the_names_are_there(name: str) -> None:
    """Random tensors of an eighth of the widths, all blocks: a checkpoint is made of them, and it detects."""
    torch.manual_seed(0)
    tensors = {}
    for key, shape in listed(name, NARROWER).items():
        fan_in = max(1, torch.Size(shape[1:]).numel())
        tensors[key] = torch.rand(shape) + 0.5 if len(shape) < 2 else torch.randn(shape) * (1 / fan_in) ** 0.5
    detector = convert(released(tensors), gn_groups=8).checkpoint.detector()
    with torch.inference_mode():
        dense = detector.dense(torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8))
    assert dense.scores.shape == (1, 8 * 12 + 4 * 6 + 2 * 3 + 2 + 1, 10)
    assert dense.boxes_xyxy.isfinite().all()
    assert dense.scores.std() > 0


@pytest.fixture
def tiny() -> Callable[[str], dict[str, Any]]:
    return lambda name: torch.load(ROOT / f"{name}.pth", weights_only=True)  # type: ignore[no-any-return]


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Import]:
    def read(content: object, **options: Any) -> Import:
        torch.save(content, tmp_path / "file.pth")
        return import_released(tmp_path / "file.pth", **{"gn_groups": 8, **options})

    return read


def same(first: Import, second: Import) -> bool:
    a, b = first.checkpoint, second.checkpoint
    return a.spec.post == b.spec.post and all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


def test_wrappings_and_old_names(tiny: Callable[[str], dict[str, Any]], imported: Callable[..., Import]) -> None:
    content = tiny("fcos_dcn_mmdet")
    plain = content["state_dict"]
    reference = imported(content)
    assert [c.name for c in reference.checkpoint.spec.categories] == ["a", "b", "c", "d", "e"]
    assert reference.checkpoint.spec.input.mean == (103.53, 116.28, 123.675)

    def old(name: str) -> str:
        name = re.sub(r"^bbox_head\.conv_", "bbox_head.fcos_", name)
        name = re.sub(r"^(bbox_head\.\w+_convs\.\d)\.conv\.conv_offset\.", r"\1.conv_offset.", name)
        return re.sub(r"\.conv2\.conv_offset\.", ".conv2_offset.", name)

    renamed = {old(name): tensor for name, tensor in plain.items()}
    assert len(set(renamed) - set(plain)) == 36  # predictors, and offsets of 13 blocks and two towers
    assert same(imported({"state_dict": renamed}), reference)
    assert same(imported({"model": {f"module.{name}": tensor for name, tensor in plain.items()}}), reference)
    halved = imported({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in plain.items()})
    for name, tensor in reference.checkpoint.weights.items():
        assert halved.checkpoint.weights[name].dtype == tensor.dtype
        torch.testing.assert_close(halved.checkpoint.weights[name], tensor, rtol=2e-3, atol=1e-4)
    averaged = {f"ema_{name.replace('.', '_')}": torch.zeros_like(tensor) for name, tensor in plain.items()}
    found = imported({"state_dict": plain | averaged, "optimizer": {"state": {}}, "ema_state_dict": averaged})
    assert same(found, reference)
    assert found.ignored["ema_backbone_conv1_weight"] == "the other set of a moving average"
    named = imported({"state_dict": plain, "meta": {"dataset_meta": {"classes": ("v", "w", "x", "y", "z")}}})
    assert [c.name for c in named.checkpoint.spec.categories] == ["v", "w", "x", "y", "z"]


def test_what_does_not_fit_is_named(tiny: Callable[[str], dict[str, Any]], imported: Callable[..., Import]) -> None:
    plain = tiny("dw")["state_dict"]
    with pytest.raises(BadInput, match=r"1 unknown: bbox_head\.extra 3x4"):
        imported(plain | {"bbox_head.extra": torch.zeros(3, 4)})
    without = {name: tensor for name, tensor in plain.items() if name != "neck.fpn_convs.2.conv.bias"}
    with pytest.raises(BadInput, match=r"1 missing \(names of this project\): neck\.output\.2\.bias 32"):
        imported(without)
    with pytest.raises(BadInput, match=r"1 of another shape: backbone\.layer3\.1\.bn2\.bias 3, expected 24"):
        imported(plain | {"backbone.layer3.1.bn2.bias": torch.zeros(3)})
    with pytest.raises(BadInput, match=r"1 unknown: bbox_head\.conv_cls\.bias"):
        imported(plain | {"bbox_head.fcos_cls.bias": torch.zeros(5)})
    with pytest.raises(BadInput, match=r"family o2f; tensors .* unknown: bbox_head.reg_offset"):
        imported(plain, family_name="o2f")
    with pytest.raises(BadInput, match=r"backbone\.conv1\.weight is missing"):
        imported({"bbox_head.conv_cls.bias": torch.zeros(5)} | {n: t for n, t in plain.items() if "layer" in n})
    with pytest.raises(BadInput, match="stages of"):
        imported({name: tensor for name, tensor in plain.items() if "layer3.5" not in name})
    with pytest.raises(BadInput, match="none of the families"):
        imported({"weight": torch.zeros(3)})
    with pytest.raises(BadInput, match="32 channels of the head do not divide into gn_groups 7"):
        imported(plain, gn_groups=7)
    with pytest.raises(BadInput, match="no named tensors"):
        imported({"epoch": 3})
    with pytest.raises(BadInput, match="names 2 classes and has outputs for 5"):
        imported({"state_dict": plain, "meta": {"CLASSES": ("a", "b")}})


def test_a_hostile_file_is_refused_and_not_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    torch.save({"state_dict": {"bbox_head.conv_cls.bias": torch.zeros(3)}, "meta": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(BadInput, match=r"loaded safely.*save only the tensors"):
            import_released(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_classes() -> None:
    assert (len(COCO), COCO[0].id, COCO[11].id, COCO[-1].id, COCO[-1].name) == (80, 1, 13, 90, "toothbrush")
    old = tuple(category.name.replace(" ", "_") for category in COCO)
    assert categories(80, ()) == categories(80, old) == COCO
    assert [c.id for c in categories(80, ("x", *old[1:]))] == list(range(1, 81))
    assert [c.name for c in categories(2, ())] == ["class 1", "class 2"]


def test_the_command_line_knows_every_family() -> None:
    assert set(FAMILY_NAMES) == set(FAMILIES)


@pytest.mark.parametrize("shape", [(), (8,), (8, 8), (8, 8, 3, 3, 3), (0, 8, 3, 3)])
@pytest.mark.parametrize(
    "name", ["backbone.conv1", "backbone.layer1.0.conv2", "neck.lateral_convs.0.conv", "neck.fpn_convs.3.conv"]
)
def test_weights_that_are_no_convolution_s_are_named(
    tiny: Callable[[str], dict[str, Any]], imported: Callable[..., Import], name: str, shape: tuple[int, ...]
) -> None:
    """Those that sizes are read from."""
    plain = tiny("autoassign_mmdet")["state_dict"]
    assert f"{name}.weight" in plain
    with pytest.raises(BadInput, match=rf"weight of shape \[{', '.join(map(str, shape))}\]: expected the weights of a"):
        imported(plain | {f"{name}.weight": torch.zeros(shape)})


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 5)])
def test_scales_of_levels_are_one_number_each(
    tiny: Callable[[str], dict[str, Any]], imported: Callable[..., Import], shape: tuple[int, ...]
) -> None:
    plain = tiny("autoassign_mmdet")["state_dict"]
    name = next(name for name in plain if re.fullmatch(r"bbox_head\.scales\.\d\.scale", name))
    with pytest.raises(BadInput, match="expected one number for each level"):
        imported(plain | {name: torch.zeros(shape)})


def test_a_prior_without_rows_does_not_fit(
    tiny: Callable[[str], dict[str, Any]], imported: Callable[..., Import]
) -> None:
    plain = tiny("autoassign_mmdet")["state_dict"]
    name = next(name for name in plain if name.startswith("bbox_head.center_prior."))
    with pytest.raises(BadInput, match="of another shape"):
        imported(plain | {name: torch.tensor(1.0)})
