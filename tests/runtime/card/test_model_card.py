"""aweigh card: the model card of an exported file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aweigh.runtime.card.model_card import CardOptions, model_card
from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.runtime.inspection import inspect_model

pytestmark = pytest.mark.usefixtures("only_runtime_verbs")

AP = {"AP": 0.53199, "AP50": 0.8, "AP75": 0.6, "AR100": 0.7}


@pytest.fixture
def with_receipt(model: Path) -> Path:
    receipt = {
        "verdict": "passed",
        "sha256": file_sha256(model),
        "pictures": "val split, 87 images",
        "ap": {"split": "val", "images": 87, "trained": AP, "exported": {**AP, "AP": 0.5}},
    }
    receipt_path(model).write_text(json.dumps(receipt))
    return model


def head_of(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", 2)
    return dict(yaml.safe_load(head))


def test_the_head_is_yaml_with_the_metrics_of_the_file(with_receipt: Path) -> None:
    options = CardOptions(license="apache-2.0", dataset='cells: "red"')
    head = head_of(model_card(inspect_model(with_receipt), options))
    assert head["license"] == "apache-2.0"
    assert head["pipeline_tag"] == "object-detection"
    assert head["datasets"] == ['cells: "red"']
    (result,) = head["model-index"][0]["results"]
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {**AP, "AP": 0.5}


def test_the_body_has_classes_verdict_both_models_and_origin(with_receipt: Path) -> None:
    card = model_card(inspect_model(with_receipt), CardOptions(starting_weights="lite0, Apache-2.0"))
    assert "| 17 | left half |" in card
    assert "**passed**, on val split, 87 images" in card
    assert "| AP | 0.5320 | 0.5000 |" in card
    assert file_sha256(with_receipt) in card
    assert "* starting weights: lite0, Apache-2.0" in card
    assert "* licence: not stated" in card


def test_without_a_receipt_nothing_is_claimed(model: Path) -> None:
    card = model_card(inspect_model(model))
    assert "There is no receipt of this file" in card
    assert "model-index" not in head_of(card)
    assert head_of(card)["license"] == "other"


def test_the_receipt_of_another_file_does_not_count(with_receipt: Path) -> None:
    found = json.loads(receipt_path(with_receipt).read_text())
    receipt_path(with_receipt).write_text(json.dumps({**found, "sha256": "0" * 64}))
    assert "There is no receipt of this file" in model_card(inspect_model(with_receipt))


def test_a_name_with_bars_stays_in_its_cell(make_model: Callable[..., Path]) -> None:
    from aweigh.runtime.spec import Category

    path = make_model("odd.onnx", categories=(Category(17, "a|b"), Category(3, "whole")))
    assert "| 17 | a\\|b |" in model_card(inspect_model(path))


def test_the_verb_writes_a_file_or_prints(
    with_receipt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", "--model", str(with_receipt)]) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "README.md"
    assert main(["card", "--model", str(with_receipt), "--out", str(out), "--json"]) == 0
    assert out.read_text(encoding="utf-8") == printed
    assert json.loads(capsys.readouterr().out) == {"card": printed, "out": str(out)}


def test_a_damaged_receipt_is_bad_input(with_receipt: Path) -> None:
    receipt_path(with_receipt).write_text("{")
    with pytest.raises(BadInput, match="receipt"):
        model_card(inspect_model(with_receipt))


@pytest.mark.parametrize("ap", [None, [], "x", {"exported": []}, {"exported": {"AP": "x"}, "trained": None}])
def test_a_receipt_without_metrics_gives_a_card_without_them(with_receipt: Path, ap: Any) -> None:
    found = json.loads(receipt_path(with_receipt).read_text())
    receipt_path(with_receipt).write_text(json.dumps({**found, "ap": ap}))
    card = model_card(inspect_model(with_receipt))
    assert "model-index" not in head_of(card)
    assert "**passed**" in card


@pytest.mark.parametrize(
    ("recorded", "line"),
    [
        ({"starting_weights": "none, random weights"}, "none, random weights"),
        (
            {
                "starting_weights": "resnet18-f37072fd.pth",
                "starting_weights_digest": "f3" * 32,
                "starting_weights_license": "BSD-3-Clause",
            },
            "resnet18-f37072fd.pth, licence BSD-3-Clause",
        ),
        (
            {"starting_weights": "own.pth\n# not a heading", "starting_weights_digest": "00" * 32},
            "own.pth # not a heading, whose licence is not recorded",
        ),
        ({}, "not stated"),
    ],
)
def test_the_starting_weights_are_those_that_training_recorded(
    recorded: dict[str, str], line: str, make_model: Callable[..., Path]
) -> None:
    facts = inspect_model(make_model("started.onnx", parents=recorded))
    assert f"* starting weights: {line}\n" in model_card(facts)
    assert "* starting weights: in words\n" in model_card(facts, CardOptions(starting_weights="in words"))
