"""What the exported file is worth next to the plain way: eager PyTorch, float32, post-processing in Python.

    python benchmarks/plain.py --model best.pt --file best.onnx --file int8.onnx --source DIR --at-least 1.12

    python benchmarks/plain.py --untrained r50 --imgsz 800x1344 --source DIR    # a network with random weights

Same checkpoint, same images, same number of threads, from the JPEG file to boxes of the image, one image per
call, in turns. Before the clock runs, both must detect the same (the precision's tolerances of a receipt); exit code 1
where they do not, or where a file is not ``--at-least`` times as fast. The plain way is
benchmarks/support/plain_way.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from aweigh.export import ExportOptions, export
from aweigh.runtime.agreement.match import Match, ScoredBoxes, lowest_reported, match_detections
from aweigh.runtime.agreement.tolerances import tolerances_for
from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.listing import list_images
from aweigh.runtime.images.preprocess import placement
from aweigh.runtime.images.reading import read_image
from aweigh.runtime.machine.conditions import between, snapshot
from aweigh.runtime.machine.facts import available_cores
from aweigh.runtime.size import Size
from aweigh.train.checkpoint import load_checkpoint
from support.artifact import Artifact, add_settings, parse_artifact
from support.paired import in_turns, paired_ratio
from support.plain_way import PlainDetector
from support.reports.grid import Column, interval
from support.reports.layout import QUIET, SETTINGS_COLUMNS, Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run
from support.untrained import write_checkpoint

LAYOUT = Layout(
    tables(
        {
            "the plain way and ours, ms per picture": (
                Column("model", "model"),
                *SETTINGS_COLUMNS,
                Column("pictures", "pictures"),
                Column("candidates", "candidates_per_picture", ".0f"),
                Column("calls", "calls"),
                Column("plain ms", "plain_ms", ".1f"),
                Column("ours ms", "ours_ms", ".1f"),
                Column("times as fast", interval("times_as_fast")),
                Column("same detections", "agrees"),
                QUIET,
            )
        }
    ),
    plots=(Bars("times as fast as the plain way", ("model", "precision"), "times_as_fast", "ratio", 1.0),),
)


def agreement(plain: PlainDetector, detector: Detector, paths: Sequence[Path]) -> tuple[Match, bool]:
    """Differences over all pictures, and whether they are within the file's precision."""
    tolerances, _ = tolerances_for(detector.spec.precision, {})
    match = Match()
    for path in paths:
        expected, found = plain(path), detector(path)
        scale = max(placement(found.orig_shape, detector.spec.input).scale_xy)
        got = ScoredBoxes(found.xyxy, found.conf, found.cls)
        lowest = max(lowest_reported(side.scores, detector.spec.post) for side in (expected, got))
        match += match_detections(expected, got, tolerances.moved_px / scale, lowest + tolerances.score)
    return match, match.differing <= match.allowed(tolerances.share) and match.max_score_error <= tolerances.score


