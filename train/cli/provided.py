"""What the training stage does for verbs of the runtime, which cannot import it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aweigh.runtime.compare.comparison import LabelledImage
    from aweigh.runtime.machine.doctor import TorchFacts
    from aweigh.runtime.spec import ModelSpec
    from aweigh.train.doctor.report import DoctorReport


def labelled_images(spec: ModelSpec, data: str, split_name: str, outside_images: bool = False) -> list[LabelledImage]:
    """For ``aweigh compare --data``; crowds and difficult objects are left out, since no detection of them counts."""
    from aweigh.runtime.compare.comparison import LabelledImage
    from aweigh.train.data.open import load_split_of

    split = load_split_of(spec, data, split_name, outside_images=outside_images)
    return [
        LabelledImage(
            path=record.path,
            boxes_xyxy=record.boxes_xyxy[record.targets],
            names=tuple(split.categories[label].name for label in record.labels[record.targets].tolist()),
        )
        for record in split.records
    ]


def examine_data(
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
    outside_images: bool = False,
) -> DoctorReport:
    """For ``aweigh doctor --data``."""
    from aweigh.train.data.division import Shares
    from aweigh.train.doctor import report

    shares = Shares(val_share, test_share, split_seed)
    return report.examine_data(
        data,
        splits,
        model=model,
        method=method,
        imgsz=imgsz,
        out=out,
        shares=shares,
        outside_images=outside_images,
    )


def torch_facts() -> TorchFacts:
    """For ``aweigh doctor``."""
    import torch

    from aweigh.runtime.machine.doctor import TorchFacts

    devices = tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return TorchFacts(torch.__version__, torch.version.cuda, devices)
