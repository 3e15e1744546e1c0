"""One run of a comparison, by the commands a user would type: train or take what is there, evaluate, export, prove."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from aweigh.runtime.errors import AweighError, BadInput, CheckFailed
from aweigh.runtime.files.digest import file_sha256
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import TrainConfig, make_config, read_recipe
from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split
from aweigh.train.process.console import say
from aweigh.train.process.device import resolve_device, training_precision
from aweigh.train.run.data import hold_out
from aweigh.train.tracking.folder import RunDir, commit, versions
from support.methods.comparison import FIGURES, Variant, differences, recipe_of
from support.reports.report import Row

SPLITS = ("train", "val", "test")


class StepFailed(AweighError):
    """A command ended with an exit code that becomes ours."""

    def __init__(self, verb: str, code: int) -> None:
        super().__init__(f"aweigh {verb} ended with exit code {code}, see above; what was finished before is in --out")
        self.exit_code = code if code > 0 else 128 - code


def aweigh(*arguments: str) -> dict[str, Any]:
    """One command with --json; its messages go to this process' stderr. A failed receipt is a result, too."""
    command = [sys.executable, "-P", "-m", "aweigh.runtime.cli", *arguments, "--json"]
    # A process group of its own: Ctrl-C comes here, and one signal, not two, lets the training save what it has.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as child:
        try:
            out, _ = child.communicate()
        except BaseException:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.terminate()
            raise
    if child.returncode and not (arguments[0] == "export" and child.returncode == CheckFailed.exit_code and out):
        raise StepFailed(arguments[0], child.returncode)
    result: dict[str, Any] = json.loads(out)
    return result


@dataclass(frozen=True)
class Session:
    """What one call of this script works with.

    Attributes:
        recipe: keys of ``aweigh train`` for all runs.
        machine: flags of the machine for training.
        threads: the same for the other verbs.
        splits: of the data, by name.
        int8: whether each run is exported in INT8 too.
    """

    data: str
    project: Path
    recipe: dict[str, Any]
    machine: tuple[str, ...]
    threads: tuple[str, ...]
    splits: dict[str, Split]
    int8: bool = False

    def config(self, variant: Variant, seed: int) -> TrainConfig:
        own = {"method": variant.method, "options": variant.options, "seed": seed}
        return make_config({**self.recipe, **own, "data": self.data}, where="recipe")

    @cached_property
    def digests(self) -> dict[str, str]:
        return {name: split.digest() for name, split in self.splits.items()}


def open_session(
    data: str,
    project: Path,
    recipe: dict[str, Any],
    machine: tuple[str, ...] = (),
    threads: int | None = None,
    int8: bool = False,
    where: str = "recipe",
) -> Session:
    """Read the data, with the images that the recipe holds out. Raises BadInput before any work is done."""
    config = make_config({**recipe, "data": data}, where=where)
    # Runs are compared in one arithmetic, whichever machine has made them.
    recipe = {**recipe, "precision": training_precision(config.precision, resolve_device(config.device))}
    division = hold_out(config)
    splits = {
        name: load_split(data, name, config.faulty, division=division, outside_images=config.outside_images)
        for name in SPLITS
    }
    return Session(data, project, recipe, machine, ("--threads", str(threads)) if threads else (), splits, int8)


def trained(session: Session, variant: Variant, seed: int) -> tuple[RunDir, dict[str, Any], bool]:
    """The finished run, its summary, and whether it was resumed now.

    Raises BadInput where a run of another recipe or of other data has the name.
    """
    name = variant.run_name(seed)
    run = RunDir(session.project / name)
    place = ("--project", str(session.project), "--name", name)
    checkpoint = next((path for path in (run.last, run.best) if path.is_file()), None)
    if checkpoint is not None:
        require_same_run(run, checkpoint, session, variant, seed)
    if summary := finished(run):
        say(f"{name}: a finished run is there, not trained again")
        return run, summary, False
    if run.last.is_file():
        say(f"{name}: going on with the run that is there")
        aweigh("train", "--resume", *place)
        return run, json.loads((run.path / "summary.json").read_text(encoding="utf-8")), True
    say(f"{name}: training")
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({**session.recipe, "options": variant.options}), encoding="utf-8")
        summary = aweigh(
            *("train", "--config", str(recipe), "--data", session.data, "--method", variant.method),
            *("--seed", str(seed), *session.machine, *place, "--exist-ok"),
        )
    return run, summary, False


def finished(run: RunDir) -> dict[str, Any] | None:
    """summary.json, where it is about the weights that are there: a run begun anew leaves the old one lying."""
    path = run.path / "summary.json"
    if not path.is_file() or not run.best.is_file():
        return None
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return summary if summary["sha256"] == file_sha256(run.best) else None


def require_same_run(run: RunDir, checkpoint: Path, session: Session, variant: Variant, seed: int) -> None:
    """Raises BadInput unless the run was made with this recipe, on this data, wherever that lay."""
    path = run.path / "args.yaml"
    held = {key: value for key, value in read_recipe(path).items() if key != "resolved"}
    # Options that a training chose from its data are no part of the recipe.
    held["options"] = {key: value for key, value in held["options"].items() if key not in chosen(run, variant)}
    found = differences(recipe_of(make_config(held, where=str(path))), recipe_of(session.config(variant, seed)))
    digest = load_checkpoint(checkpoint).spec.parents.get("data_digest")
    if not found and digest != session.digests["train"]:
        found = f"digest of the training split: got {digest}, expected {session.digests['train']}"
    if found:
        raise BadInput(
            f"{run.path}: a run of another recipe has this name: {found}; take another --project, or the flags it was "
            "made with"
        )


