"""What one stage does for the verbs of another, which may not import it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from aweigh.runtime.compare.comparison import LabelledImage
    from aweigh.runtime.machine.doctor import TorchFacts
    from aweigh.runtime.spec import ModelSpec


class DataReport(Protocol):
    """The examination of a data set, for ``aweigh doctor --data``."""

    @property
    def passed(self) -> bool:
        """Whether no finding is an error."""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""


class ExaminesData(Protocol):
    """Examines a data set: see ``aweigh.train.doctor``."""

    def __call__(
        self,
        data: str,
        splits: tuple[str, ...],
        *,
        model: str,
        method: str,
        imgsz: str,
        out: Path | None,
        val_share: float,
        test_share: float,
        split_seed: int,
        outside_images: bool,
    ) -> DataReport: ...


@dataclass
class Provided:
    """Functions that a stage puts here when it registers its verbs; None where the stage is not installed.

    Attributes:
        labelled_images: the images of a split with their objects, for ``aweigh compare --data``: (contract of a model,
            data set, split, whether images outside of its folder are read).
        examine_data: for ``aweigh doctor --data``.
        exported_checkpoint: for ``aweigh predict`` with a checkpoint: (checkpoint, folder for the file) to the ONNX
            file.
        torch_facts: version and devices of torch, for ``aweigh doctor``.
    """

    labelled_images: Callable[[ModelSpec, str, str, bool], list[LabelledImage]] | None = None
    examine_data: ExaminesData | None = None
    exported_checkpoint: Callable[[Path, Path], Path] | None = None
    torch_facts: Callable[[], TorchFacts] | None = None