def measure(checkpoint: Path, artifact: Artifact, paths: Sequence[Path], rounds: int, folder: bool) -> Row:
    """One file against its checkpoint. Raises BadInput where the file is not of that checkpoint."""
    loaded = load_checkpoint(checkpoint)
    with artifact.open() as detector:
        parent = detector.spec.parents.get("checkpoint_sha256")
        if parent != loaded.sha256:
            raise BadInput(f"{artifact.path}: exported from {parent}, {checkpoint} is {loaded.sha256}")
        torch.set_num_threads(detector.backend.threads)
        plain = PlainDetector(loaded, detector.spec.post, detector.spec.input.size_hw)
        match, agrees = agreement(plain, detector, paths)
        candidates = [plain.candidates(path) for path in paths]
        ours = (lambda: detector(list(paths))) if folder else (lambda: [detector(path) for path in paths])
        before = snapshot()
        times_ms = in_turns({"plain": lambda: [plain(path) for path in paths], "ours": ours}, rounds, warm_up=1)
        conditions = between(before, snapshot())
        about = artifact.about(detector)
    count = len(paths)
    return {
        **about,
        "checkpoint_sha256": loaded.sha256,
        "pictures": count,
        "rounds": rounds,
        "calls": "one for all pictures" if folder else "one per picture",
        "candidates_per_picture": sum(candidates) / count,
        "plain_ms": sum(times_ms["plain"]) / rounds / count,
        "ours_ms": sum(times_ms["ours"]) / rounds / count,
        "times_as_fast": paired_ratio(times_ms["plain"], times_ms["ours"]).to_dict(),
        "match": asdict(match),
        "agrees": agrees,
        "conditions": conditions.to_dict(),
        "noise": conditions.noise,
    }


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", type=Path, metavar="FILE.pt", help="checkpoint")
    which.add_argument("--untrained", metavar="NAME", help="network with random weights, r50 say; exported here")
    parser.add_argument(
        "--file", action="append", default=[], metavar="FILE[@NAME=VALUE,...]", help="of the checkpoint"
    )
    parser.add_argument("--method", default="fcos", help="of --untrained (default %(default)s)")
    parser.add_argument("--candidates", type=int, default=300, help="of --untrained, per picture (default %(default)s)")
    parser.add_argument("--imgsz", default="640", help="of what is exported here, N or HxW (default %(default)s)")
    parser.add_argument(
        "--precisions", default="fp32", help="of what is exported here: fp32,int8 (default %(default)s)"
    )
    parser.add_argument("--data", help="for int8's ranges")
    parser.add_argument("--source", required=True, help="JPEG files")
    parser.add_argument("--pictures", type=int, default=16, help="at most so many of them (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=12, help="over all pictures (default %(default)s)")
    parser.add_argument("--folder", action="store_true", help="give our detector all pictures in one call")
    parser.add_argument("--at-least", type=float, metavar="X", help="times as fast, median")
    add_settings(parser)
    options = parser.parse_args(arguments)
    if min(options.rounds, options.pictures) < 1:
        raise BadInput("--rounds, --pictures: expected at least 1")
    paths = list_images(options.source)[: options.pictures]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, files = _files(options, Path(folder))
        rows = [measure(checkpoint, artifact, paths, options.rounds, options.folder) for artifact in files]
    names = {options.data: "DATA"} if options.data else {}
    command = public_command("plain.py", arguments, names)
    what = "the exported file beside eager PyTorch with post-processing in Python, from JPEG to boxes"
    publish(Report.here("plain", what, rows, command, {"limit": options.at_least}), LAYOUT, options)
    slow = [r for r in rows if options.at_least is not None and r["times_as_fast"]["median"] < options.at_least]
    return int(bool(slow) or not all(row["agrees"] for row in rows))


def _files(options: argparse.Namespace, folder: Path) -> tuple[Path, list[Artifact]]:
    """The checkpoint and its exported files; what is not there is made in ``folder``."""
    size_hw = Size.parse(options.imgsz)
    checkpoint = options.model
    if checkpoint is None:
        checkpoint = write_checkpoint(
            *(folder / f"{options.untrained}.pt", options.untrained, options.method, size_hw),
            thin=(read_image(list_images(options.source)[0]), options.candidates),
        )
    files = [parse_artifact(text, options) for text in options.file]
    settings = parse_artifact("", options).settings | {"threads": options.threads or available_cores()}
    for precision in () if files else options.precisions.split(","):
        path = folder / f"{options.untrained or checkpoint.stem}-{precision}.onnx"
        data = options.data if precision == "int8" else None
        export(checkpoint, path, ExportOptions(precision=precision, size_hw=size_hw, data=data, golden=0, verify=False))
        files.append(Artifact(path, settings))
    return checkpoint, files


if __name__ == "__main__":
    sys.exit(run("plain.py", main))
