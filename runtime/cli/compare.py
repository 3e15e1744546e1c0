"""The verb compare: its flags, its table, its files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aweigh.runtime.cli.numbers import add_tolerances, conf_or_best, given_tolerances
from aweigh.runtime.cli.opening import add_opening, model_file, read_opening
from aweigh.runtime.cli.parsing import add_outside_images
from aweigh.runtime.errors import BadInput, CannotRun, install_advice

if TYPE_CHECKING:
    from rich.console import Console

    from aweigh.runtime.cli.provided import Provided
    from aweigh.runtime.compare.comparison import LabelledImage
    from aweigh.runtime.detector import Detector
    from aweigh.runtime.spec import ModelSpec

JSON_NAME, PAGE_NAME = "compare.json", "compare.html"
_TOLERANCES = ("share", "score", "moved_px")
_SHOWN = 10  # images listed in the terminal


def add_compare(parser: argparse.ArgumentParser) -> None:
    """The flags of ``aweigh compare``."""
    parser.add_argument("a", metavar="A", help="an exported file, as --model of predict: what is expected")
    parser.add_argument("b", metavar="B", help="an exported file: what is held against it")
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--source", action="append", metavar="WHERE", help="image, folder or glob pattern; repeatable")
    images.add_argument("--data", help="data set: its images, and how both files agree with its objects")
    parser.add_argument("--split", default="val", help="of the data set (default %(default)s)")
    add_outside_images(parser)
    parser.add_argument(
        "--conf",
        type=conf_or_best,
        metavar="X",
        help="only scores above it, 0 to 1; best: above each class's best threshold, the higher of the two files'. "
        "Default: the files' threshold",
    )
    parser.add_argument(
        "--iou", type=float, default=0.5, metavar="X", help="two boxes are of one object above it (default %(default)s)"
    )
    add_tolerances(parser, _TOLERANCES)
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"{JSON_NAME} and the gallery {PAGE_NAME} go here")
    parser.add_argument(
        "--gallery", type=int, default=24, metavar="N", help="images on the page, worst first (default %(default)s)"
    )
    add_opening(parser)


def run_compare(arguments: argparse.Namespace) -> int:
    """0 where both files find the same within the tolerances, 1 where they do not."""
    from aweigh.runtime.atomic import atomic_write
    from aweigh.runtime.cli.output import console, emit_json, progress
    from aweigh.runtime.compare.comparison import compare_models
    from aweigh.runtime.compare.page import write_gallery

    if arguments.gallery < 0:
        raise BadInput(f"--gallery {arguments.gallery}: expected 0 or more")
    if arguments.out is not None and arguments.out.exists() and not arguments.out.is_dir():
        raise BadInput(f"--out {arguments.out}: expected a folder, this is a file")
    opening = read_opening(arguments)
    paths = [model_file(source, flag) for flag, source in (("A", arguments.a), ("B", arguments.b))]
    with opening.open(paths[0]) as a, opening.open(paths[1]) as b, progress() as bar:
        images = _images(arguments, a.spec)
        files = {side: _about(path, detector) for side, path, detector in zip("ab", paths, (a, b), strict=True)}
        task = bar.add_task("compare", total=len(images))
        comparison = compare_models(
            *(a, b, images, arguments.conf, arguments.iou),
            tolerances=given_tolerances(arguments),
            on_image=lambda difference: bar.advance(task),
        )
    report = {**comparison.to_dict(), **files, "page": None}
    if arguments.out is not None:
        page = arguments.out / PAGE_NAME
        write_gallery(comparison, files, page, arguments.gallery)
        report["page"] = str(page)
        with atomic_write(arguments.out / JSON_NAME) as temporary:
            temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if arguments.json:
        emit_json(report)
    else:
        _print(report, console())
    return 0 if comparison.verdict == "same" else 1


def _images(arguments: argparse.Namespace, spec: ModelSpec) -> list[Path] | list[LabelledImage]:
    if arguments.source:
        from aweigh.runtime.images.listing import list_images

        return list(dict.fromkeys(path for source in arguments.source for path in list_images(source)))
    provided: Provided = arguments.provided
    if provided.labelled_images is None:
        raise CannotRun(f"--data needs the readers of data sets: {install_advice('train')}, or give --source")
    return provided.labelled_images(spec, arguments.data, arguments.split, arguments.outside_images)


def _about(path: str, detector: Detector) -> dict[str, Any]:
    spec = detector.spec
    return {
        "file": path,
        "sha256": detector.backend.sha256,
        "method": spec.method,
        "architecture": spec.architecture,
        "precision": spec.precision,
        "post": spec.post.kind,
        "input_hw": list(spec.input.size_hw),
        "score_threshold": spec.post.score_threshold,
        "providers": list(detector.backend.providers),
        "threads": detector.backend.threads,
    }


def _print(report: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    from aweigh.runtime.compare.floor import floor_words

    match, limits, above = report["match"], report["tolerances"], floor_words(report["conf"])
    table = Table(title=f"A {report['a']['file']}\nB {report['b']['file']}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in (
        ("verdict", report["verdict"].upper()),
        ("images", f"{report['pictures']}, {report['pictures_differing']} of them with differences"),
        ("detections", f"{report['detections']['a']} and {report['detections']['b']}, scores above {above}"),
        (
            "differing",
            f"{report['differing']}, allowed {report['allowed']}: {match['lost']} lost, {match['new']} new, "
            f"{match['relabelled']} relabelled, {match['moved']} moved; {match['borderline']} borderline",
        ),
        ("farthest move", f"{match['max_moved_px']:.3g} px of the image (limit {limits['moved_px']:g} of the input)"),
        (
            "scores of boxes that stayed",
            f"{report['rescored']} changed by more than {limits['score']:g}, allowed {report['rescored_allowed']}; "
            f"largest change {match['max_score_error']:.3g}",
        ),
    ):
        table.add_row(name, value)
    if truth := report["truth"]:
        for side in ("a", "b"):
            hits = f"{truth[side]['found']} of {truth['objects']} objects, {truth[side]['false']} false detections"
            table.add_row(f"{side.upper()} and the data set", hits)
    console.print(table)
    for entry in report["worst"][:_SHOWN]:
        counts = ", ".join(
            f"{entry[kind]} {kind}" for kind in ("lost", "new", "relabelled", "moved", "rescored") if entry[kind]
        )
        console.print(f"{entry['file']}: {counts}")
    if len(report["worst"]) > _SHOWN:
        console.print(f"and {len(report['worst']) - _SHOWN} more, see --json or --out")
    if report["page"]:
        console.print(f"gallery: {report['page']}")
