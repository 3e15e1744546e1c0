"""``aweigh convert``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aweigh.runtime.cli.output import console, emit_json
from aweigh.runtime.cli.parsing import add_outside_images


def add_convert(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("--data", required=True, help="folder of the data set, or the file that lists it")
    add_outside_images(parser)
    parser.add_argument("--to", required=True, choices=("coco", "yolo", "voc"), help="format to write")
    parser.add_argument("--out", required=True, type=Path, help="folder to write; it must not exist, or be empty")
    parser.add_argument(
        "--val-share", type=float, default=0.0, help="share of the images to hold out for val, as in training"
    )
    parser.add_argument("--test-share", type=float, default=0.0, help="the same for test")
    parser.add_argument("--split-seed", type=int, default=0, help="seed of these shares (default %(default)s)")
    parser.add_argument(
        "--strict", action="store_true", help="refuse what the format cannot hold, and faulty annotations"
    )


def run_convert(arguments: argparse.Namespace) -> int:
    from aweigh.train.data.division import Shares
    from aweigh.train.data.records import summary
    from aweigh.train.data.writing.convert import convert
    from aweigh.train.process.console import say

    shares = Shares(arguments.val_share, arguments.test_share, arguments.split_seed)
    conversion = convert(
        arguments.data,
        arguments.to,
        arguments.out,
        shares=shares,
        strict=arguments.strict,
        outside_images=arguments.outside_images,
    )
    for name, faults in conversion.faults.items():
        for line in summary(faults):
            say(f"{name}: {line}")
    if arguments.json:
        emit_json(conversion.to_dict())
        return 0
    for kind, count in conversion.losses.items():
        console().print(f"not held by {arguments.to}: {kind} ({count})")
    images = ", ".join(f"{count} images in {name}" for name, count in conversion.images.items())
    console().print(f"{conversion.out}  {images}")
    return 0
