"""The verb label: boxes of a detector for labelling tools, to be corrected there."""

from __future__ import annotations

import argparse
from pathlib import Path

from aweigh.runtime.cli.opening import MODEL_HELP, add_opening, model_file, read_opening
from aweigh.runtime.cli.output import emit_json, log_console
from aweigh.runtime.errors import BadInput

_UNSURE = "0.2-0.5"


def add_label(parser: argparse.ArgumentParser) -> None:
    """The flags of ``aweigh label``."""
    parser.add_argument("--model", required=True, metavar="FILE", help=MODEL_HELP)
    parser.add_argument(
        "--source", required=True, action="append", metavar="WHERE", help="image, folder or glob pattern; repeatable"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="new folder for the labels")
    parser.add_argument(
        "--conf",
        type=float,
        metavar="X",
        help="detections above it become labels (default: above each class's best threshold, 0.3 in a file without)",
    )
    parser.add_argument(
        "--unsure",
        default=_UNSURE,
        metavar="LOW-HIGH",
        help="images with scores in between are listed in first.txt, to be looked at first (default %(default)s)",
    )
    parser.add_argument(
        "--image-prefix",
        metavar="TEXT",
        help="before the images' names in Label Studio's tasks (default: where it serves local files)",
    )
    add_opening(parser)


def run_label(arguments: argparse.Namespace) -> int:
    """Exit code 0. Raises BadInput at the end where an image could not be read."""
    from aweigh.runtime.label.run import LOCAL_FILES, LabelPlan, label_images

    prefix = LOCAL_FILES if arguments.image_prefix is None else arguments.image_prefix
    plan = LabelPlan(arguments.source, arguments.out, arguments.conf, _span(arguments.unsure), prefix)
    model = model_file(arguments.model)
    log = log_console()
    with read_opening(arguments).open(model) as detector:
        result = label_images(
            detector, Path(model).stem, plan, lambda failure: log.print(f"aweigh: skipped: {failure.error}")
        )
    if arguments.json:
        emit_json(result.to_dict())
    else:
        print(f"{result.boxes} boxes in {result.images} images written to {result.out}")
        print(f"{len(result.first)} images to look at first: first.txt")
    if result.failures:
        raise BadInput(f"{len(result.failures)} images could not be read, see above")
    return 0


def _span(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        return float(low), float(high)
    except ValueError:
        raise BadInput(f"--unsure {text}: expected LOW-HIGH, such as {_UNSURE}") from None
