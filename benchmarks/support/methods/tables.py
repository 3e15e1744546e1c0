"""The tables of a comparison of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    low = [(name, v) for name, v in summary.items() if (v.get("int8") or {}).get("val")]
    return [test, val, files, *([_small(low)] if low else [])]


def _small(summary: Sequence[tuple[str, Mapping[str, Any]]]) -> Grid:
    """What matters on a small machine, and how fast a method learns."""
    header = (
        *("variant", "AP on val", "with NMS - own, val", "int8 - fp32, val", "int8 - fp32, test", "int8 receipts"),
        *("MB", "MB int8", "ms", "ms int8", "iterations to 90 %"),
    )
    return Grid(
        "exported file on val, INT8, size, p50 of the graph at batch 1; first validation at 90 % of the last AP",
        header,
        tuple(
            (
                name,
                shown(v["onnx"]["val"]),
                shown(v["nms_minus_own_val"], sign="+"),
                *(shown(v["int8_minus_own"][split], 4, "+") for split in ("val", "test")),
                ", ".join(v["int8_receipts"]),
                *(_mb(v["bytes"][kind]) for kind in ("onnx", "int8")),
                *(_ms((v["latency"] or {}).get(kind)) for kind in ("onnx", "int8")),
                shown(v["iterations_to_90"], 0),
            )
            for name, v in summary
        ),
    )


def _mb(figure: Spread | None) -> str:
    return f"{figure['mean'] / 1e6:.1f}" if figure else "-"


def shown(figure: Spread | None, digits: int = 3, sign: str = "") -> str:
    """``0.598 (0.593 to 0.604)``; the mean alone where nothing spreads."""
    if figure is None:
        return "-"
    mean, low, high = (f"{figure[key]:{sign}.{digits}f}" for key in ("mean", "min", "max"))
    return mean if figure["min"] == figure["max"] else f"{mean} ({low} to {high})"


def _ms(measured: Mapping[str, float] | None) -> str:
    return f"{measured['network_p50_ms']:.1f}" if measured else "-"
