"""The flags for tiling (--slice) and test-time augmentation (--tta)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aweigh.runtime.errors import BadInput
from aweigh.runtime.size import Size

if TYPE_CHECKING:
    from aweigh.runtime.views.options import ViewOptions

# The flags that only --slice uses, and the field of ViewOptions that each sets.
_OF_SLICE = {
    "slice_overlap": "tile_overlap",
    "slice_full": "full_image",
    "slice_metric": "match_metric",
    "slice_threshold": "match_threshold",
}


def add_views(parser: argparse.ArgumentParser) -> None:
    """Add the flags that ``read_views`` reads."""
    parser.add_argument(
        "--agnostic",
        action="store_true",
        help="drop detections that a better one of any class overlaps, by the file's IoU threshold",
    )
    group = parser.add_argument_group("several views of each image")
    group.add_argument(
        "--slice", metavar="SIZE", help="cut images into tiles of N or HxW pixels (height first) and detect in each"
    )
    group.add_argument(
        "--slice-overlap", type=float, metavar="X", help="share of a tile that the next one covers too (default 0.2)"
    )
    group.add_argument(
        "--slice-full",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="detect in the whole image too, for objects larger than a tile (default: yes)",
    )
    group.add_argument(
        "--slice-metric",
        choices=("iou", "ios"),
        help="overlap of boxes of two tiles: intersection over union (iou, the default) or over the smaller box (ios)",
    )
    group.add_argument(
        "--slice-threshold", type=float, metavar="X", help="boxes of two tiles become one above it (default 0.5)"
    )
    group.add_argument(
        "--tta",
        metavar="VIEWS",
        help="test-time augmentation: flip, factors of the input size, or both, as in flip,0.75,1.25",
    )
    group.add_argument(
        "--tta-model",
        action="append",
        default=[],
        metavar="FILE",
        help="another export of the same model, at another size, as one more view; repeatable",
    )
    group.add_argument(
        "--tta-merge", choices=("nms", "vote"), help="how the views are merged (default: as the file merges boxes)"
    )


def read_views(arguments: argparse.Namespace) -> ViewOptions:
    """The flags' values.

    Raises:
        BadInput: flags that do not go together, or values that cannot be read.
    """
    from aweigh.runtime.views.options import ViewOptions

    of_slice = {field: getattr(arguments, flag) for flag, field in _OF_SLICE.items()}
    given = [flag for flag, field in _OF_SLICE.items() if of_slice[field] is not None]
    if given and arguments.slice is None:
        raise BadInput(f"--{given[0].replace('_', '-')}: belongs to --slice")
    if arguments.tta_merge is not None and arguments.tta is None and not arguments.tta_model:
        raise BadInput("--tta-merge: belongs to --tta or --tta-model")
    flip, scales = parse_tta(arguments.tta or "")
    views = ViewOptions(
        tile=None if arguments.slice is None else Size.parse(arguments.slice, "--slice"),
        flip=flip,
        scales=scales,
        models=tuple(arguments.tta_model),
        merge=arguments.tta_merge,
        agnostic=arguments.agnostic,
        **{field: value for field, value in of_slice.items() if value is not None},
    )
    if arguments.tta is not None and not views.augments:
        raise BadInput(
            f"--tta {arguments.tta!r}: one view is no augmentation; give flip or factors, as in flip,0.75,1.25"
        )
    return views


def parse_tta(text: str) -> tuple[bool, tuple[float, ...]]:
    """Whether to flip, and the factors of the input size.

    Raises:
        BadInput: a part that is neither.

    Example:
        >>> parse_tta("flip,0.75,1.25")
        (True, (0.75, 1.25))
    """
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
    return flip, tuple(scales)
