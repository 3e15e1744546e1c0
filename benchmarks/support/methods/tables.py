"""The tables of a comparison of methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from support.methods.comparison import BASELINE, FIGURES, Spread
from support.reports.grid import Grid


def grids(about: Mapping[str, Any]) -> list[Grid]:
    """Test, validation, and what post-processing and speed are like; mean (lowest to highest) over the seeds."""
    summary = about["summary"]
    with_baseline = BASELINE in summary
    test = Grid(
        "test, checkpoint, own post-processing",
        ("variant", "seeds", *FIGURES, *(("AP - fcos",) if with_baseline else ())),
        tuple(
            (name, str(len(v["seeds"])), *(shown(v["test"][f]) for f in FIGURES))
            + ((shown(v["test_minus_fcos"], sign="+"),) if with_baseline else ())
            for name, v in summary.items()
        ),
    )
    val = Grid(
        "val, which chose the weights",
        ("variant", "seeds", *FIGURES),
        tuple((name, str(len(v["seeds"])), *(shown(v["val"][f]) for f in FIGURES)) for name, v in summary.items()),
    )
    files = Grid(
        "exported file: AP on test, p50 of the graph at batch 1; training speed",
        ("variant", "post", "AP", "AP with NMS", "NMS - own", "receipts", "ms", "ms with NMS", "train images/s"),
        tuple(
            (
                name,
                v["post"],
                shown(v["onnx"]["test"]),
                shown(v["onnx_nms"]["test"]),
                shown(v["nms_minus_own"], sign="+"),
                ", ".join(v["receipts"]),
                *(_ms((v["latency"] or {}).get(kind)) for kind in ("onnx", "onnx_nms")),
                shown(v["images_per_s_median"], digits=1),
            )
            for name, v in summary.items()
        ),
    )
    return [test, val, files]


def shown(figure: Spread | None, digits: int = 3, sign: str = "") -> str:
    """``0.598 (0.593 to 0.604)``; the mean alone where nothing spreads."""
    if figure is None:
        return "-"
    mean, low, high = (f"{figure[key]:{sign}.{digits}f}" for key in ("mean", "min", "max"))
    return mean if figure["min"] == figure["max"] else f"{mean} ({low} to {high})"


def _ms(measured: Mapping[str, float] | None) -> str:
    return f"{measured['network_p50_ms']:.1f}" if measured else "-"
