"""The classes of a data set against a model's: by id, or by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from checkpoints import save_untrained

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category
from aweigh.train.checkpoint import load_checkpoint, save_checkpoint
from aweigh.train.data.matching import matched_by_name, require_categories
from aweigh.train.data.open import load_split, load_split_of
from aweigh.train.data.records import Split
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.evaluation.run import evaluate


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained("o2f", tmp_path_factory.mktemp("checkpoint") / "best.pt")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return generate_shapes(tmp_path / "shapes", train=4, val=4, test=0, size_hw=(64, 64))


def renumbered(data: Path, split: str = "val") -> Path:
    """A copy whose category ids run the other way."""
    copy = data.with_name("renumbered")
    shutil.copytree(data, copy)
    file = copy / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text())
    ids = [category["id"] for category in content["categories"]]
    other = dict(zip(ids, [100 - i for i in ids], strict=True))
    for item in content["categories"]:
        item["id"] = other[item["id"]]
    for item in content["annotations"]:
        item["category_id"] = other[item["category_id"]]
    file.write_text(json.dumps(content))
    return copy


def named(split: Split) -> list[list[str]]:
    return [[split.categories[label].name for label in record.labels.tolist()] for record in split.records]


def renamed(data: Path, names: dict[str, str]) -> Path:
    """A copy whose categories have other names at the same ids."""
    copy = data.with_name("renamed")
    shutil.copytree(data, copy)
    for split in ("train", "val"):
        file = copy / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        for item in content["categories"]:
            item["name"] = names.get(item["name"], item["name"])
        file.write_text(json.dumps(content))
    return copy


def test_names_that_changed_places_are_refused(checkpoint: Path, data: Path) -> None:
    """The ids of YOLO's files are positions: who sorts the names anew has the same ids."""
    first, second, *_ = (category.name for category in load_split(data, "val").categories)
    with pytest.raises(BadInput, match=f"knows the categories .*'{first}'.* --match-names matches them by name"):
        evaluate(checkpoint, renamed(data, {first: second, second: first}))


def test_another_name_for_a_class_is_no_error(checkpoint: Path, data: Path) -> None:
    first = load_split(data, "val").categories[0].name
    expected = evaluate(checkpoint, data)
    other = evaluate(checkpoint, renamed(data, {first: "a better name"}))
    assert other.metrics.to_dict()["AP"] == expected.metrics.to_dict()["AP"]


def test_the_message_stays_short_with_many_classes(checkpoint: Path) -> None:
    spec = load_checkpoint(checkpoint).spec
    many = tuple(Category(i, f"class {i}") for i in range(1000))
    with pytest.raises(BadInput) as error:
        require_categories(spec, Split("val", many, ()))
    assert len(str(error.value)) < 500
    assert "(1000) 0: 'class 0'" in str(error.value)


def test_metrics_of_renumbered_classes_are_the_same(checkpoint: Path, data: Path) -> None:
    expected = evaluate(checkpoint, data)
    other = renumbered(data)
    assert load_split(other, "val").categories != load_split(data, "val").categories
    with pytest.raises(BadInput, match="--match-names matches them by name"):
        evaluate(checkpoint, other)
    assert evaluate(checkpoint, other, match_names=True).metrics.to_dict() == expected.metrics.to_dict()


def test_the_flag_of_the_command_line(checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = str(renumbered(data))
    assert main(["val", "--model", str(checkpoint), "--data", other, "--json"]) == 2
    assert main(["val", "--model", str(checkpoint), "--data", other, "--json", "--match-names"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 4


def test_objects_keep_the_names_of_their_classes(checkpoint: Path, data: Path) -> None:
    spec, other = load_checkpoint(checkpoint).spec, renumbered(data)
    matched = load_split_of(spec, other, "val", match_names=True)
    assert matched.categories == spec.categories
    assert named(matched) == named(load_split(data, "val"))


def test_a_class_that_the_model_does_not_know_is_named_with_its_objects(checkpoint: Path, data: Path) -> None:
    split = load_split(data, "val")
    spec = load_checkpoint(checkpoint).spec
    seen = [name for names in named(split) for name in names]
    renamed = tuple(Category(c.id, "cat") if c.name == seen[0] else c for c in split.categories)
    strange, count = Split("val", renamed, split.records), seen.count(seen[0])
    with pytest.raises(BadInput, match=rf"does not know: cat \({count}\)"):
        matched_by_name(strange, spec)
    unused = Split("val", (*split.categories, Category(99, "cat")), split.records)
    assert matched_by_name(unused, spec).categories == spec.categories


def test_names_that_are_used_twice_match_nothing(checkpoint: Path, data: Path) -> None:
    split = load_split(data, "val")
    twice = Split("val", tuple(Category(c.id, "disk") for c in split.categories), split.records)
    with pytest.raises(BadInput, match="the data set has the name 'disk' twice"):
        matched_by_name(twice, load_checkpoint(checkpoint).spec)


def test_receipts_match_by_name_too(checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other, copy = renumbered(data), checkpoint.with_name("copy.pt")
    loaded = load_checkpoint(checkpoint)
    save_checkpoint(loaded, copy)
    command = ["verify", "--model", str(copy), "--against", str(checkpoint), "--data", str(other), "--force"]
    assert main(command) == 2
    assert "--match-names" in capsys.readouterr().err
    assert main([*command, "--pictures", "2", "--threads", "1", "--match-names", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ap"]["trained"]["AP"] is not None
