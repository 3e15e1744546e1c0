"""Figures of two papers on speed and memory, theirs, with the hardware they name; and which rows can be built here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NOT_BUILT = {
    "POTO": "POTO is not built here",
    "POTO+3DMF": "POTO and its 3DMF are not built here",
    "POTO+3DMF+Aux": "POTO, its 3DMF and its auxiliary loss are not built here",
}


@dataclass(frozen=True)
class PaperRow:
    """A row of a paper, and what of ours stands beside it.

    Attributes:
        theirs: the paper's figures; empty for a row of ours that the paper does not have.
        architecture: ours; None where it is not built, for the reason in ``not_built``.
        post: post-processing of the exported file.
    """

    table: str
    name: str
    theirs: dict[str, float] = field(default_factory=dict)
    architecture: str | None = None
    method: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    post: str = "auto"
    not_built: str | None = None


HARDWARE = {
    "ala-xiii": "Wang et al., ALA, Table XIII: server with two RTX 4090, i9-13900K, MMDetection 3.1.0, PyTorch 2.0.0; "
    "batch, input size and what the memory is of are not stated",
    "ala-xvii": "the same paper, Table XVII, one-to-one",
    "o2f-5": "Li et al., O2F (arXiv 2303.11567v1), Table 5: Tesla V100, MMDetection, ResNet-50; input size not stated",
}


def _ala(name: str, fps: float, memory_gb: float, architecture: str) -> PaperRow:
    theirs = {"fps": fps, "memory_gb": memory_gb}
    return PaperRow("ala-xiii", f"ALA, {name}", theirs, architecture, "ala")


def _one_to_one(name: str, fps: float, memory_gb: float, architecture: str) -> PaperRow:
    theirs = {"fps": fps, "memory_gb": memory_gb}
    return PaperRow("ala-xvii", f"ALA one-to-one, {name}", theirs, architecture, "ala", {"one_to_one": True})


def _o2f(name: str, forward_ms: float, nms_ms: float, fps: float, **ours: Any) -> PaperRow:
    theirs = {"forward_ms": forward_ms, "nms_ms": nms_ms, "fps": fps}
    not_built = NOT_BUILT.get(name.split(" ")[0])
    return PaperRow("o2f-5", name, theirs, None if not_built else "r50", not_built=not_built, **ours)


ROWS = (
    *(PaperRow("ala-xiii", f"ALA, ResNet-{depth}", architecture=f"r{depth}", method="ala") for depth in (18, 34, 50)),
    _ala("ResNet-101", 11.9, 4.7, "r101"),
    _ala("ResNeXt-101", 10.4, 6.8, "x101-64x4d"),
    _ala("DCN-ResNet-101", 9.9, 7.1, "r101-dcn"),
    _ala("DCN-ResNeXt-101", 8.0, 11.2, "x101-64x4d-dcn"),
    _one_to_one("ResNet-50", 15.4, 3.8, "r50"),
    _one_to_one("ResNet-101", 11.9, 4.7, "r101"),
    _o2f("FCOS", 27.7, 0.7, 35.2, method="fcos"),
    _o2f("FCOS without NMS", 27.7, 0.0, 36.1, method="fcos", post="none"),
    _o2f("POTO", 27.7, 0.0, 36.1),
    _o2f("POTO+3DMF", 30.3, 0.0, 33.0),
    _o2f("POTO+3DMF+Aux", 30.3, 0.0, 33.0),
    *(
        _o2f(f"O2F, {convs} conv", forward_ms, 0.0, fps, method="o2f", options={"centerness_convs": convs})
        for convs, forward_ms, fps in ((1, 28.1, 35.6), (2, 28.2, 35.5), (3, 28.2, 35.5))
    ),
)
