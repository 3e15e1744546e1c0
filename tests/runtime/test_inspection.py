from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.runtime.inspection import inspect_model
from aweigh.runtime.spec import ModelSpec

pytestmark = pytest.mark.usefixtures("only_runtime_verbs")


def test_json(model: Path, spec: ModelSpec, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--model", str(model), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    facts = json.loads(captured.out)
    assert facts["file"] == str(model)
    assert facts["bytes"] == model.stat().st_size
    assert facts["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert facts["inputs"] == [{"name": "images", "type": "tensor(uint8)", "shape": ["B", 64, 96, 3]}]
    assert {o["name"] for o in facts["outputs"]} == {"num_dets", "boxes", "scores", "labels"}
    assert ModelSpec.from_dict(facts["spec"]) == spec
    assert facts["graph"]["opsets"] == {"ai.onnx": 18}
    assert facts["graph"]["operators"]["Conv"] == 1
    assert facts["receipt"] is None


def test_table(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--model", str(model)]) == 0
    table = capsys.readouterr().out
    for words in ("['B', 64, 96, 3]", "17: left half, 3: whole", "letterbox 64x96", "1 to 4", "none next to the file"):
        assert words in table


def test_raw_files_can_be_inspected(make_model: Callable[..., Path]) -> None:
    facts = inspect_model(make_model(post={"kind": "raw"}))
    assert [o.name for o in facts.outputs] == ["boxes", "scores"]


@pytest.mark.parametrize("about_this_file", [True, False])
def test_receipt(model: Path, about_this_file: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert receipt_path(model) == model.parent / "red.receipt.json"
    sha256 = file_sha256(model) if about_this_file else "0" * 64
    receipt_path(model).write_text(json.dumps({"verdict": "passed", "sha256": sha256}))
    assert inspect_model(model).to_dict()["receipt"] == {
        "file": str(receipt_path(model)),
        "verdict": "passed",
        "sha256_matches": about_this_file,
        "parent_matches": False,
    }
    assert main(["inspect", "--model", str(model)]) == 0
    assert ("passed, about this file" if about_this_file else "ANOTHER file") in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{", "[]", "3"])
def test_a_broken_receipt_is_named(model: Path, content: str) -> None:
    receipt_path(model).write_text(content)
    with pytest.raises(BadInput, match=r"red\.receipt\.json"):
        inspect_model(model)


def test_files_of_others(make_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--model", str(make_model(metadata=None))]) == 2
    assert "not one of aweigh's" in capsys.readouterr().err


def test_brackets_in_names_are_no_markup(make_model: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    path = make_model("[red]best[red].onnx")
    assert main(["inspect", "--model", str(path)]) == 0
    assert "[red]best[red].onnx" in capsys.readouterr().out
