"""Recipes and flags: what is known is taken, what is not is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.runtime.values import help_texts
from aweigh.train.config import TrainConfig, make_config, read_recipe
from aweigh.train.methods import METHODS
from aweigh.train.models.detector import ARCHITECTURES


def test_recipe_round_trip(tmp_path: Path) -> None:
    import yaml

    config = make_config({"data": "x", "epochs": 7, "options": {"refine": False}, "steps": [0.5, 0.75]})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert make_config(read_recipe(tmp_path / "recipe.yaml")) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "--data"),
        ({"data": "x", "epoch": 3}, "'epoch'"),
        ({"data": "x", "epochs": 0}, "--epochs 0"),
        ({"data": "x", "epochs": 1.5}, "epochs: got 1.5"),
        ({"data": "x", "batch": "many"}, "batch: got 'many'"),
        ({"data": "x", "optimizer": "adam"}, "adamw, sgd"),
        ({"data": "x", "imgsz": "0"}, "--imgsz"),
        ({"data": "x", "lr0": -1}, "--lr0"),
        ({"data": "x", "minutes": 0}, "--minutes"),
        ({"data": "x", "network": 3}, "network"),
        ({"data": "x", "channels_last": "perhaps"}, "channels_last"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        make_config(values)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1,\n", "\xff"])
def test_bad_recipe_files(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"recipe\.yaml"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--data", "nowhere"], 2, "nowhere"),
        (["--data", "nowhere", "--imgsz", "0"], 2, "--imgsz"),
        (["--data", "nowhere", "--method", "no-such"], 2, "fcos, dw, o2f"),
        (["--data", "nowhere", "--model", "no-such"], 2, "r18"),
        (["--data", "nowhere", "--model", "r18", "--config", "odd.yaml"], 2, "flop"),
        (["--data", "nowhere", "--device", "cuda:7"], 3, "cuda:7"),
        (["--data", "nowhere", "--device", "tpu"], 2, "tpu"),
        (["--data", "nowhere", "--method", "fcos", "--no-refine"], 2, "--no-refine"),
        (["--resume", "--name", "never-run"], 2, "never-run"),
        (["--resume", "--name", "mine", "--epochs", "9"], 2, "cannot change epochs"),
        (["--config", "no-such.yaml"], 2, "no-such.yaml"),
    ],
)
def test_bad_flags_end_with_a_message_and_their_exit_code(
    arguments: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.yaml").write_text("augment: {flop: 1}\n")
    assert main(["train", *arguments]) == code
    assert words in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.pt"))


def test_every_flag_is_explained() -> None:
    assert set(help_texts(TrainConfig)) == set(TrainConfig(data="x").to_dict())


def test_without_docstrings_every_flag_is_still_explained_in_whole_sentences() -> None:
    command = [sys.executable, "-OO", "-m", "aweigh.runtime.cli", "train", "--help"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"})
    joined = " ".join(printed.stdout.split())
    for name, text in help_texts(TrainConfig).items():
        assert (text.endswith(".") and text in joined) or name in (
            "network",
            "options",
            "augment",
            "steps",
            "undecayed",
        )


def test_the_texts_name_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert f"aweigh methods lists them. Known: {', '.join(METHODS)}. Default: dw." in shown
    for name in ARCHITECTURES:
        assert re.search(rf"\b{name.removesuffix('-dcn')}\b", help_texts(TrainConfig)["model"])
