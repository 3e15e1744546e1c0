"""The flags of ``aweigh train``."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from checkpoints import save_untrained

from aweigh.runtime.cli.main import main
from aweigh.train.data.shapes import generate_shapes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_shapes(tmp_path_factory.mktemp("data") / "shapes", train=4, val=2, size_hw=(64, 64))


SHORT = ("iterations=1", "batch=2", "threads=1", "workers=0", "precision=fp32")


def recorded(run: Path) -> dict[str, object]:
    values: dict[str, object] = yaml.safe_load((run / "args.yaml").read_text())
    return values


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["augment.flip=x"], "--augment.flip: got 'x', expected float"),
        (["augment.flip=3"], "flip = 3.0; expected 0 to 1"),
        (["--augment.short-sides-px", "[1"], "expected a number, true, false or a list as [1, 2]"),
        (["augment.flp=1"], "did you mean --augment.flip?"),
        (["network.channels=wide"], "--network.channels: got 'wide', expected int"),
        (["network.channels=2"], "cannot be built"),
        (["model=absent.pt"], "absent.pt"),
        (["model=r19"], "or a checkpoint (.pt) to go on from"),
    ],
)
def test_bad_values(words: list[str], expected: str, shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(shapes), *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert expected in line


def test_single_values_of_a_recipe(shapes: Path, tmp_path: Path) -> None:
    """Those of --config stay beside them."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"augment": {"hue": 0.0, "flip": 1.0}, "network": {"width": 16, "convs": 1}}))
    words = ["model=nano", "imgsz=64", f"config={recipe}", "augment.flip=0", "network.channels=16", *SHORT]
    assert main(["train", str(shapes), *words, f"project={tmp_path}", "name=run", "augment.random_place=false"]) == 0
    values = recorded(tmp_path / "run")
    assert values["augment"] == {"hue": 0.0, "flip": 0.0, "random_place": False}
    assert values["network"] == {"width": 16, "convs": 1, "channels": 16}


@pytest.mark.parametrize("method", ["dw", "fcos"])
def test_a_checkpoint_as_the_model_is_fine_tuned(
    method: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = save_untrained("dw", tmp_path / "best.pt")
    given = [] if method == "dw" else [f"method={method}"]
    assert main(["train", str(shapes), str(best), *given, *SHORT, f"project={tmp_path}", f"name={method}"]) == 0
    assert f"goes on from this nano, trained with dw, at 128x160 pixels (letterbox), with {method}" in (
        capsys.readouterr().err
    )
    values = recorded(tmp_path / method)
    assert (values["model"], values["weights"], values["method"], values["imgsz"]) == (
        "nano",
        str(best),
        method,
        "128x160",
    )
    assert values["network"] == {"width": 16, "channels": 16, "convs": 1}
    assert main(["train", str(shapes), str(best), "weights=imagenet", *SHORT]) == 2
    assert "the weights are those of the checkpoint" in capsys.readouterr().err


def test_help_is_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: aweigh train DATA [--method METHOD]")
    groups = [
        "what is trained:",
        "how long:",
        "machine:",
        "optimisation:",
        "augment.NAME=VALUE:",
        "network.NAME=VALUE:",
    ]
    assert [text.index(group) for group in groups] == sorted(text.index(group) for group in groups)