def chosen(run: RunDir, variant: Variant) -> dict[str, Any]:
    """The options that the training chose from its data."""
    options: dict[str, Any] = run.recorded("chosen_options") or {}
    return {key: value for key, value in options.items() if key not in variant.options}


def measured(session: Session, variant: Variant, seed: int) -> Row:
    """A row: train or take what is there, evaluate, export, prove."""
    run, summary, resumed = trained(session, variant, seed)
    environment = json.loads((run.path / "env.json").read_text(encoding="utf-8"))
    about = {key: environment.pop(key) for key in ("commit", "versions", "device", "threads")}
    checkpoint = load_checkpoint(run.best)
    say(f"{run.path.name}: evaluating")
    row: Row = {
        "variant": variant.name,
        "method": variant.method,
        "options": variant.options,
        "chosen_options": chosen(run, variant),
        "seed": seed,
        "date": date.fromtimestamp((run.path / "summary.json").stat().st_mtime).isoformat(),
        **about,
        "machine": environment,
        "sha256": summary["sha256"],
        **speed(session.config(variant, seed).batch, summary, run.rows(), resumed),
        **progress(run.rows()),
        "val": figures(summary["val"]),
        "test": evaluated(session, run.best),
    }
    own = checkpoint.spec.post.kind
    for kind in kinds(own, session.int8):
        row[kind] = exported(session, run, kind, own)
    row["evaluated"] = {"date": date.today().isoformat(), "commit": commit(), "versions": versions()}
    return row


# Of each kind of file: post-processing, precision, name.
EXPORTS = {
    "onnx": ("auto", "fp32", "best-auto.onnx"),
    "onnx_nms": ("nms", "fp32", "best-nms.onnx"),
    "int8": ("auto", "int8", "best-int8.onnx"),
}


def kinds(own: str, int8: bool) -> tuple[str, ...]:
    """The files that are made of a run whose post-processing is ``own``."""
    return ("onnx", *(("onnx_nms",) if own != "nms" else ()), *(("int8",) if int8 else ()))


def artifact_of(run: RunDir, kind: str) -> Path:
    return run.best.with_name(EXPORTS[kind][2])


def exported(session: Session, run: RunDir, kind: str, own: str) -> dict[str, Any]:
    """A file of a run: its receipt, its size, its metrics on val, from the receipt, and on test."""
    post, precision, _ = EXPORTS[kind]
    artifact = artifact_of(run, kind)
    result = aweigh(
        *("export", "--model", str(run.best), "--post", post, "--precision", precision, "--batch", "1-8"),
        *("--out", str(artifact), "--data", session.data, *session.threads),
    )
    return {
        "post": own if post == "auto" else post,
        "receipt": result["verdict"],
        "failed": result["failed"],
        "sha256": result["sha256"],
        "bytes": result["bytes"],
        "val": {name: result["ap"]["exported"][name] for name in FIGURES},
        "test": evaluated(session, artifact),
    }


def progress(results: list[dict[str, str]], share: float = 0.9) -> dict[str, Any]:
    """AP on val at each validation, and the first iteration validated that has a share of the last one's."""
    curve = [(int(row["iteration"]), float(row["val/AP"])) for row in results if row.get("val/AP")]
    goal = share * curve[-1][1] if curve else 0.0
    reached = next((iteration for iteration, ap in curve if ap >= goal), None) if goal > 0 else None
    return {"curve": [list(point) for point in curve], "iterations_to_90": reached}


def evaluated(session: Session, model: Path) -> dict[str, Any]:
    faulty = ("--faulty", session.recipe.get("faulty", "drop"))
    return figures(
        aweigh("val", "--model", str(model), "--data", session.data, "--split", "test", *faulty, *session.threads)
    )


def figures(metrics: dict[str, Any]) -> dict[str, Any]:
    per_class = {c["name"]: c["AP"] for c in metrics["per_class"].values()}
    return {**{name: metrics[name] for name in (*FIGURES, "AR100")}, "per_class": per_class}


def speed(batch: int, summary: dict[str, Any], results: list[dict[str, str]], resumed: bool) -> dict[str, Any]:
    """Iterations, seconds, images per second over the whole run (validations count) and the median of results.csv.

    The seconds of a resumed run are those of its last part, and say nothing about the whole: faster than any part of it
    cannot be.
    """
    rates = [float(row["train/images_per_s"]) for row in results]
    iterations = int(results[-1]["iteration"])  # patience may end a run before summary's number
    overall = iterations * batch / summary["seconds"] if summary["seconds"] else float("inf")
    resumed = resumed or overall > 1.01 * max(rates)
    return {
        "iterations": iterations,
        "seconds": summary["seconds"],
        "resumed": resumed,
        "images_per_s": None if resumed else round(overall, 2),
        "images_per_s_median": statistics.median(rates),
    }
