"""Receipts of honest and of planted files, over draws of the images they are made on; outputs of networks are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from aweigh.export.proof.metrics.ap import ApComparison, compare_ap, evaluate_side
from aweigh.export.proof.prove import Scope, receipt_of
from aweigh.export.proof.receipt import Receipt
from aweigh.export.proof.sides import OnnxSide, Side, Trained
from aweigh.runtime.agreement.tolerances import TOLERANCES
from aweigh.runtime.errors import AweighError
from aweigh.runtime.files.digest import file_sha256
from aweigh.runtime.network import ImagesU8, Network, Outputs
from aweigh.runtime.precision import Precision
from aweigh.runtime.spec import METADATA_KEY, ModelSpec
from aweigh.train.process.console import say
from support.receipts.models import Model
from support.receipts.planted import FAULTS
from support.reports.report import Row

HONEST = "none"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


class Kept:
    """A network that computes each batch once."""

    def __init__(self, network: Network) -> None:
        self.spec: ModelSpec = network.spec
        self._network = network
        self.infer = kept(network.infer)

    def close(self) -> None:
        self._network.close()


def kept(infer: Callable[[ImagesU8], Outputs]) -> Callable[[ImagesU8], Outputs]:
    """The same function, which computes each batch once."""
    held: dict[tuple[Any, ...], Outputs] = {}

    def once(images_u8: ImagesU8) -> Outputs:
        key = (images_u8.shape, images_u8.tobytes())
        if key not in held:
            held[key] = infer(images_u8)
        return held[key]

    return once


class KeptTrained(Trained):
    """The trained model, which computes each batch once, with and without its stages."""

    def __init__(self, model: Model) -> None:
        with OnnxSide(model.file("fp32", 0), threads=1) as file:
            like = file.spec
        super().__init__(model.checkpoint, like)
        self.network = Kept(self.network)
        self.evaluated = evaluate_side(self, model.split)
        self.ap: dict[str, ApComparison | None] = {}  # by sha256 of the other file: it does not depend on the draw
        self._with_stages = kept(super().with_stages)

    def with_stages(self, images_u8: ImagesU8) -> Outputs:
        return self._with_stages(images_u8)


@dataclass(frozen=True)
class Case:
    """A file to make receipts of: ``fault`` is HONEST or a name in FAULTS."""

    precision: Precision
    fault: str


def cases(precisions: Sequence[Precision], faults: Sequence[str]) -> list[Case]:
    """Honest files first, then the faults of one precision after the other."""
    honest = [Case(precision, HONEST) for precision in precisions]
    return honest + [Case(precision, fault) for precision in precisions for fault in faults]


class Log:
    """Finished rows as lines of JSON, so that a run goes on where it was stopped; half a line is left out.

    Processes that measure different data sets may share one: each line is written at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        self.rows: list[Row] = [json.loads(line) for line in lines if line.endswith("\n")]

    def add(self, row: Row) -> None:
        self.rows.append(row)
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps(row).encode() + b"\n")

    def has(self, **values: Any) -> bool:
        return any(all(row[name] == value for name, value in values.items()) for row in self.rows)


def measure(model: Model, case: Case, draw: int, log: Log, trained: KeptTrained) -> None:
    """The receipt of one file in one draw, where it is not in the log yet."""
    about: Row = {"data": model.data, "method": model.method, "precision": case.precision, "fault": case.fault}
    about |= {"checkpoint": model.checkpoint.sha256, "draw": draw}
    if log.has(**about):
        return
    path = planted(model.file(case.precision, draw), case.fault, model.folder / "planted.onnx")
    if path is not None:
        log.add(about | outcome(path, model, draw, trained))
        say(" ".join(str(log.rows[-1][key]) for key in _SAID))


_SAID = ("data", "method", "precision", "fault", "draw", "verdict", "failed")


def outcome(path: Path, model: Model, draw: int, trained: KeptTrained) -> Row:
    """The verdict on a file in a draw, and all its checks; what cannot be opened or run is refused, no miss."""
    try:
        with OnnxSide(path, threads=1) as subject:
            ap = _ap(subject, trained, model)
            return _row(receipt_of(subject, trained, model.split, scope=Scope(seed=draw), ap=ap))
    except AweighError as error:
        return {"verdict": "refused", "failed": [str(error)], "checks": []}


def _ap(subject: Side, trained: KeptTrained, model: Model) -> ApComparison | None:
    """AP of both on the split; None where the file does not run."""
    if subject.sha256 not in trained.ap:
        try:
            exported = evaluate_side(subject, model.split)
        except AweighError:
            trained.ap[subject.sha256] = None
        else:
            tolerances = TOLERANCES[subject.spec.precision]
            trained.ap[subject.sha256] = compare_ap(exported, trained.evaluated, model.split, tolerances)
    return trained.ap[subject.sha256]


_AP_KEPT = ("trained", "difference", "difference_beside", "interval")


def _row(receipt: Receipt) -> Row:
    return {
        "verdict": receipt.verdict,
        "failed": [check.name for check in receipt.checks if not check.passed],
        "failed_at": receipt.failed_at,
        "checks": [check.to_dict() for check in receipt.checks],
        "ap": receipt.ap and {name: value for name, value in receipt.ap.to_dict().items() if name in _AP_KEPT},
        "detections": receipt.detections,
    }


def planted(honest: Path, fault: str, path: Path) -> Path | None:
    """The file with a fault in it; None for a fault that such a file cannot have."""
    if fault == HONEST:
        return honest
    model = onnx.load(honest)
    spec = next(ModelSpec.from_json(prop.value) for prop in model.metadata_props if prop.key == METADATA_KEY)
    if not FAULTS[fault].fits(spec):
        return None
    FAULTS[fault].plant(model, spec)
    onnx.save(model, path)
    assert file_sha256(path) != file_sha256(honest)
    return path
