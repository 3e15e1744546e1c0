"""From a file of released weights to an aweigh checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import InputSpec, ModelSpec
from aweigh.train.checkpoint import Checkpoint
from aweigh.train.methods import method_class
from aweigh.train.models.detector import build_detector
from aweigh.train.official.categories import categories
from aweigh.train.official.families import FAMILIES, Family, family, family_of
from aweigh.train.official.layout import Layout, named, read_layout
from aweigh.train.official.names import naming_of, renamed
from aweigh.train.official.released import Released, read_released
from aweigh.train.tracking.folder import versions

# The papers' test size: bounds of the shorter and the longer side.
_TEST_SIZE = (800, 1333)
_NORM_EPS = 1e-5
_NORM_GROUPS = 32


@dataclass(frozen=True)
class Matched:
    """A tensor that was taken over: its names in the file and in the network, and its shape."""

    theirs: str
    ours: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Import:
    """A checkpoint made of released weights.

    Attributes:
        family: whose code wrote the file.
        layout: what its tensors reveal.
        matched: tensors taken over.
        ignored: names of tensors that were not needed, and why.
        filled: counters of the network that the file does not have and inference does not use.
    """

    checkpoint: Checkpoint
    family: str
    layout: Layout
    matched: tuple[Matched, ...]
    ignored: Mapping[str, str]
    filled: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        spec = self.checkpoint.spec
        return {
            "family": self.family,
            "method": spec.method,
            "architecture": spec.architecture,
            "network": self.checkpoint.network,
            "options": self.checkpoint.options,
            "classes": len(spec.categories),
            "matched": [{"file": m.theirs, "name": m.ours, "shape": list(m.shape)} for m in self.matched],
            "ignored": dict(self.ignored),
            "filled": list(self.filled),
        }


def import_released(path: Path, family_name: str = "auto", gn_groups: int = _NORM_GROUPS) -> Import:
    """Read a file of released weights into a checkpoint.

    Args:
        path: a ``.pth`` file of mmdet, cvpods or the papers' authors; nothing in it is executed.
        family_name: a key of ``FAMILIES``; ``auto`` recognises it by the names of the tensors.
        gn_groups: of every group norm in the head; it leaves no trace in a file, and is 32 in all releases.

    Raises:
        BadInput: not a file of tensors, or what :func:`convert` raises, with the name of the file.
    """
    released = read_released(path)
    try:
        return convert(released, family_name, gn_groups)
    except BadInput as error:
        raise BadInput(f"--checkpoint {path}: {error}") from error


def convert(released: Released, family_name: str = "auto", gn_groups: int = _NORM_GROUPS) -> Import:
    """A checkpoint with these weights and the input, decoding and post-processing of their family.

    Args:
        family_name: of ``FAMILIES``; ``auto`` recognises it by the names of the tensors.
        gn_groups: of every group norm in the head; it leaves no trace in a file, and is 32 in all releases.

    Raises:
        BadInput: tensors of no family, or some that are unknown, missing or of another shape, which the message names.
    """
    naming = FAMILIES[family_name].naming if family_name != "auto" else naming_of(released.tensors)
    if naming is None:
        first = next(iter(released.tensors))
        raise BadInput(f"of none of the families {', '.join(FAMILIES)}; its first tensor is {first}")
    ours, ignored, unknown = renamed(released.tensors, naming)
    by_ours = {name: released.tensors[key] for key, name in ours.items()}
    unknown += [key for key, name in ours.items() if by_ours[name] is not released.tensors[key]]  # occurs twice
    layout = read_layout(by_ours)
    chosen = family_of(released.tensors, naming, layout.size.p6_from) if family_name == "auto" else family_name
    if gn_groups < 1:
        raise BadInput(f"--gn-groups {gn_groups}: expected 1 or more")
    own = family(chosen, layout.size)
    options = {**own.options, **method_class(own.method).options_of(layout.branches)}
    size = named(replace(layout.size, stride_in_1x1=own.stride_in_1x1, p7_relu=own.p7_relu, gn_groups=gn_groups))
    spec = ModelSpec(
        method=own.method,
        architecture=size.architecture,
        categories=categories(layout.classes, released.class_names),
        input=InputSpec(
            _TEST_SIZE, "keep-ratio", dynamic_size=True, color_order=own.color_order, mean=own.mean, std=own.std
        ),
        post=own.post,
        batch=(1, 65535),
        parents={"released_sha256": released.sha256, "released_file": released.path.name},
        versions=versions(),
    )
    detector = build_detector(size.architecture, own.method, layout.classes, spec.input, size.network, options)
    expected = detector.state_dict()
    weights, dropped = _fitted(by_ours, own, layout.classes, expected)
    theirs = {name: key for key, name in ours.items()}
    _require_fit(released, chosen, unknown, {**{name: name for name in weights}, **theirs}, weights, expected)
    held = {name: weights[name].to(tensor.dtype) if name in weights else tensor for name, tensor in expected.items()}
    return Import(
        Checkpoint(spec, size.network, options, held, {}, {}),
        chosen,
        layout,
        tuple(Matched(key, name, tuple(by_ours[name].shape)) for key, name in ours.items() if name not in dropped),
        {**released.ignored, **ignored, **{theirs[name]: why for name, why in dropped.items()}},
        tuple(sorted(name for name in expected if name not in weights)),
    )


def _fitted(
    by_ours: Mapping[str, Tensor], own: Family, classes: int, expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors as the network holds them, and names that it does not need, with the reason."""
    weights, dropped = dict(by_ours), {}
    levels = sorted(name for name in weights if name.startswith("head.scales.reg."))
    for name in levels:
        if weights[name].numel() != 1:
            raise BadInput(f"{name} of shape {list(weights[name].shape)}: expected one number for each level")
    if levels:
        weights["head.scales.reg"] = torch.stack([weights.pop(name).reshape(()) for name in levels])
    for name in [name for name in weights if name.endswith("running_var")]:
        # Batch norm adds the epsilon again. In float64, so that nothing but the last rounding is lost.
        weights[name] = (weights[name].double() + (own.norm_eps - _NORM_EPS)).float()
    for name in ("method.mu", "method.sigma"):
        if name not in weights:
            continue
        if name not in expected:  # DW's files keep AutoAssign's prior, and DW does not use it
            del weights[name]
            dropped[name] = "a prior for the training, which this method does not use"
        elif weights[name].ndim:  # cvpods has 80 rows whatever the number of classes
            weights[name] = weights[name][:classes]
    return weights, dropped


def _require_fit(
    released: Released,
    chosen: str,
    unknown: list[str],
    theirs: Mapping[str, str],
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
) -> None:
    """Raises BadInput that names what no rule knows, what is missing and what has another shape."""
    unknown = [*unknown, *(theirs[name] for name in weights if name not in expected)]
    missing = [n for n in expected if n not in weights and not n.endswith("num_batches_tracked")]
    other = [
        f"{theirs[name]} {_shape(weights[name])}, expected {_shape(tensor)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
        for what, names in (
            ("unknown", [f"{name} {_shape(released.tensors[name])}" for name in unknown]),
            ("missing (names of this project)", [f"{name} {_shape(expected[name])}" for name in missing]),
            ("of another shape", other),
        )
        if names
    ]
    if problems:
        raise BadInput(f"does not fit the family {chosen}; tensors {'; '.join(problems)}")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
