"""Annotations that name images outside of the data set's folder: refused, unless they are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import save_untrained
from server_process import write_model

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.train.data.division import Shares
from aweigh.train.data.open import divide, load_raw, load_split
from aweigh.train.run.session import train

Picture = Callable[..., Path]


def write_coco(root: Path, *names: str, split: str = "train") -> Path:
    images = [{"id": i, "file_name": name, "width": 60, "height": 40} for i, name in enumerate(names)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 30, 20]} for i in range(len(names))]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    file = root / "annotations" / f"instances_{split}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return root


def write_csv(root: Path, *names: str) -> Path:
    rows = [f"{name},5,5,30,20,thing" for name in names]
    (root / "train.csv").write_text("\n".join(["filename,xmin,ymin,xmax,ymax,class", *rows]))
    return root


def write_metadata(root: Path, *names: str) -> Path:
    lines = [{"file_name": name, "objects": {"bbox": [[5, 5, 25, 15]], "category": ["thing"]}} for name in names]
    (root / "train").mkdir(exist_ok=True)
    (root / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


@pytest.mark.parametrize("write", [write_coco, write_csv, write_metadata])
@pytest.mark.parametrize("name", ["{parent}/secret.png", "../../secret.png", "./x/../../../secret.png"])
def test_an_image_elsewhere_is_refused(tmp_path: Path, picture: Picture, write: Callable[..., Path], name: str) -> None:
    root = tmp_path / "data"
    depth = "../" if write is write_csv else ""  # a CSV lies in the folder itself
    (root / "train" / "x").mkdir(parents=True)
    (root / "x").mkdir()
    picture(root / "train" / "inside.png")
    picture(tmp_path / "secret.png")
    name = name.format(parent=tmp_path).replace("../../" if depth else "\0", "../", 1)
    write(root, "inside.png", name)
    with pytest.raises(BadInput, match=r"secret\.png' lies outside of the data set's folder .*--outside-images"):
        load_split(root, "train")
    split = load_split(root, "train", outside_images=True)
    assert [record.path.name for record in split.records] == ["inside.png", "secret.png"]
    assert [note.kind for note in split.notes] == ["outside-folder"]


@pytest.mark.parametrize("name", ["../images/a.png", "{root}/images/a.png", "x/../../images/a.png"])
def test_a_name_that_comes_back_into_the_folder_is_read(tmp_path: Path, picture: Picture, name: str) -> None:
    root = tmp_path / "data"
    (root / "train" / "x").mkdir(parents=True)
    picture(root / "images" / "a.png")
    picture(root / "train" / "b.png")
    write_coco(root, "b.png", name.format(root=root))
    assert len(load_split(root, "train").records) == 2


def test_a_link_in_the_folder_may_lead_anywhere(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "a.png").symlink_to(picture(tmp_path / "far" / "a.png"))
    (tmp_path / "data" / "more").symlink_to(tmp_path / "far")
    write_coco(tmp_path / "data", "a.png", "../more/a.png")
    assert len(load_split(tmp_path / "data", "train").records) == 2


def test_the_folder_itself_may_be_given_as_a_relative_path_or_a_link(
    tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "data" / "train" / "a.png")
    write_coco(tmp_path / "data", "a.png")
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for place in ("../data", "../link", str(tmp_path / "link"), "../data/annotations/instances_train.json"):
        assert len(load_split(place, "train").records) == 1


def test_a_name_elsewhere_that_no_file_has_is_a_missing_image(tmp_path: Path, picture: Picture) -> None:
    """As in data that were made on another machine."""
    picture(tmp_path / "data" / "train" / "a.png")
    write_coco(tmp_path / "data", "a.png", "/home/nobody/images/b.png")
    split = load_split(tmp_path / "data", "train")
    assert [fault.kind for fault in split.faults] == ["missing-picture"]


def test_a_list_of_places_may_name_any(tmp_path: Path, picture: Picture) -> None:
    """A data.yaml and its lists are written to say where the images lie."""
    picture(tmp_path / "far" / "images" / "a.png")
    (tmp_path / "far" / "images" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.yaml").write_text(f"path: {tmp_path}/far\ntrain: images\nval: images\nnames: [thing]\n")
    split = load_split(tmp_path / "data", "train")
    assert [note.kind for note in split.notes] == ["outside-folder"]
    assert split.notes[0].detail.startswith("1 of 1, such as ")


def test_every_way_into_a_data_set_refuses_it(tmp_path: Path, picture: Picture) -> None:
    root = write_coco(tmp_path / "data", str(picture(tmp_path / "secret.png")))
    for way in (
        lambda: load_raw(root, "train"),
        lambda: divide(root, Shares(val=0.5)),
        lambda: load_split(root / "annotations" / "instances_train.json", "train"),
    ):
        with pytest.raises(BadInput, match="--outside-images"):
            way()


@pytest.fixture
def linked(tmp_path: Path, picture: Picture) -> Path:
    """A data set of which all images lie next to it."""
    for split in ("train", "val"):
        names = [str(picture(tmp_path / "far" / f"{split}{i}.png", (64, 64), i)) for i in range(4)]
        write_coco(tmp_path / "data", *names, split=split)
        for file in (tmp_path / "data" / "annotations").iterdir():
            content = json.loads(file.read_text())
            for image in content["images"]:
                image |= {"width": 64, "height": 64}
            file.write_text(json.dumps(content))
    return tmp_path / "data"


def test_a_run_records_the_permission_and_goes_on_with_it(
    linked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place: dict[str, Any] = {"data": str(linked), "project": str(tmp_path), "name": "run"}
    small = {"model": "nano", "imgsz": 64, "batch": 4, "workers": 0, "threads": 1, "epochs": 2, "val_every": 1}
    small["network"] = {"width": 8, "channels": 16, "convs": 1}
    with pytest.raises(BadInput, match="--outside-images"):
        train({**place, **small})
    assert not (tmp_path / "run").exists()

    def stop(epoch: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train({**place, **small, "outside_images": True}, on_epoch=stop)
    assert Path(train(place, resume=True).checkpoint).exists()


def test_every_verb_has_the_flag(linked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verbs that read the data find next that its classes are others than the model's."""
    checkpoint, onnx = str(save_untrained("fcos", tmp_path / "best.pt")), str(write_model(tmp_path / "red.onnx"))
    other = str(write_model(tmp_path / "other.onnx", batch=(1, 4)))
    for arguments, found_next in (
        (["val", "--model", checkpoint], "the model knows the categories"),
        (["export", "--model", checkpoint, "--out", str(tmp_path / "x.onnx")], "the model knows the categories"),
        (["verify", "--model", onnx, "--against", checkpoint], "the model knows the categories"),
        (["compare", onnx, other], ""),
        (["assign", "--model", checkpoint, "--image", "none"], "4 images of split 'val'"),
        (["convert", "--to", "yolo", "--out", str(tmp_path / "yolo")], ""),
        (["doctor", "--split", "train"], ""),
    ):
        whole = [*arguments, "--data", str(linked)]
        assert main(whole) == 2, arguments
        assert "--outside-images" in capsys.readouterr().err
        assert main([*whole, "--outside-images"]) in ((2,) if found_next else (0, 1)), arguments
        assert found_next in capsys.readouterr().err
