"""From the arguments of ``aweigh doctor --data`` to its report: as a value, and as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.json_text import json_text
from aweigh.runtime.size import Size
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.division import Shares
from aweigh.train.data.records import Split
from aweigh.train.doctor.examination import Examination, examine
from aweigh.train.doctor.page import write_page
from aweigh.train.doctor.sizes import Pyramid
from aweigh.train.methods import Method, make_method, method_class
from aweigh.train.models.detector import architecture
from aweigh.train.models.fpn import FPN
from aweigh.train.run.data import auto_size, object_sizes

REPORT_NAME, PAGE_NAME = "doctor.json", "doctor.html"


@dataclass(frozen=True)
class DoctorReport:
    """What ``aweigh doctor --data`` reports.

    Attributes:
        page: the HTML page that was written; None without an output folder.
    """

    examination: Examination
    page: Path | None

    @property
    def passed(self) -> bool:
        """Whether no finding is of grade error."""
        return self.examination.count("error") == 0

    def to_dict(self) -> dict[str, Any]:
        """What ``Examination.to_dict`` holds, and ``page``."""
        return {**self.examination.to_dict(), "page": None if self.page is None else str(self.page)}


def examine_data(
    data: str,
    splits: tuple[str, ...] = (),
    *,
    model: str = "r18",
    method: str = "dw",
    imgsz: str = "auto",
    out: Path | None = None,
    shares: Shares | None = None,
    outside_images: bool = False,
) -> DoctorReport:
    """Look for faults and oddities in a data set, and write ``doctor.html`` and ``doctor.json`` if ``out`` is given.

    Args:
        data, outside_images: as for ``load_split``.
        splits: names; empty for train, val and test as far as they exist, or for all where none of them does.
        model, method, imgsz: as for training: sizes of objects are judged at their network input and points.
        out: folder for the files, created if missing.
        shares: images to hold out for validation and testing, as for training.

    Raises:
        BadInput: no such data set or split, a file that cannot be read at all, no usable image in a split; an unknown
            model, method or size.

    Example:
        >>> report = examine_data(str(shapes), ("train", "val"), model="nano", imgsz="64")
        >>> report.passed
        True
        >>> [split["objects"] > 0 for split in report.to_dict()["splits"]]
        [True, True]
    """
    size, pyramid = architecture(model), Pyramid(FPN.strides, make_method(method, 1).point_offset)

    def input_for(split: Split) -> InputSpec:
        return InputSpec(auto_size(split, size.imgsz) if imgsz == "auto" else Size.parse(imgsz))

    def method_for(split: Split, input_spec: InputSpec) -> Method:
        sizes_px = object_sizes(split, input_spec)
        chosen = method_class(method).options_for(sizes_px, pyramid.strides, {})
        return make_method(method, 1, dict(chosen.options))

    examination = examine(data, splits, input_for, pyramid, shares, outside_images, method_for)
    report = DoctorReport(examination, None if out is None else out / PAGE_NAME)
    if out is not None and report.page is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_page(report.examination, report.page)
        with atomic_write(out / REPORT_NAME) as temporary:
            text = json_text(report.to_dict(), indent=2)
            temporary.write_text(text + "\n", "utf-8")
    return report
