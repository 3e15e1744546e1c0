"""From images on disk to boxes, against the bare run of the graph over the same batches.

    python benchmarks/throughput.py --model FILE --source DIR --work folder,picture --rounds 15 --out FILE.json

``folder``: all images in one call of Detector; ``picture``: one call for each. Against both, the library's own call
(``session.run``) over the very batches, prepared before. The two take turns in one process, and the ratio is taken
round by round. ``--limit-ratio`` (of the folder) and ``--limit-extra-ms`` (of an image) set the exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.listing import list_images
from aweigh.runtime.machine.conditions import between, snapshot
from support.artifact import Artifact, add_settings, bare_run, parse_artifact, prepared_batches
from support.paired import in_turns, paired_difference, paired_ratio
from support.reports.grid import Column, interval
from support.reports.layout import QUIET, SETTINGS_COLUMNS, Layout, tables
from support.reports.plots import Bars
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run

WORK = ("folder", "picture")


LAYOUT = Layout(
    tables(
        {
            "whole way against the bare run": (
                Column("model", "model"),
                *SETTINGS_COLUMNS,
                Column("work", "work"),
                Column("pictures/s", "pictures_per_s", ".1f"),
                Column("bare/s", "bare_pictures_per_s", ".1f"),
                Column("time over bare", interval("ratio")),
                Column("extra ms per picture", interval("extra_ms_per_picture", ".2f")),
                QUIET,
            )
        }
    ),
    plots=(Bars("time over the bare run", ("model", "work"), "ratio", "ratio", 1.0),),
)


def measure(artifact: Artifact, work: str, paths: Sequence[Path], rounds: int) -> Row:
    """One row: seconds and ratio of the whole way and of the bare run."""
    with artifact.open() as detector:
        batches = prepared_batches(detector, paths) if work == "folder" else []
        batches = batches or [batch for path in paths for batch in prepared_batches(detector, [path])]
        before = snapshot(str(artifact.settings.get("device", "cpu")))
        times_ms = in_turns({"whole": whole_way(detector, work, paths), "bare": bare_way(detector, batches)}, rounds)
        conditions = between(before, snapshot(str(artifact.settings.get("device", "cpu"))))
        about = artifact.about(detector)
        batch = detector.batch_size if work == "folder" else 1
    count = len(paths)
    extra = paired_difference(times_ms["whole"], times_ms["bare"])
    per_s = {name: count * 1e3 / (sum(values) / len(values)) for name, values in times_ms.items()}
    return {
        **about,
        "work": work,
        "pictures": count,
        "batch": batch,
        "rounds": rounds,
        "pictures_per_s": per_s["whole"],
        "bare_pictures_per_s": per_s["bare"],
        "ratio": paired_ratio(times_ms["whole"], times_ms["bare"]).to_dict(),
        "extra_ms_per_picture": {
            **extra.to_dict(),
            **{key: getattr(extra, key) / count for key in ("median", "low", "high")},
        },
        "conditions": conditions.to_dict(),
        "noise": conditions.noise,
    }


def whole_way(detector: Detector, work: str, paths: Sequence[Path]) -> Callable[[], object]:
    """All pictures from file to boxes: in one call, or one by one."""
    if work == "folder":
        return lambda: detector(list(paths))
    return lambda: [detector(path) for path in paths]


def bare_way(detector: Detector, batches: Sequence[object]) -> Callable[[], object]:
    """The same batches through the library alone."""
    bare = bare_run(detector)
    return lambda: [bare(batch) for batch in batches]  # type: ignore[arg-type]


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--model", required=True, action="append", metavar="FILE[@NAME=VALUE,...]", help="repeatable")
    parser.add_argument("--source", required=True, help="picture, folder or pattern")
    parser.add_argument("--work", default="folder,picture", help="default %(default)s")
    parser.add_argument("--pictures", type=int, default=64, help="at most so many of them (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="default %(default)s")
    parser.add_argument("--limit-ratio", type=float, help="folder: time over that of the bare run, median")
    parser.add_argument("--limit-extra-ms", type=float, help="picture: beyond the bare run, median")
    add_settings(parser)
    options = parser.parse_args(arguments)
    kinds = options.work.split(",")
    if unknown := set(kinds) - set(WORK):
        raise BadInput(f"--work {', '.join(sorted(unknown))}: expected some of {', '.join(WORK)}")
    if options.rounds < 1 or options.pictures < 1:
        raise BadInput(f"--rounds {options.rounds}, --pictures {options.pictures}: expected at least 1")
    paths = list_images(options.source)[: options.pictures]
    artifacts = [parse_artifact(text, options) for text in options.model]
    rows = [measure(artifact, work, paths, options.rounds) for artifact in artifacts for work in kinds]
    what = "pictures from files to boxes, against the bare run of the graph over the same batches"
    about = {"limit_ratio": options.limit_ratio, "limit_extra_ms": options.limit_extra_ms}
    publish(Report.here("throughput", what, rows, public_command("throughput.py", arguments), about), LAYOUT, options)
    limits = {"folder": ("ratio", options.limit_ratio), "picture": ("extra_ms_per_picture", options.limit_extra_ms)}
    beyond = [
        row for row in rows for key, limit in [limits[row["work"]]] if limit is not None and row[key]["median"] > limit
    ]
    return int(bool(beyond))


if __name__ == "__main__":
    sys.exit(run("throughput.py", main))
