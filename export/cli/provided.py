"""What the export stage does for verbs of the runtime, which cannot import it."""

from __future__ import annotations

from pathlib import Path


def exported_checkpoint(checkpoint: Path, folder: Path) -> Path:
    """For ``aweigh predict`` with a checkpoint: an ONNX file of it in ``folder``, without a proof or a receipt."""
    from aweigh.export.jobs.contract import file_spec
    from aweigh.export.jobs.options import ExportOptions
    from aweigh.export.to_onnx import export_onnx
    from aweigh.train.checkpoint import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    path = folder / f"{checkpoint.stem}.onnx"
    export_onnx(loaded.detector(), file_spec(loaded, ExportOptions()), path)
    return path
