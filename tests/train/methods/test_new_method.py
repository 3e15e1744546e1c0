"""A new method is one file and one line of the registry: everything that lists methods has it at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.conformance import RUNNERS, run_conformance
from aweigh.train.methods import METHODS, make_method, method_class
from aweigh.train.methods.base import Method

TINY = ("--model", "nano", "--imgsz", "64", "--batch", "8", "--threads", "1", "--workers", "0", "--iterations", "1")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    """The registry line; the file is tests/support/toy_method.py."""
    monkeypatch.setitem(METHODS, "toy", "toy_method:Toy")
    return "toy"


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_new_method_is_trained_evaluated_and_explored(
    toy: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("network: {width: 8, channels: 16, convs: 1}\n")
    train = ["train", "--data", str(shapes), "--config", str(recipe), *TINY, "--project", str(tmp_path)]
    result = run([*train, "--method", toy, "--toy-taught", "iou"], capsys)
    assert result["method"] == toy
    assert result["iterations_done"] == 1
    checkpoint = load_checkpoint(result["checkpoint"])
    assert checkpoint.options == {"taught": "iou"}
    assert checkpoint.spec.method == toy

    columns = (tmp_path / "train" / "results.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss_cls", "train/loss_bbox", "train/loss_obj"} <= set(columns)

    page = tmp_path / "page.html"
    assign = ["assign", "--model", result["checkpoint"], "--data", str(shapes), "--image", "1", "--out", str(page)]
    explored = run(assign, capsys)
    assert set(explored["quantities"]) == set(METHODS)
    for truth in explored["truths"]:
        assert truth["mass"][toy] == 1.0
    text = page.read_text(encoding="utf-8")
    assert "Toy" in text
    assert "toy centerness" in text


def test_a_new_method_stands_in_the_table_of_methods(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in run(["methods"], capsys)["methods"]}
    assert list(rows) == list(METHODS)
    assert rows[toy] == {
        "name": "toy",
        "title": "Toy",
        "paper": "none",
        "third_output": "toy centerness",
        "nms": True,
        "reference": False,
        "flags": [
            {
                "flag": "--toy-taught",
                "option": "taught",
                "choices": ["giou", "iou"],
                "help": "what teaches the toy's boxes",
            }
        ],
        "options": {"alpha": 0.25, "taught": "giou"},
    }
    assert [name for name, row in rows.items() if row["reference"]] == [n for n in METHODS if n in RUNNERS]
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    assert "toy centerness" in " ".join(shown.replace("│", " ").split())
    assert "…" not in shown


def test_a_new_method_has_its_name_and_flag_in_the_help(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, words in (("train", ("toy", "--toy-taught {giou,iou}")), ("assign", ("paa,ala,toy",))):
        assert main([verb, "--help"]) == 0
        shown = capsys.readouterr().out
        for word in words:
            assert word in shown


def test_a_new_method_has_no_reference_numbers_yet(toy: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    np.savez(tmp_path / "other" / "a.npz", dtype_compute=np.array("float32"))
    report = run_conformance(tmp_path).to_dict()
    assert report["passed"]
    row = next(case for case in report["cases"] if case["method"] == toy)
    assert row == {
        "method": "toy",
        "case": "*",
        "quantity": "*",
        "max_rel_err": None,
        "tol": None,
        "status": "not_built",
    }


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_class_of_a_registry_line(name: str) -> None:
    chosen = method_class(name)
    assert issubclass(chosen, Method)
    assert chosen.name == name
    assert chosen.title
    assert chosen.paper
    fields = set(chosen.config_class.__dataclass_fields__)
    for flag in chosen.flags:
        assert flag.option in fields
        values = flag.choices or (flag.value,)
        made = [make_method(name, 2, {flag.option: value}) for value in values]
        assert [getattr(method.config, flag.option) for method in made] == list(values)
        assert flag.choices or flag.value != getattr(chosen.config_class(), flag.option)


def test_flags_of_methods_do_not_collide() -> None:
    flags = [flag.flag for name in METHODS for flag in method_class(name).flags]
    assert len(flags) == len(set(flags))


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(BadInput, match="'no-such': expected one of fcos, dw"):
        method_class("no-such")


def test_the_registry_and_the_other_verbs_import_no_torch() -> None:
    code = (
        "import sys; from aweigh.train.methods import METHODS; from aweigh.runtime.cli.main import main;"
        "assert main(['--help']) == 0; assert main(['predict', '--help']) == 0;"
        "print(len(METHODS), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{len(METHODS)} False"
