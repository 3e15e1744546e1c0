"""``aweigh import``: released weights into a checkpoint, with a report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from aweigh.runtime.cli.output import console, emit_json
from aweigh.runtime.errors import BadInput

if TYPE_CHECKING:
    from aweigh.train.official.check import OfficialCheck
    from aweigh.train.official.convert import Import

# As in ``families``, which loads torch; a test holds the two together.
FAMILY_NAMES = ("autoassign_mmdet", "paa_mmdet", "fcos_mmdet", "dw", "o2f", "autoassign_cvpods", "paa_kkhoot")


def add_import(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--checkpoint",
        help="released file (.pth), or its https address: eight digits of its SHA-256 at the end of its "
        "name, after #sha256= or in --sha256 are compared",
    )
    which.add_argument("--name", help="a released detector whose address and digest are known, see --list")
    which.add_argument("--list", action="store_true", help="list these detectors")
    parser.add_argument("--sha256", metavar="DIGITS", help="SHA-256 of --checkpoint, or its first digits (at least 8)")
    parser.add_argument(
        "--family", choices=("auto", *FAMILY_NAMES), default="auto", help="whose code wrote it (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="checkpoint to write (.pt); default: NAME.pt of --name")
    parser.add_argument(
        "--gn-groups",
        type=int,
        default=32,
        help="groups of the head's normalisation layers, which no file records (default 32)",
    )
    parser.add_argument("--check", type=Path, help="stored outputs of the official code (.npz) to compare with")


def run_import(arguments: argparse.Namespace) -> int:
    """Exit code 1 where the check disagrees; the checkpoint is written all the same, for inspection."""
    from aweigh.train.checkpoint import save_checkpoint
    from aweigh.train.official.check import check_against
    from aweigh.train.official.convert import import_released
    from aweigh.train.weights.source import fetch_weights

    if arguments.list:
        return _list(arguments.json)
    out, source = _out_and_source(arguments)
    if out.suffix != ".pt":
        raise BadInput(f"--out {out}: expected a name that ends in .pt")
    released = fetch_weights(source, "--checkpoint" if arguments.name is None else f"--name {arguments.name}")
    if out.resolve() == released.resolve():
        raise BadInput(f"--out {out}: is the file that is read")
    imported = import_released(released, arguments.family, arguments.gn_groups)
    check = check_against(imported.checkpoint, arguments.check) if arguments.check else None
    save_checkpoint(imported.checkpoint, out)
    report: dict[str, Any] = {"checkpoint": str(out), **imported.to_dict(), "check": check.to_dict() if check else None}
    if arguments.json:
        emit_json(report)
    else:
        _print(imported, check, out)
    return 0 if check is None or check.passed else 1


def _out_and_source(arguments: argparse.Namespace) -> tuple[Path, str]:
    """Where the checkpoint is written, and where the weights come from."""
    from aweigh.train.official.zoo import released_source, zoo_source

    if arguments.name is not None:
        if arguments.sha256 is not None:
            raise BadInput("--sha256: belongs to --checkpoint; the digest of --name is known")
        return arguments.out or Path(f"{arguments.name}.pt"), zoo_source(arguments.name)
    if arguments.out is None:
        raise BadInput("--out is missing: name the checkpoint to write (.pt)")
    return arguments.out, released_source(arguments.checkpoint, arguments.sha256)


def _list(as_json: bool) -> int:
    from aweigh.train.official.zoo import ZOO

    if as_json:
        emit_json({"models": [model.to_dict() for model in ZOO.values()]})
        return 0
    table = Table("--name", "AP on COCO, as published", "file", title="released detectors", title_justify="left")
    for model in ZOO.values():
        table.add_row(model.name, f"{model.ap:.1f}", model.file)
    console().print(table)
    console().print(
        "The authors' own releases are on Google Drive, which has no addresses for programs: docs/official-weights.md "
        "lists them; fetch one with a browser and give it with --checkpoint FILE"
    )
    return 0


def _print(imported: Import, check: OfficialCheck | None, path: Path) -> None:
    out = console()
    spec = imported.checkpoint.spec
    table = Table(show_header=False, title=f"{imported.family}: {len(imported.matched)} tensors", title_justify="left")
    table.add_row("method", spec.method)
    table.add_row("network", f"{spec.architecture} {imported.checkpoint.network or ''}")
    table.add_row("classes", f"{len(spec.categories)}, {spec.categories[0].name} to {spec.categories[-1].name}")
    table.add_row("input", f"{spec.input.color_order}, mean {spec.input.mean}, std {spec.input.std}")
    for reason in sorted(set(imported.ignored.values())):
        names = [name for name, why in imported.ignored.items() if why == reason]
        table.add_row("left out", f"{len(names)} ({reason}): {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")
    if imported.filled:
        table.add_row("not in the file", f"{len(imported.filled)} counters of batches, which inference does not use")
    table.add_row("checkpoint", str(path))
    out.print(table)
    if check is None:
        return
    stages = Table("stage", "largest error", "relative", "limit", "", title="against the official code")
    for stage in check.stages:
        mark = "" if stage.passed else "FAILED"
        stages.add_row(stage.stage, f"{stage.max_abs:.1e}", f"{stage.error:.1e}", f"{stage.tolerance:.1e}", mark)
    out.print(stages)
    for case in check.detections:
        match = case.match
        out.print(
            f"{case.case}: {match.compared} detections, lost {match.lost}, new {match.new}, relabelled "
            f"{match.relabelled}, moved {match.moved}; sides within {match.max_moved_px:.1e} px, scores within "
            f"{match.max_score_error:.1e}{'' if case.passed else ' FAILED'}"
        )
    out.print("passed" if check.passed else "FAILED")
