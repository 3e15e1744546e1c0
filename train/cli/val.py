"""``aweigh val``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aweigh.runtime.cli.opening import add_opening, model_file, read_opening
from aweigh.runtime.cli.output import console, emit_json
from aweigh.runtime.cli.parsing import add_outside_images
from aweigh.runtime.cli.views import add_views, read_views
from aweigh.train.cli.match_names import add_match_names
from aweigh.train.cli.metrics_table import metrics_table


def add_val(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument(
        "--model", required=True, help="checkpoint (.pt) or exported file (.onnx, .engine), also by its address"
    )
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
    add_match_names(parser)
    add_outside_images(parser)
    add_views(parser)


def run_val(arguments: argparse.Namespace) -> int:
    from aweigh.train.evaluation.run import evaluate

    views = read_views(arguments)
    model = Path(model_file(arguments.model))
    evaluation = evaluate(
        model,
        arguments.data,
        arguments.split,
        batch=arguments.batch,
        metrics=arguments.metrics,
        faulty=arguments.faulty,
        match_names=arguments.match_names,
        outside_images=arguments.outside_images,
        opening=read_opening(arguments),
        views=views,
    )
    if arguments.json:
        flags: tuple[str, ...] = ("slice", "tta", "tta_model") if views.several else ()
        flags += ("agnostic",) if views.agnostic else ()
        emit_json({**evaluation.to_dict(), **{name: getattr(arguments, name) for name in flags}})
        return 0
    title = f"{model.name} on {evaluation.split}, {evaluation.metrics.images} images"
    console().print(metrics_table(evaluation.metrics, title, arguments.metrics))
    return 0
