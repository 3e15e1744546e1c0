"""A folder for any web server: the exported file, a page that runs it in the browser, and the same for Node."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aweigh.export.jobs.ort_web import VERSION, copy_ort_web
from aweigh.runtime.agreement.self_test import SelfTestRule
from aweigh.runtime.atomic import atomic_folder
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.golden import GOLDEN_KEY, decode_golden
from aweigh.runtime.files.onnx import OnnxFile, read_onnx
from aweigh.runtime.images.shown_classes import shown_classes
from aweigh.runtime.pages import render, static_files
from aweigh.runtime.spec import ModelSpec

_PAGES, _SHARED = "aweigh.export.web", "aweigh.runtime.browser"
_LICENCES = f"""What this folder holds, and under which licence:

model.onnx, model.json, golden.json   the model and its golden images: as its makers say
ort/                                  onnxruntime-web {VERSION}, MIT: ort/LICENSE.txt
everything else                       aweigh, Apache-2.0: http://www.apache.org/licenses/LICENSE-2.0
node_modules/, after npm ci           each package's own; package-lock.json names them
"""
_VERSION_DIGITS = 12  # of the file's sha256, as a server shows it


@dataclass(frozen=True)
class WebResult:
    """A written folder, and the exported file that was copied into it.

    Attributes:
        size_bytes: of all files in the folder.
        golden: number of golden images that the page runs when it is opened.
    """

    artifact: Path
    wrapped: Path
    size_bytes: int
    golden: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "artifact": str(self.artifact),
            "wrapped": str(self.wrapped),
            "bytes": self.size_bytes,
            "golden": self.golden,
            "onnxruntime_web": VERSION,
            "verdict": "written",
        }


def write_web(model: Path, out: Path | None = None, ort_web: Path | None = None) -> WebResult:
    """Write the folder, whole or not at all; free of torch.

    Args:
        model: a file that ``aweigh export`` wrote.
        out: the folder; by default ``web/NAME`` next to the file.
        ort_web: see ``copy_ort_web``.

    Raises:
        BadInput: not such a file, one that a browser cannot run, or a folder with files in it.
        CannotRun: onnxruntime-web cannot be had.
    """
    content = read_onnx(model)
    spec = content.spec(model)
    _require_runnable(model, spec)
    golden = content.metadata.get(GOLDEN_KEY)
    count = len(decode_golden(golden)) if golden else 0
    target = out or model.parent / "web" / model.stem
    with atomic_folder(target) as folder:
        copy_ort_web(folder / "ort", ort_web)
        pages, shared = static_files(_PAGES), static_files(_SHARED)
        del pages["index.html"], shared["page.html"]  # templates
        (folder / "ort" / "LICENSE.txt").write_bytes(pages.pop("onnxruntime-license.txt"))
        for name, file in {**shared, **pages}.items():
            (folder / name).write_bytes(file)
        (folder / "index.html").write_text(render(_PAGES, "index.html", name=model.stem), encoding="utf-8")
        (folder / "LICENSES.txt").write_text(_LICENCES, encoding="utf-8")
        (folder / "model.onnx").write_bytes(content.content)
        if golden:
            (folder / "golden.json").write_text(golden, encoding="utf-8")
        description = json.dumps(_described(model.stem, content, spec, count), ensure_ascii=False)
        (folder / "model.json").write_text(description, encoding="utf-8")
        size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return WebResult(target, model, size_bytes, count)


def _described(name: str, content: OnnxFile, spec: ModelSpec, golden: int) -> dict[str, Any]:
    """What the page has to know; the keys of a server's description of a model, and the contract."""
    height, width = spec.input.size_hw
    return {
        "name": name,
        "version": content.sha256[:_VERSION_DIGITS],
        "sha256": content.sha256,
        "bytes": len(content.content),
        "golden": golden,
        "precision": spec.precision,
        "input": {"height": height, "width": width, "resize": spec.input.resize},
        "score_threshold": spec.post.score_threshold,
        "classes": [shown.to_dict() for shown in shown_classes(spec)],
        "rule": asdict(SelfTestRule.of(spec.precision)),
        "aweigh": version("aweigh"),
        "spec": spec.to_dict(),
    }


def _require_runnable(model: Path, spec: ModelSpec) -> None:
    if spec.post.kind == "raw":
        raise BadInput(f"{model}: exported with --post raw, without detections to show; export it with --post auto")
    if spec.precision == "bf16":
        raise BadInput(f"{model}: in bf16, which ONNX Runtime does not compute in a browser; export it in fp32 or fp16")
    if spec.input.interpolation != "linear":
        raise BadInput(
            f"{model}: resizes by {spec.input.interpolation!r}; the page can resize exactly as the runtime by 'linear' "
            "alone; serve the file with aweigh serve"
        )
