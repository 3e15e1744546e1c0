"""``aweigh val``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aweigh.runtime.cli.opening import add_opening, read_opening
from aweigh.runtime.cli.output import console, emit_json
from aweigh.runtime.cli.views import add_views, read_views
from aweigh.train.cli.metrics_table import metrics_table


def add_val(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("--model", required=True, type=Path, help="checkpoint (.pt) or exported file (.onnx, .engine)")
    parser.add_argument("--data", required=True, help="folder of the data set, or its data.yaml")
    parser.add_argument("--split", default="val", help="split of the data set (default %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="images at once, as far as the file allows (default 8)")
    parser.add_argument(
        "--metrics",
        choices=("coco", "voc", "crowdhuman"),
        default="coco",
        help="the benchmark whose metrics are computed (default %(default)s)",
    )
    add_opening(parser)
    parser.add_argument(
        "--faulty", choices=("drop", "refuse"), default="drop", help="drop faulty annotations, or refuse the data set"
    )
    add_views(parser)


def run_val(arguments: argparse.Namespace) -> int:
    from aweigh.train.evaluation.run import evaluate

    views = read_views(arguments)
    evaluation = evaluate(
        arguments.model,
        arguments.data,
        arguments.split,
        batch=arguments.batch,
        metrics=arguments.metrics,
        faulty=arguments.faulty,
        opening=read_opening(arguments),
        views=views,
    )
    if arguments.json:
        flags = ("slice", "tta", "tta_model") if views.several else ()
        emit_json({**evaluation.to_dict(), **{name: getattr(arguments, name) for name in flags}})
        return 0
    title = f"{arguments.model.name} on {evaluation.split}, {evaluation.metrics.images} images"
    console().print(metrics_table(evaluation.metrics, title, arguments.metrics))
    return 0
