"""What the training stage does for verbs of the runtime, which cannot import it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aweigh.runtime.compare.comparison import LabelledImage
    from aweigh.runtime.machine.doctor import TorchFacts
    from aweigh.train.doctor.report import DoctorReport


def labelled_images(data: str, split_name: str) -> list[LabelledImage]:
    """For ``aweigh compare --data``; crowds and difficult objects are left out, since no detection of them counts."""
    from aweigh.runtime.compare.comparison import LabelledImage
    from aweigh.train.data.open import load_split

    split = load_split(data, split_name)
    return [
        LabelledImage(
            path=record.path,
            boxes_xyxy=record.boxes_xyxy[record.targets],
            names=tuple(split.categories[label].name for label in record.labels[record.targets].tolist()),
        )
        for record in split.records
    ]


def examine_data(
    data: str, splits: tuple[str, ...], *, model: str, method: str, imgsz: str, out: Path | None
) -> DoctorReport:
    """For ``aweigh doctor --data``."""
    from aweigh.train.doctor import report

    return report.examine_data(data, splits, model=model, method=method, imgsz=imgsz, out=out)


def torch_facts() -> TorchFacts:
    """For ``aweigh doctor``."""
    import torch

    from aweigh.runtime.machine.doctor import TorchFacts

    devices = tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return TorchFacts(torch.__version__, torch.version.cuda, devices)
