from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from aweigh.runtime.errors import BadInput
from aweigh.train.data.division import Division, Shares, draw, image_key
from aweigh.train.data.open import available_splits, divide, load_split
from tests.support.layouts import LAYOUTS, Item, make_items


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    return make_items(tmp_path_factory.mktemp("items"))


@pytest.fixture
def flat(items: list[Item], tmp_path: Path) -> Path:
    """Twelve images with XML files, not split."""
    return LAYOUTS["voc-as-cloned"].write(tmp_path / "data", items)


def names(data: Path, split: str, division: Division | None) -> set[str]:
    return {record.path.name for record in load_split(data, split, division=division).records}


def test_the_splits_are_apart_and_together_the_whole(flat: Path) -> None:
    division = divide(flat, Shares(val=0.25, test=0.2))
    assert division is not None
    assert available_splits(flat, division) == ("train", "val", "test")
    parts = {name: names(flat, name, division) for name in ("train", "val", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 7, "val": 3, "test": 2}
    assert set().union(*parts.values()) == names(flat, "all", division)
    assert load_split(flat, "val", division=division).name == "val"


def test_the_seed_decides_and_nothing_else(flat: Path, tmp_path: Path) -> None:
    first, again, other = (divide(flat, Shares(val=0.4, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other
    moved = Path(shutil.move(flat, tmp_path / "elsewhere"))
    assert divide(moved, Shares(val=0.4)) == first


def test_new_images_are_for_training(flat: Path, picture: Callable[..., Path]) -> None:
    division = divide(flat, Shares(val=0.25))
    held = names(flat, "val", division)
    picture(flat / "images" / "new.jpg")
    annotation = (flat / "annotations" / "train_0.xml").read_text().replace("train_0", "new")
    (flat / "annotations" / "new.xml").write_text(annotation.replace("96", "60").replace("64", "40"))
    assert names(flat, "val", division) == held
    assert "new.jpg" in names(flat, "train", division)


def test_images_that_look_alike_stay_together(flat: Path) -> None:
    for i in range(6):
        image = cv2.imread(str(flat / "images" / "train_0.jpg"))
        assert cv2.imwrite(str(flat / "images" / f"copy_{i}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 40 + 8 * i])
        (flat / "annotations" / f"copy_{i}.xml").write_text((flat / "annotations" / "train_0.xml").read_text())
    copies = {"train_0.jpg", *(f"copy_{i}.jpg" for i in range(6))}
    for seed in range(8):
        division = divide(flat, Shares(val=0.4, seed=seed))
        held = names(flat, "val", division)
        assert len(held & copies) in (0, len(copies))
        assert 1 <= len(held) <= 7


def test_a_set_with_train_alone_gives_images_of_train(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["coco-official"].write(tmp_path / "data", items)
    (data / "annotations" / "instances_val2017.json").unlink()
    division = divide(data, Shares(val=0.25))
    assert available_splits(data, division) == ("train", "val")
    assert len(names(data, "train", division)) == 6
    assert len(names(data, "val", division)) == 2
    assert len(names(data, "train2017", None)) == 8


def test_the_record_gives_the_same_division(flat: Path) -> None:
    division = divide(flat, Shares(val=0.25, test=0.2))
    assert division is not None
    record = json.loads(json.dumps(division.record()))
    assert Division.of(record) == division
    assert Division.of({}) is None
    assert len(record["val"]) == 3 * 8


@pytest.mark.parametrize("record", [{"val": "??"}, {"val": ""}, {"val": "AAAA"}, {"train": "AAAAAAAA"}])
def test_a_damaged_record_is_bad_input(record: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="held_out"):
        Division.of(record)


def test_a_set_with_splits_of_its_own_is_read_as_it_is(flat: Path, items: list[Item], tmp_path: Path) -> None:
    division = divide(flat, Shares(val=0.25))
    other = LAYOUTS["coco-official"].write(tmp_path / "other", items)
    assert available_splits(other, division) == ("train2017", "val2017")
    assert len(names(other, "val", division)) == 4
    with pytest.raises(BadInput, match=r"--val-share: .* has the split 'val2017' already"):
        divide(other, Shares(val=0.2))


def test_another_set_without_splits_is_refused(flat: Path, items: list[Item], tmp_path: Path) -> None:
    division = divide(flat, Shares(val=0.25))
    other = LAYOUTS["voc-labelimg-flat"].write(tmp_path / "other", items)
    with pytest.raises(BadInput, match="none of the 3 images that were held out for val is there"):
        load_split(other, "val", division=division)
    assert len(names(other, "all", division)) == 12


def test_without_a_share_the_error_names_the_flag(flat: Path) -> None:
    assert divide(flat, Shares()) is None
    for split, flag in (("train", "--val-share"), ("valid", "--val-share"), ("test", "--test-share")):
        with pytest.raises(BadInput, match=f"no split '{split}'; there is all; .*{flag} 0.2"):
            load_split(flat, split)


def test_faults_go_with_their_images(flat: Path) -> None:
    division = divide(flat, Shares(val=0.25))
    for name in sorted(names(flat, "val", division))[:1] + sorted(names(flat, "train", division))[:1]:
        file = flat / "annotations" / f"{Path(name).stem}.xml"
        file.write_text(file.read_text().replace("<xmin>", "<xmin>x", 1))
    (flat / "annotations" / "broken.xml").write_text("<")
    kinds = {name: [f.kind for f in load_split(flat, name, division=division).faults] for name in ("train", "val")}
    assert kinds == {"train": ["unreadable-annotation"] * 2, "val": ["unreadable-annotation"]}


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"val": 1.0}, "--val-share 1.0: expected a share"),
        ({"test": -0.1}, "--test-share -0.1: expected a share"),
        ({"val": 0.5, "test": 0.5}, "leave no image for training"),
    ],
)
def test_shares_out_of_range(shares: dict[str, float], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Shares(**shares)


def test_too_few_images(items: list[Item], tmp_path: Path) -> None:
    keys = [image_key(Path(f"{i}.jpg"), Path()) for i in range(10)]
    with pytest.raises(BadInput, match="--val-share: 10 images in 1 groups that look alike are too few"):
        draw([keys], Shares(val=0.2))
    with pytest.raises(BadInput, match="too few to divide"):
        draw([keys[:1]], Shares(val=0.2))
    data = LAYOUTS["voc-as-cloned"].write(tmp_path / "one", items[:1])
    with pytest.raises(BadInput, match="too few to divide"):
        divide(data, Shares(val=0.2))


def test_shares_are_held_as_exactly_as_single_images_allow() -> None:
    keys = [[image_key(Path(f"{i}.jpg"), Path())] for i in range(200)]
    division = draw(keys, Shares(val=0.2, test=0.1))
    assert {name: len(held) for name, held in division.held.items()} == {"val": 40, "test": 20}
    assert np.mean([key[0] in division.held["val"] for key in keys]) == 0.2


def test_only_val_is_no_set_to_train_on(items: list[Item], tmp_path: Path) -> None:
    data = LAYOUTS["voc-labelimg-folders"].write(tmp_path / "data", [item for item in items if item.split == "val"])
    with pytest.raises(BadInput, match="has the split 'val' already"):
        divide(data, Shares(val=0.2))
    with pytest.raises(BadInput, match="has the splits val; expected one that is called train"):
        divide(data, Shares(test=0.2))
