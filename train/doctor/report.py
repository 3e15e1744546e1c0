"""From the arguments of ``aweigh doctor --data`` to its report: as a value, and as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.size import Size
from aweigh.runtime.spec import InputSpec
from aweigh.train.data.records import Split
from aweigh.train.doctor.examination import examine
from aweigh.train.doctor.page import write_page
from aweigh.train.doctor.sizes import Pyramid
from aweigh.train.methods import make_method
from aweigh.train.models.detector import architecture
from aweigh.train.models.fpn import FPN
from aweigh.train.run.session import auto_size

REPORT_NAME, PAGE_NAME = "doctor.json", "doctor.html"


def report(data: str, splits: tuple[str, ...], model: str, method: str, imgsz: str, out: Path | None) -> dict[str, Any]:
    """What ``Examination.to_dict`` holds, with ``page``, the path of the HTML page (None without ``out``).

    Args:
        splits: see ``examine``.
        model, method, imgsz: as for training; sizes of objects are judged by them.
        out: folder for ``doctor.html`` and ``doctor.json``.

    Raises:
        BadInput: what ``examine`` raises; unknown model, method or size.
    """
    size, pyramid = architecture(model), Pyramid(FPN.strides, make_method(method, 1).point_offset)

    def input_for(split: Split) -> InputSpec:
        return InputSpec(auto_size(split, size.imgsz) if imgsz == "auto" else Size.parse(imgsz))

    examination = examine(data, splits, input_for, pyramid)
    page = None if out is None else out / PAGE_NAME
    content = {**examination.to_dict(), "page": None if page is None else str(page)}
    if out is not None and page is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_page(examination, page)
        with atomic_write(out / REPORT_NAME) as temporary:
            temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    return content
