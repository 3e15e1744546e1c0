"""What one stage does for the verbs of another, which may not import it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from aweigh.runtime.compare.comparison import LabelledImage
    from aweigh.runtime.machine.doctor import TorchFacts


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
        self, data: str, splits: tuple[str, ...], *, model: str, method: str, imgsz: str, out: Path | None
    ) -> DataReport: ...


@dataclass
class Provided:
    """Functions that a stage puts here when it registers its verbs; None where the stage is not installed.

    Attributes:
        labelled_images: the images of a split with their objects, for ``aweigh compare --data``: (data set, split).
        examine_data: for ``aweigh doctor --data``.
        torch_facts: version and devices of torch, for ``aweigh doctor``.
    """

    labelled_images: Callable[[str, str], list[LabelledImage]] | None = None
    examine_data: ExaminesData | None = None
    torch_facts: Callable[[], TorchFacts] | None = None
