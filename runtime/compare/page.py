"""The gallery of ``aweigh compare``: one HTML page without external files, worst images first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime import pages
from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.compare.comparison import CLASS_COUNTS, Comparison, ImageDifference
from aweigh.runtime.compare.floor import floor_words
from aweigh.runtime.images.drawing import draw_coloured
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.results.detections import Detections

_LARGEST_PX = 960
# What became of a detection: its colour (RGB) and its text in the legend. Later ones are drawn on top.
_KINDS = {
    "same": ((150, 160, 170), "in both, within the tolerances"),
    "borderline": ((214, 200, 120), "in one only, its score close to the threshold: not counted"),
    "rescored": ((70, 130, 230), "same place and label, another score"),
    "moved": ((255, 150, 30), "in both, moved"),
    "relabelled": ((190, 90, 230), "in both, another label"),
    "new": ((40, 190, 90), "new: only in B"),
    "lost": ((235, 50, 50), "lost: only in A"),
}


def write_gallery(comparison: Comparison, files: Mapping[str, Mapping[str, Any]], path: Path, most: int) -> None:
    """Write the page, whole or not at all.

    Args:
        files: facts of the two files under ``a`` and ``b``, by name; ``file`` is the path.
        most: images to show; they are stored in the page, 960 pixels on the longer side.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(render(comparison, files, most), encoding="utf-8")


def render(comparison: Comparison, files: Mapping[str, Mapping[str, Any]], most: int) -> str:
    """The page as HTML. Raises BadInput where an image has been removed since it was compared."""
    report, worst = comparison.to_dict(), comparison.worst
    names = dict(zip("ab", distinct_names(files["a"]["file"], files["b"]["file"]), strict=True))
    return pages.render(
        "aweigh.runtime.compare",
        "compare.html",
        style=pages.stylesheet(),
        names=names,
        report=report,
        scores_above=floor_words(comparison.conf),
        numbers=_numbers(report),
        facts=[(name.replace("_", " "), *(_text(files[side][name]) for side in "ab")) for name in files["a"]],
        limits=[f"{name.replace('_', ' ')} {value:g}" for name, value in report["tolerances"].items()],
        overridden=[f"{n} (default {entry['default']:g})" for n, entry in report["tolerances_overridden"].items()],
        class_kinds=CLASS_COUNTS,
        legend=list(reversed(_KINDS.values())),
        images=[_image(difference, names) for difference in worst[:most]],
        differing=len(worst),
    )


def distinct_names(a: str, b: str) -> tuple[str, str]:
    """The file names, with as many of their folders as it takes to distinguish them."""
    parts = Path(a).parts, Path(b).parts
    tails = ((Path(*parts[0][-n:]), Path(*parts[1][-n:])) for n in range(1, max(map(len, parts)) + 1))
    first, second = next((pair for pair in tails if pair[0] != pair[1]), (Path(parts[0][-1]), Path(parts[1][-1])))
    return str(first), str(second)


def _numbers(report: Mapping[str, Any]) -> list[tuple[str, object]]:
    match = report["match"]
    return [
        ("detections, A", report["detections"]["a"]),
        ("detections, B", report["detections"]["b"]),
        *((kind, match[kind]) for kind in ("lost", "new", "relabelled", "moved")),
        ("other score", report["rescored"]),
        ("borderline", match["borderline"]),
        ("median move, px", _figure(report["moved_px"]["median"])),
        ("farthest move, px", _figure(report["moved_px"]["max"])),
        ("median change of a score", _figure(report["score_shift"]["abs_median"])),
    ]


def _image(difference: ImageDifference, names: Mapping[str, str]) -> dict[str, Any]:
    """What the template shows of one image."""
    image = read_image(difference.path)
    kinds_of_side = dict(zip("ab", difference.pairing.kinds, strict=True))
    sides = []
    for side, detections in (("a", difference.a), ("b", difference.b)):
        caption = f"{side.upper()}, {names[side]}: {len(detections)} detections"
        if difference.judged is not None:
            judged = difference.judged["ab".index(side)]
            caption += f"; {judged.found} of {difference.objects} objects found, {judged.false} false"
        sides.append({"data": pages.data_uri(_drawn(image, detections, kinds_of_side[side])), "caption": caption})
    counts = {kind: max(kinds.count(kind) for kinds in kinds_of_side.values()) for kind in reversed(_KINDS)}
    return {
        "name": difference.path.name,
        "counts": [f"{n} {kind}" for kind, n in counts.items() if n and kind not in ("same", "borderline")],
        "sides": sides,
    }


def _drawn(image: npt.NDArray[np.uint8], detections: Detections, kinds: list[str]) -> npt.NDArray[np.uint8]:
    """Differences are drawn last and with a text, the other detections without."""
    canvas, scale = pages.legible(image, _LARGEST_PX)
    order = sorted(range(len(detections)), key=lambda row: -list(_KINDS).index(kinds[row]))
    texts = [
        ""
        if kinds[row] in ("same", "borderline")
        else f"{detections.names[int(detections.cls[row])]} {detections.conf[row]:.2f}"
        for row in order
    ]
    boxes_xyxy = (detections.xyxy[order] * scale).astype(np.float32)
    return draw_coloured(canvas, boxes_xyxy, texts, [_KINDS[kinds[row]][0] for row in order])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
