"""Options of a method that follow from the data: chosen, printed, recorded, and the same after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import make_config, read_recipe, shipped
from aweigh.train.data.open import load_split
from aweigh.train.data.shapes import ShapesConfig, generate_shapes
from aweigh.train.doctor.report import examine_data
from aweigh.train.methods.base import ChosenOptions
from aweigh.train.methods.paa import PAA
from aweigh.train.run.data import make_spec, object_sizes
from aweigh.train.run.session import train
from aweigh.train.tracking.folder import RunDir


@pytest.fixture(scope="module")
def small_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes of 8 to 12 pixels."""
    config = ShapesConfig(min_px=8, max_fraction=0.12)
    folder = tmp_path_factory.mktemp("small") / "shapes"
    return generate_shapes(folder, train=12, val=4, size_hw=(96, 96), config=config)


def recipe(data: Path, project: Path, **changes: Any) -> dict[str, Any]:
    return {
        "data": str(data),
        "method": "paa",
        "model": "nano",
        "network": {"width": 8, "channels": 16, "convs": 1},
        "imgsz": 96,
        "iterations": 4,
        "batch": 4,
        "workers": 0,
        "threads": 1,
        "device": "cpu",
        "project": str(project),
        **changes,
    }


def test_paa_takes_anchors_that_fit_and_records_them(
    small_shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = recipe(small_shapes, tmp_path)
    train(values)
    assert "paa: anchor_scale 1: anchors of 8, 16, 32, 64, 128 px fit" in capsys.readouterr().err
    run = RunDir(tmp_path / "train")
    assert run.recorded("chosen_options") == {"anchor_scale": 1}
    assert run.recorded("options")["anchor_scale"] == 1
    checkpoint = load_checkpoint(run.best)
    assert checkpoint.options == {"anchor_scale": 1}
    assert checkpoint.detector().method.config.anchor_scale == 1

    train(make_config({"data": "as recorded", "project": str(tmp_path)}), resume=True)
    assert run.recorded("chosen_options") == {"anchor_scale": 1}
    assert load_checkpoint(run.last).options == {"anchor_scale": 1}


def test_what_a_recipe_states_stays(small_shapes: Path, tmp_path: Path) -> None:
    train(recipe(small_shapes, tmp_path, options={"anchor_scale": 4}))
    run = RunDir(tmp_path / "train")
    assert run.recorded("chosen_options") == {}
    assert load_checkpoint(run.best).options == {"anchor_scale": 4}


def test_the_papers_recipes_state_theirs() -> None:
    papers = [name for name in shipped() if name.startswith("paa_") and name != "paa_lite0"]
    assert len(papers) == 7
    assert {read_recipe(name)["options"]["anchor_scale"] for name in papers} == {8}
    assert "options" not in read_recipe("paa_lite0")


def test_sizes_are_those_of_the_network_input(small_shapes: Path, tmp_path: Path) -> None:
    split = load_split(small_shapes, "train")
    doubled = make_spec(make_config(recipe(small_shapes, tmp_path, imgsz=192)), split)
    same = make_spec(make_config(recipe(small_shapes, tmp_path)), split)
    assert object_sizes(split, doubled.input) == pytest.approx(2 * object_sizes(split, same.input))
    assert len(object_sizes(split, same.input)) == sum(int(record.targets.sum()) for record in split.records)


def test_doctor_names_the_boxes_that_do_not_suit(small_shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsuited(method: str) -> int:
        report = examine_data(str(small_shapes), method=method, model="nano", imgsz="96").to_dict()
        return sum(finding["count"] for finding in report["findings"] if finding["kind"] == "unsuited")

    assert unsuited("dw") == 0
    assert unsuited("paa") == 0  # with the anchors that a training would take
    monkeypatch.setattr(PAA, "options_for", lambda *_: ChosenOptions())
    assert unsuited("paa") > 0  # with the authors'
