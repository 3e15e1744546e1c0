"""The flags by which a verb looks at each picture several times: --slice and --tta."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from aweigh.runtime.cli.opening import opening
from aweigh.runtime.errors import BadInput
from aweigh.runtime.size import Size

if TYPE_CHECKING:
    from aweigh.runtime.detector import Detector
    from aweigh.runtime.flow.finder import Finder

# What belongs to --slice, and its default.
_OF_SLICE = {"slice_overlap": 0.2, "slice_full": True, "slice_metric": "iou", "slice_threshold": 0.5}


def add_look_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that ``wrapped`` reads."""
    group = parser.add_argument_group("looking several times at each picture")
    group.add_argument("--slice", metavar="N", help="cut pictures into tiles of N or HxW pixels, and detect in each")
    group.add_argument(
        "--slice-overlap", type=float, metavar="X", help="share of a tile in common with the next (default 0.2)"
    )
    group.add_argument(
        "--slice-full",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="look at the whole picture too, for objects larger than a tile (default)",
    )
    group.add_argument(
        "--slice-metric", choices=("iou", "ios"), help="overlap that makes one object of two boxes (default iou)"
    )
    group.add_argument("--slice-threshold", type=float, metavar="X", help="of that overlap (default 0.5)")
    group.add_argument(
        "--tta", metavar="WHAT", help="test-time augmentation: flip, scales of the input, or both, as flip,0.75,1.25"
    )
    group.add_argument(
        "--tta-model", action="append", default=[], metavar="FILE", help="the model at another size; repeatable"
    )
    group.add_argument("--tta-merge", choices=("nms", "vote"), help="of the views (default: as the file does)")


def asks_for_looks(arguments: argparse.Namespace) -> bool:
    """Whether one of the flags was given."""
    names = ("slice", *_OF_SLICE, "tta", "tta_merge")
    return bool(arguments.tta_model) or any(getattr(arguments, name) is not None for name in names)


@contextmanager
def wrapped(detector: Detector, arguments: argparse.Namespace) -> Iterator[Finder]:
    """The detector as the flags want it; with none of them, as it is. Tiles are cut first, and each is augmented.

    Raises BadInput for flags that do not go together or values out of range.
    """
    given = {name: getattr(arguments, name) for name in _OF_SLICE if getattr(arguments, name) is not None}
    if given and arguments.slice is None:
        raise BadInput(f"--{next(iter(given)).replace('_', '-')}: belongs to --slice")
    augment = arguments.tta is not None or bool(arguments.tta_model)
    if arguments.tta_merge is not None and not augment:
        raise BadInput("--tta-merge: belongs to --tta or --tta-model")
    with ExitStack() as stack:
        finder: Finder = detector
        if augment:
            from aweigh.runtime.views.augmented import Augmented

            flip, scales = parse_tta(arguments.tta or "")
            more = [stack.enter_context(type(detector)(path, **opening(arguments))) for path in arguments.tta_model]
            finder = Augmented((detector, *more), flip, scales, arguments.tta_merge)
        if arguments.slice is not None:
            from aweigh.runtime.views.sliced import Sliced

            values = {**_OF_SLICE, **given}
            finder = Sliced(
                finder,
                Size.parse(arguments.slice, "--slice"),
                overlap=values["slice_overlap"],
                full_picture=values["slice_full"],
                match_threshold=values["slice_threshold"],
                match_metric=values["slice_metric"],
            )
        yield finder


def parse_tta(text: str) -> tuple[bool, list[float]]:
    """``flip,0.75,1.25`` as whether to flip, and scales. Raises BadInput for anything else."""
    flip, scales = False, []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part == "flip":
            flip = True
            continue
        try:
            scales.append(float(part))
        except ValueError:
            raise BadInput(
                f"--tta {text!r}: {part!r} is neither flip nor a factor; for example flip,0.75,1.25"
            ) from None
    return flip, scales
