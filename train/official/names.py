"""Names of tensors in released files, and the names of the same tensors in aweigh."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

Naming = Literal["mmdet", "cvpods", "kkhoot"]
Rename = Callable[[re.Match[str]], str]

_OUTPUTS = {
    "cls": "cls",
    "reg": "reg",
    "centerness": "obj",
    "cls_score": "cls",
    "bbox_pred": "reg",
    "obj_score": "obj",
    "cls_logits": "cls",
    "iou_pred": "obj",
}
_TOWERS = {"cls": "cls", "reg": "reg", "bbox": "reg"}


def _pyramid(match: re.Match[str], first: int) -> str:
    kind = "lateral" if match["kind"] in ("lateral", "inner") else "output"
    return f"neck.{kind}.{int(match['level']) - first}.{match['rest']}"


def _mmdet_output(match: re.Match[str]) -> str:
    index = int(match["level"])
    return f"neck.{'output.' + str(index) if index < 3 else 'p' + str(index + 3)}.{match['rest']}"


def _mmdet_tower(match: re.Match[str]) -> str:
    place = 3 * int(match["layer"]) + (match["part"] == "gn")
    offset = "conv_offset." if match["part"] == "conv_offset" else ""
    where = "extra.obj" if match["tower"] == "centerness" else f"towers.{match['tower']}"
    return f"head.{where}.{place}.{offset}{match['rest']}"


def _tower(match: re.Match[str]) -> str:
    part = "conv_offset." if match["part"] == "offset." else ""
    return f"head.towers.{_TOWERS[match['tower']]}.{match['layer']}.{part}{match['rest']}"


def _output(match: re.Match[str]) -> str:
    return f"head.outputs.{_OUTPUTS[match['name']]}.{match['rest']}"


def _cvpods_layer(match: re.Match[str]) -> str:
    part, rest = match["part"], match["rest"]
    norm = rest.startswith("norm.")
    if part == "shortcut":
        part = f"downsample.{int(norm)}"
    elif norm:
        part = part.replace("conv", "bn")
    return f"backbone.layer{int(match['stage']) - 1}.{match['block']}.{part}.{rest.removeprefix('norm.')}"


def _scale(match: re.Match[str]) -> str:
    return f"head.scales.reg.{match['level']}"


_SCALES = (r"(?:bbox_head|head|rpn\.head)\.scales\.(?P<level>\d+)\.scale", _scale)
_RULES: dict[Naming, tuple[tuple[str, Rename], ...]] = {
    "mmdet": (
        # Old files keep the offsets of a deformable convolution next to it.
        (
            r"backbone\.(?P<place>layer\d\.\d+\.conv\d)_offset\.(?P<rest>.+)",
            lambda m: f"backbone.{m['place']}.conv_offset.{m['rest']}",
        ),
        (r"backbone\..+", lambda m: m[0]),
        (r"neck\.(?P<kind>lateral)_convs\.(?P<level>\d)\.conv\.(?P<rest>.+)", lambda m: _pyramid(m, 0)),
        (r"neck\.fpn_convs\.(?P<level>\d)\.conv\.(?P<rest>.+)", _mmdet_output),
        (
            r"bbox_head\.(?P<tower>cls|reg|centerness)_convs\.(?P<layer>\d)\.(?P<part>conv_offset|conv|gn)\.(?P<rest>.+)",
            _mmdet_tower,
        ),
        (r"bbox_head\.(?:conv|atss|fcos)_(?P<name>cls|reg|centerness)\.(?P<rest>.+)", _output),
        (r"bbox_head\.reg_offset\.(?P<rest>.+)", lambda m: f"head.outputs.offset.{m['rest']}"),
        (r"bbox_head\.center_prior\.mean", lambda m: "method.mu"),
        (r"bbox_head\.center_prior\.sigma", lambda m: "method.sigma"),
        _SCALES,
    ),
    "cvpods": (
        (r"backbone\.bottom_up\.stem\.conv1\.norm\.(?P<rest>.+)", lambda m: f"backbone.bn1.{m['rest']}"),
        (r"backbone\.bottom_up\.stem\.conv1\.(?P<rest>.+)", lambda m: f"backbone.conv1.{m['rest']}"),
        (
            r"backbone\.bottom_up\.res(?P<stage>\d)\.(?P<block>\d+)\.(?P<part>conv\d|shortcut)\.(?P<rest>.+)",
            _cvpods_layer,
        ),
        (r"backbone\.fpn_(?P<kind>lateral|output)(?P<level>\d)\.(?P<rest>.+)", lambda m: _pyramid(m, 3)),
        (r"backbone\.top_block\.(?P<rest>p[67]\..+)", lambda m: f"neck.{m['rest']}"),
        (r"head\.(?P<tower>cls|bbox)_subnet\.(?P<layer>\d+)\.(?P<part>)(?P<rest>.+)", _tower),
        (r"head\.(?P<name>cls_score|bbox_pred|obj_score)\.(?P<rest>.+)", _output),
        (r"mu|sigma", lambda m: f"method.{m[0]}"),
        _SCALES,
    ),
    "kkhoot": (
        (r"backbone\.body\.stem\.(?P<rest>.+)", lambda m: f"backbone.{m['rest']}"),
        (
            r"backbone\.body\.(?P<place>layer\d\.\d+\.conv2)\.offset\.(?P<rest>.+)",
            lambda m: f"backbone.{m['place']}.conv_offset.{m['rest']}",
        ),
        (
            r"backbone\.body\.(?P<place>layer\d\.\d+\.conv2)\.conv\.(?P<rest>.+)",
            lambda m: f"backbone.{m['place']}.{m['rest']}",
        ),
        (r"backbone\.body\.(?P<rest>.+)", lambda m: f"backbone.{m['rest']}"),
        (r"backbone\.fpn\.fpn_(?P<kind>inner|layer)(?P<level>\d)\.(?P<rest>.+)", lambda m: _pyramid(m, 2)),
        (r"backbone\.fpn\.top_blocks\.(?P<rest>p[67]\..+)", lambda m: f"neck.{m['rest']}"),
        (
            r"rpn\.head\.(?P<tower>cls|bbox)_tower\.(?P<layer>\d+)\.(?P<part>conv\.|offset\.|)(?P<rest>.+)",
            _tower,
        ),
        (r"rpn\.head\.(?P<name>cls_logits|bbox_pred|iou_pred)\.(?P<rest>.+)", _output),
        _SCALES,
    ),
}
# Buffers that hold no weights; the family states their values.
_NOT_WEIGHTS = re.compile(r"(?:.*\.)?(?:cell_anchors(?:\..+)?|pixel_mean|pixel_std|anchor_generator\..+)")


def renamed(names: Iterable[str], naming: Naming) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Our names by theirs; those that hold no weights, with the reason; and those that no rule knows.

    The scale of pyramid level i is called ``head.scales.reg.i``: in our networks all levels share one tensor.
    """
    known: dict[str, str] = {}
    ignored: dict[str, str] = {}
    unknown: list[str] = []
    for name in names:
        if _NOT_WEIGHTS.fullmatch(name):
            ignored[name] = "no weights"
            continue
        for pattern, rename in _RULES[naming]:
            if match := re.fullmatch(pattern, name):
                known[name] = rename(match)
                break
        else:
            unknown.append(name)
    return known, ignored, unknown


def naming_of(names: Mapping[str, object]) -> Naming | None:
    """Which code base names tensors like this; None for an unknown one."""
    for prefix, naming in (("rpn.head.", "kkhoot"), ("backbone.bottom_up.", "cvpods"), ("bbox_head.", "mmdet")):
        if any(name.startswith(prefix) for name in names):
            return naming  # type: ignore[return-value]
    return None
