"""The gallery of ``aweigh compare``: one HTML page that needs nothing else, worst pictures first."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.compare.comparison import Comparison, PictureDifference
from aweigh.runtime.images.drawing import draw_coloured
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.pages import data_uri, legible, stylesheet
from aweigh.runtime.results.detections import Detections

_LARGEST_PX = 960
# What became of a detection: its colour (RGB), and what the legend says of it. Later ones are drawn on top.
_KINDS = {
    "same": ((150, 160, 170), "found by both, within the tolerances"),
    "borderline": ((214, 200, 120), "of one alone, its score beside the threshold: not counted"),
    "rescored": ((70, 130, 230), "same place and label, another score"),
    "moved": ((255, 150, 30), "found by both, moved"),
    "relabelled": ((190, 90, 230), "found by both, another label"),
    "new": ((40, 190, 90), "new: B alone"),
    "lost": ((235, 50, 50), "lost: A alone"),
}
_LAYOUT = """
.gallery figure { margin: 0; min-width: 0 }
p { margin-top: 6px }
.gallery .pair { gap: 10px; margin-top: 8px }
.legend { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 0; padding: 0; list-style: none }
.swatch { display: inline-block; width: 14px; height: 14px; border-radius: 3px; margin-right: 6px }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 10px }
.numbers div { border: 1px solid var(--line); border-radius: 10px; padding: 8px 12px }
.numbers b { display: block; font-size: 1.4rem; line-height: 1.2; font-variant-numeric: tabular-nums }
.gallery h3 { font-size: .98rem; margin: 0; overflow-wrap: anywhere }
@media (max-width: 640px) { .gallery .pair { grid-template-columns: 1fr } }
"""


def write_gallery(found: Comparison, files: Mapping[str, Mapping[str, Any]], path: Path, most: int) -> None:
    """Whole or not at all. Pictures are inside the file, at most ``most`` of them, 960 pixels on the longer side."""
    with atomic_write(path) as temporary:
        temporary.write_text(render(found, files, most), encoding="utf-8")


def render(found: Comparison, files: Mapping[str, Mapping[str, Any]], most: int) -> str:
    """The page. Raises BadInput where a picture has gone since it was compared."""
    report, worst = found.to_dict(), found.worst
    names = dict(zip(("a", "b"), telling_names(files["a"]["file"], files["b"]["file"]), strict=True))
    shown = worst[:most]
    verdict = report["verdict"]
    headline = "Both files find the same" if verdict == "same" else "The files find different things"
    sections = [
        f'<section class="card verdict {"passed" if verdict == "same" else "failed"}">'
        f'<span class="stamp">{verdict}</span><div><h1>{escape(names["a"])} and {escape(names["b"])}</h1>'
        f'<p class="soft">{headline}: {report["differing"]} differences, {report["allowed"]} allowed; '
        f"where a box stayed, its score changed by at most {report['match']['max_score_error']:.3g}, "
        f"the limit {found.tolerances.score:g}. {report['pictures']} pictures, scores above {report['conf']:g}.</p>"
        "</div></section>",
        _numbers(report),
        _facts(report, files),
        *([_truth(report["truth"])] if report["truth"] else []),
        _classes(report["by_class"]),
    ]
    if shown:
        sections.append(
            f'<section class="card"><h2>Worst first: A left, B right</h2><ul class="legend">{_legend()}</ul>'
            f'<p class="soft">{len(shown)} of {len(worst)} pictures with differences.</p></section>'
        )
        sections += [_picture(picture, names) for picture in shown]
    else:
        sections.append('<section class="card"><p>No picture shows a difference beyond the tolerances.</p></section>')
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(names['a'])} and {escape(names['b'])}: {verdict}</title>\n"
        f"<style>\n{stylesheet()}{_LAYOUT}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def telling_names(a: str, b: str) -> tuple[str, str]:
    """The file names, with as many of their folders as tell the two apart."""
    parts = Path(a).parts, Path(b).parts
    tails = ((Path(*parts[0][-n:]), Path(*parts[1][-n:])) for n in range(1, max(map(len, parts)) + 1))
    first, second = next((pair for pair in tails if pair[0] != pair[1]), (Path(parts[0][-1]), Path(parts[1][-1])))
    return str(first), str(second)


def _numbers(report: Mapping[str, Any]) -> str:
    match = report["match"]
    cells = [
        ("detections, A", report["detections"]["a"]),
        ("detections, B", report["detections"]["b"]),
        *((kind, match[kind]) for kind in ("lost", "new", "relabelled", "moved")),
        ("other score", report["rescored"]),
        ("borderline", match["borderline"]),
        ("median move, px", _figure(report["moved_px"]["median"])),
        ("farthest move, px", _figure(report["moved_px"]["max"])),
        ("median change of a score", _figure(report["score_shift"]["abs_median"])),
    ]
    boxes = "".join(f"<div><b>{value}</b>{name}</div>" for name, value in cells)
    return f'<section class="card"><div class="numbers">{boxes}</div></section>'


def _facts(report: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><th>{name.replace('_', ' ')}</th>"
        + "".join(f"<td><code>{escape(_text(files[side][name]))}</code></td>" for side in ("a", "b"))
        + "</tr>"
        for name in files["a"]
    )
    limits = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in report["tolerances"].items())
    overridden = ", ".join(
        f"{name} (default {entry['default']:g})" for name, entry in report["tolerances_overridden"].items()
    )
    set_by_hand = f" Set by hand: {escape(overridden)}." if overridden else ""
    return (
        '<section class="card"><h2>The files</h2><div class="scroll"><table><tr><th></th><th>A</th><th>B</th></tr>'
        f'{rows}</table></div><p class="soft">Tolerances: {limits}.{set_by_hand} Two boxes are of one object above an '
        f"IoU of {report['iou']:g}.</p></section>"
    )


def _truth(truth: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><td>{side.upper()}</td><td class="n">{truth[side]["found"]}</td>'
        f'<td class="n">{truth[side]["false"]}</td></tr>'
        for side in ("a", "b")
    )
    return (
        f'<section class="card"><h2>Against the {truth["objects"]} objects of the data set</h2><table><tr><th></th>'
        f'<th class="n">objects found</th><th class="n">false detections</th></tr>{rows}</table></section>'
    )


def _classes(by_class: Mapping[str, Mapping[str, int]]) -> str:
    kinds = ("a", "b", "lost", "new", "relabelled", "moved")
    head = "".join(f'<th class="n">{kind.upper() if len(kind) == 1 else kind}</th>' for kind in kinds)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>" + "".join(f'<td class="n">{counts[kind]}</td>' for kind in kinds) + "</tr>"
        for name, counts in by_class.items()
    )
    return (
        f'<section class="card"><h2>By class</h2><div class="scroll"><table><tr><th></th>{head}</tr>{rows}</table>'
        "</div></section>"
    )


def _legend() -> str:
    return "".join(
        f'<li><span class="swatch" style="background:rgb{colour}"></span>{escape(text)}</li>'
        for colour, text in reversed(_KINDS.values())
    )


def _picture(picture: PictureDifference, names: Mapping[str, str]) -> str:
    image = read_image(picture.path)
    kinds_a, kinds_b = kinds_of(picture)
    figures = []
    for side, found, kinds in (("a", picture.a, kinds_a), ("b", picture.b, kinds_b)):
        told = ""
        if picture.judged is not None:
            judged = picture.judged["ab".index(side)]
            told = f"; {judged.found} of {picture.objects} objects found, {judged.false} false"
        what = f"{side.upper()}, {names[side]}: {len(found)} detections{told}"
        figures.append(
            f'<figure><img loading="lazy" src="{data_uri(_drawn(image, found, kinds))}" alt="{escape(what)}">'
            f"<figcaption>{escape(what)}</figcaption></figure>"
        )
    counts = {kind: max(kinds_a.count(kind), kinds_b.count(kind)) for kind in reversed(_KINDS)}
    told = ", ".join(
        f"{count} {kind}" for kind, count in counts.items() if count and kind not in ("same", "borderline")
    )
    return (
        f'<section class="card gallery"><h3>{escape(picture.path.name)}</h3><p class="soft">{told}</p>'
        f'<div class="pair">{"".join(figures)}</div></section>'
    )


def kinds_of(picture: PictureDifference) -> tuple[list[str], list[str]]:
    """What became of each row of A and of B: a key of the legend."""
    pairing = picture.pairing
    kinds_a, kinds_b = ["same"] * len(picture.a), ["same"] * len(picture.b)
    for pair in pairing.pairs:
        if not pair.same_label:
            kind = "relabelled"
        elif pair.moved:
            kind = "moved"
        else:
            kind = "rescored" if abs(pair.score_shift) > picture.score_limit else "same"
        kinds_a[pair.first] = kinds_b[pair.second] = kind
    for kinds, alone, faint, kind in (
        (kinds_a, pairing.lost, pairing.borderline_first, "lost"),
        (kinds_b, pairing.new, pairing.borderline_second, "new"),
    ):
        for row in alone:
            kinds[row] = kind
        for row in faint:
            kinds[row] = "borderline"
    return kinds_a, kinds_b


def _drawn(image: npt.NDArray[np.uint8], found: Detections, kinds: list[str]) -> npt.NDArray[np.uint8]:
    """Differences on top and with a text, all else without."""
    canvas, scale = legible(image, _LARGEST_PX)
    order = sorted(range(len(found)), key=lambda row: -list(_KINDS).index(kinds[row]))
    texts = [
        "" if kinds[row] in ("same", "borderline") else f"{found.names[int(found.cls[row])]} {found.conf[row]:.2f}"
        for row in order
    ]
    boxes_xyxy = (found.xyxy[order] * scale).astype(np.float32)
    return draw_coloured(canvas, boxes_xyxy, texts, [_KINDS[kinds[row]][0] for row in order])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
