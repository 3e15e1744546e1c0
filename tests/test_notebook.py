"""The notebook of the documentation: it runs, and what it shows was shown by a run."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from source_tree import ROOT

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
MOST_BYTES = 300_000
# What makes the run of a reader long, and shorter values; each occurs once.
SHORTER = {
    "iterations = 1250": "iterations = 2",
    "train=1000, val=40, test=40": "train=4, val=2, test=8, size_hw=(64, 64)",
    '"imgsz": 128, "batch": 16': '"imgsz": 64, "batch": 2, "threads": 1',
    'data="shapes"': 'data="shapes", threads=1',
    'Detector("shapes.onnx")': 'Detector("shapes.onnx", threads=1)',
}


def test_what_is_stored_is_a_whole_run_and_small() -> None:
    book = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {mime for cell in code for output in cell.outputs for mime in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert NOTEBOOK.stat().st_size < MOST_BYTES


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "jupyter"))  # no settings of the user's
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # jupyter_core warns without it
    book = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    source = "\n".join(cell.source for cell in book.cells)
    assert {text: source.count(text) for text in SHORTER} == dict.fromkeys(SHORTER, 1)
    for cell in book.cells:
        for text, shorter in SHORTER.items():
            cell.source = cell.source.replace(text, shorter)
    client = NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = {
        output.get("data", {}).get("text/plain", "").partition(" ")[0]
        for cell in book.cells
        for output in cell.get("outputs", [])
    }
    assert {"<TrainResult", "<Evaluation", "<ExportResult", "<Detector", "<Detections"} <= shown
