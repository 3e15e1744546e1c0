"""``aweigh assign``: the assignments of several methods on one image, as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from aweigh.runtime.cli.output import console, emit_json
from aweigh.runtime.cli.parsing import add_outside_images
from aweigh.train.cli.match_names import add_match_names
from aweigh.train.methods import METHODS, method_class


def add_assign(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("--model", required=True, type=Path, help="checkpoint (.pt)")
    parser.add_argument("--data", required=True, help="folder of the data set, or its data.yaml")
    parser.add_argument("--image", required=True, help="the image's id in the data set, or its file name")
    parser.add_argument("--split", default="val", help="split of the data set (default %(default)s)")
    add_match_names(parser)
    add_outside_images(parser)
    parser.add_argument("--out", type=Path, help="page to write (default assign-NAME.html)")
    parser.add_argument(
        "--progress", type=float, default=0.5, help="share of the training that is done (default %(default)s)"
    )
    parser.add_argument("--methods", default=",".join(METHODS), help="methods to compare (default %(default)s)")


def run_assign(arguments: argparse.Namespace) -> int:
    from aweigh.train.data.open import load_split_of
    from aweigh.train.explorer.explore import explore, find_record, method_names, open_checkpoint
    from aweigh.train.explorer.page import write_page
    from aweigh.train.explorer.summary import summary

    methods = method_names(arguments.methods)
    checkpoint = open_checkpoint(arguments.model)
    split = load_split_of(
        checkpoint.spec,
        arguments.data,
        arguments.split,
        match_names=arguments.match_names,
        outside_images=arguments.outside_images,
    )
    record = find_record(split, arguments.image)
    path = arguments.out or Path(f"assign-{record.path.stem}.html")
    exploration = explore(checkpoint, split, record, methods, arguments.progress)
    write_page(exploration, path)
    content = summary(exploration).to_dict()
    if arguments.json:
        emit_json({"page": str(path), **content})
        return 0
    starved = Table(title=f"{content['image']}: objects with next to no positive weight", title_justify="left")
    for name in ("method", "starved", "which (class, width x height in pixels of the input, size)"):
        starved.add_column(name)
    for name in methods:
        its = [truth for truth in content["truths"] if name in truth["starved"]]
        which = [f"{t['index']} {t['class']} {t['width_px']:.0f}x{t['height_px']:.0f} {t['size']}" for t in its]
        starved.add_row(method_class(name).title, f"{len(its)} of {len(content['truths'])}", ", ".join(which))
    console().print(starved)
    console().print(f"page  {path}")
    return 0
