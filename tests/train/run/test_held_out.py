"""Images that training held out stay held out: in a resumed run, in validation, at export."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from aweigh.export.jobs.export import export
from aweigh.export.jobs.options import ExportOptions
from aweigh.runtime.backends.open import read_spec
from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.data.open import load_split_of
from aweigh.train.evaluation.run import evaluate
from aweigh.train.loop.trainer import Epoch
from aweigh.train.run.session import train
from tests.support.layouts import LAYOUTS, make_items

SHARES = {"val_share": 0.25, "test_share": 0.2}


@dataclass(frozen=True)
class Run:
    """A run that was stopped in its second epoch, and its data set, which has moved since."""

    folder: Path
    data: Path

    @property
    def recipe(self) -> dict[str, object]:
        return {"data": str(self.data), "project": str(self.folder.parent), "name": self.folder.name}

    def copy(self, place: Path) -> Run:
        return Run(shutil.copytree(self.folder, place / "run"), shutil.copytree(self.data, place / "data"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("held-out")
    data = LAYOUTS["voc-as-cloned"].write(place / "first", make_items(place))
    small = {"model": "nano", "imgsz": 64, "batch": 4, "workers": 0, "threads": 1, "epochs": 2, "val_every": 1}

    def stop(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train({"data": str(data), "project": str(place), "name": "run", **small, **SHARES}, on_epoch=stop)
    return Run(place / "run", Path(shutil.move(data, place / "moved")))


def names_of(run: Run) -> dict[str, set[str]]:
    content = json.loads((run.folder / "splits.json").read_text())
    return {split: {Path(file).name for file in files} for split, files in content.items()}


def test_the_run_lists_the_images_of_each_split(stopped: Run) -> None:
    assert {split: len(names) for split, names in names_of(stopped).items()} == {"train": 7, "val": 3, "test": 2}


@pytest.mark.slow
def test_validation_and_export_take_the_images_of_the_run(stopped: Run, tmp_path: Path) -> None:
    best = stopped.folder / "weights" / "best.pt"
    names = names_of(stopped)
    file = tmp_path / "model.onnx"
    export(best, file, ExportOptions(data=str(stopped.data), golden=1))
    for spec in (load_checkpoint(best).spec, read_spec(file)):
        for split in ("train", "val", "test"):
            records = load_split_of(spec, stopped.data, split).records
            assert {record.path.name for record in records} == names[split]
    assert [evaluate(model, stopped.data, "val").metrics.images for model in (best, file)] == [3, 3]
    receipt = json.loads((tmp_path / "model.receipt.json").read_text())
    assert "val split, 3 images" in json.dumps(receipt)


def test_a_resumed_run_goes_on_with_the_same_images(stopped: Run, tmp_path: Path) -> None:
    run = stopped.copy(tmp_path)
    result = train(run.recipe, resume=True)
    assert result.splits == ("train", "val", "test")
    assert result.val.images == 3
    assert load_checkpoint(run.folder / "weights" / "best.pt").spec.held_out == (
        load_checkpoint(stopped.folder / "weights" / "best.pt").spec.held_out
    )


def test_a_resumed_run_refuses_a_set_with_another_image(stopped: Run, tmp_path: Path) -> None:
    run = stopped.copy(tmp_path)
    gone = sorted(names_of(run)["train"])[0]
    (run.data / "annotations" / f"{Path(gone).stem}.xml").unlink()
    with pytest.raises(BadInput, match="is not what the run began with"):
        train(run.recipe, resume=True)


def test_data_without_val_is_refused_before_anything_slow(stopped: Run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--data", str(stopped.data), "--model", "nano", "--project", str(stopped.folder / "none")]
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert (
        "no split 'train'; there is all; aweigh train, convert and doctor hold images out with --val-share 0.2"
        in printed
    )
    assert "threads" not in printed
