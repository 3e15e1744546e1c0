"""Every reader of the training on mutated files: only our errors, no growth, no hang."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from checkpoints import save_untrained
from fuzzing import json_values, many, mutated_bytes, mutated_json, mutated_values, only_our_errors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes

from aweigh.runtime.spec import InputSpec
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.config import TrainConfig, make_config, read_recipe
from aweigh.train.conformance import run_conformance
from aweigh.train.data.open import available_splits, load_split
from aweigh.train.doctor.examination import examine
from aweigh.train.doctor.sizes import Pyramid
from aweigh.train.evaluation.curves import CURVES_NAME, Curves
from aweigh.train.official.check import read_stored
from aweigh.train.official.convert import convert, import_released
from aweigh.train.official.released import Released
from aweigh.train.run.result import TrainResult
from aweigh.train.run.session import train
from aweigh.train.tracking.folder import SUMMARY_NAME, RunDir
from aweigh.train.weights.tensor_file import read_tensors
from tests.support.layouts import LAYOUTS, Item, make_items

SIZE_HW = (40, 60)


@pytest.fixture
def images(tmp_path: Path) -> Callable[[str], Path]:
    """Writes two images into a folder of the data set, which is returned."""

    def write(folder: str) -> Path:
        root = tmp_path / "data"
        (root / folder).mkdir(parents=True)
        for name in ("a", "b"):
            noise = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)
            assert cv2.imwrite(str(root / folder / f"{name}.jpg"), noise)
        return root

    return write


def load(root: Path) -> None:
    for split in available_splits(root):
        found = load_split(root, split)
        found.digest()
        for record in found.records:
            assert np.isfinite(record.boxes_xyxy).all()
            assert set(record.labels.tolist()) <= set(range(len(found.categories)))


COCO = {
    "images": [{"id": i, "file_name": f"{n}.jpg", "width": 60, "height": 40} for i, n in enumerate("ab")],
    "categories": [{"id": 7, "name": "dog"}, {"id": 90, "name": "cat"}],
    "annotations": [
        {"id": i, "image_id": i % 2, "category_id": 7, "bbox": [1, 2.5, 30, 20], "area": 600, "iscrowd": 0}
        for i in range(3)
    ],
}


def test_coco(images: Callable[[str], Path]) -> None:
    root = images("train")
    file = root / "annotations" / "instances_train.json"
    file.parent.mkdir()

    @many
    @given(mutated_json(json.dumps(COCO).encode()))
    def check(data: bytes) -> None:
        file.write_bytes(data)
        only_our_errors(lambda: load(root))

    check()


def test_odgt(images: Callable[[str], Path]) -> None:
    root = images("Images")
    boxes = [{"tag": "person", "fbox": [1, 2, 30, 20], "extra": {"ignore": 0}}, {"tag": "mask", "fbox": [1, 2, 3, 4]}]
    lines = b"\n".join(json.dumps({"ID": name, "gtboxes": boxes}).encode() for name in "ab")

    @many
    @given(mutated_bytes(lines))
    def check(data: bytes) -> None:
        (root / "annotation_train.odgt").write_bytes(data)
        only_our_errors(lambda: load(root))

    check()


XML = b"""<?xml version="1.0" encoding="utf-8"?><annotation><filename>a.jpg</filename>
<size><width>60</width><height>40</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>31.5</xmax><ymax>22</ymax>
</bndbox></object><object><name>cat</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>
</object></annotation>"""


@pytest.mark.parametrize("mutated", ["Annotations/a.xml", "ImageSets/Main/train.txt", "labels.txt"])
def test_voc(images: Callable[[str], Path], mutated: str) -> None:
    root = images("JPEGImages")
    contents = {"Annotations/a.xml": XML, "Annotations/b.xml": XML, "ImageSets/Main/train.txt": b"a\nb\n"}
    contents |= {"labels.txt": b"dog\ncat\n"} if mutated == "labels.txt" else {}
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    @many
    @given(mutated_bytes(contents[mutated]))
    def check(data: bytes) -> None:
        (root / mutated).write_bytes(data)
        only_our_errors(lambda: load(root))

    check()


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    return make_items(tmp_path_factory.mktemp("items"))[::4]


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(items: list[Item], tmp_path: Path, name: str) -> None:
    """Any of the files that are no images."""
    data = LAYOUTS[name].write(tmp_path / "data", items)
    contents = {p: p.read_bytes() for p in sorted((tmp_path / "data").rglob("*")) if p.is_file() and not is_image(p)}

    @many
    @given(st.data())
    def check(draws: st.DataObject) -> None:
        path = draws.draw(st.sampled_from(list(contents)))
        mutated = mutated_json if path.suffix == ".json" else mutated_bytes
        path.write_bytes(draws.draw(mutated(contents[path])))
        only_our_errors(lambda: load(data))
        path.write_bytes(contents[path])

    check()


def is_image(path: Path) -> bool:
    return path.suffix in (".jpg", ".png")


YAML = {"path": ".", "train": "images/train", "val": "val.txt", "names": {0: "dog", 1: "cat"}, "nc": 2}


@pytest.mark.parametrize("mutated", ["data.yaml", "labels/train/a.txt", "labels/train/keypoints.txt", "val.txt"])
def test_yolo(images: Callable[[str], Path], mutated: str) -> None:
    root = images("images/train")
    keypoints = {"kpt_shape": [2, 3]} if "keypoints" in mutated else {}
    mutated = mutated.replace("keypoints", "a")
    contents = {
        "data.yaml": yaml.safe_dump(YAML | keypoints).encode(),
        "val.txt": b"images/train/a.jpg\n./images/train/b.jpg\n",
        "labels/train/a.txt": b"0 .5 .5 .2 .2\n1 0.1 0.2 0.3 0.4 0.5 0.6\n1 .5 .5 .2 .2 .1 .1 2 .2 .2 1\n",
    }
    (root / "labels" / "train").mkdir(parents=True)
    for name, content in contents.items():
        (root / name).write_bytes(content)
    mutations = mutated_bytes(contents[mutated])
    if mutated == "data.yaml":
        mutations |= mutated_values(YAML).map(lambda value: json.dumps(value).encode())

    @many
    @given(mutations)
    def check(data: bytes) -> None:
        (root / mutated).write_bytes(data)
        only_our_errors(lambda: load(root))

    check()


def test_the_doctor(images: Callable[[str], Path]) -> None:
    """Its findings are about what is odd."""
    root = images("train")
    file = root / "annotations" / "instances_train.json"
    file.parent.mkdir()

    @many
    @given(mutated_values(COCO).map(json.dumps))
    def check(text: str) -> None:
        file.write_text(text)
        only_our_errors(lambda: examine(str(root), (), lambda _: InputSpec((64, 64)), Pyramid((8, 16), 0.5)).to_dict())

    check()


RECIPE: dict[str, Any] = {
    "data": "shapes",
    "model": "nano",
    "imgsz": "64",
    "batch": "auto",
    "lr0": 0.003,
    "steps": [0.5, 0.8],
    "cache": False,
    "weights": None,
    "network": {"width": 8},
    "augment": {"flip": 0.5},
}


def test_recipes(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    plain = yaml.safe_dump(RECIPE).encode()

    @many
    @given(mutated_bytes(plain) | mutated_values(RECIPE).map(lambda value: json.dumps(value).encode()))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        only_our_errors(lambda: make_config(read_recipe(path)))

    check()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained("fcos", tmp_path_factory.mktemp("checkpoint") / "best.pt")


def test_checkpoints_bytes(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"

    @many
    @given(mutated_bytes(checkpoint.read_bytes()))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        only_our_errors(lambda: load_checkpoint(path))

    check()


tensors = st.sampled_from(
    [torch.zeros(()), torch.zeros(3), torch.zeros(0, 2), torch.zeros(2, dtype=torch.int64), torch.full((4,), torch.nan)]
)


def test_checkpoints_of_other_content(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    content = torch.load(checkpoint, weights_only=True)
    about = json.loads(content["about"])

    @many
    @given(mutated_values(content, json_values | tensors) | mutated_values(about))
    def check(value: Any) -> None:
        if isinstance(value, dict) and "spec" in value:
            value = {**content, "about": json.dumps(value)}
        torch.save(value, path)
        only_our_errors(lambda: load_checkpoint(path).detector())

    check()


def test_safetensors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    valid = safetensors_bytes({"a.weight": torch.ones(3, 2), "b": torch.zeros(4, dtype=torch.float16)})

    @many
    @given(mutated_bytes(valid))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        only_our_errors(lambda: read_tensors(path, "--weights"))

    check()


def test_files_of_arrays(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, image_rgb_u8=np.zeros((1, 4, 4, 3), np.uint8), det0_boxes=np.zeros((2, 4)), names=np.array(["a"]))
    folder = tmp_path / "dw"
    folder.mkdir()

    @many
    @given(mutated_bytes(buffer.getvalue()))
    def check(data: bytes) -> None:
        (folder / "case.npz").write_bytes(data)
        only_our_errors(lambda: read_stored(folder / "case.npz"))
        only_our_errors(lambda: run_conformance(tmp_path))

    check()


@pytest.fixture(scope="module")
def released_tensors() -> dict[str, torch.Tensor]:
    root = Path(os.environ.get("AWEIGH_TEST_DATA", "/nowhere")) / "checkpoints"
    if not root.is_dir():
        pytest.skip("AWEIGH_TEST_DATA has no checkpoints/")
    content = torch.load(root / "dw.pth", weights_only=True)
    return dict(content["state_dict"])


def test_released_weights(released_tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    @many
    @given(mutated_values(released_tensors, tensors))
    def check(value: Any) -> None:
        if isinstance(value, dict) and value and all(isinstance(item, torch.Tensor) for item in value.values()):
            only_our_errors(lambda: convert(Released(tmp_path, "0" * 64, value, {}, ())))

    check()


def test_wrappings_of_released_weights(tmp_path: Path) -> None:
    path = tmp_path / "released.pth"
    content = {
        "state_dict": {"bbox_head.a": torch.ones(2)},
        "meta": {"CLASSES": ["a"], "dataset_meta": {"classes": []}},
    }

    @many
    @given(mutated_values(content, json_values | tensors))
    def check(value: Any) -> None:
        torch.save(value, path)
        only_our_errors(lambda: import_released(path))

    check()


@pytest.fixture
def resumable(finished: tuple[TrainConfig, TrainResult], tmp_path: Path) -> TrainConfig:
    """A copy of the finished run."""
    config, _ = finished
    shutil.copytree(config.run_dir, tmp_path / "runs" / config.name)
    return make_config({**config.to_dict(), "project": str(tmp_path / "runs")})


@pytest.mark.parametrize("name", ["args.yaml", "results.csv", CURVES_NAME, SUMMARY_NAME])
def test_what_a_run_wrote(resumable: TrainConfig, name: str) -> None:
    folder = RunDir(resumable.run_dir)
    path = folder.path / name
    readers: dict[str, Callable[[], object]] = {
        "args.yaml": lambda: folder.recorded("transfer"),
        "results.csv": folder.rows,
        CURVES_NAME: lambda: Curves.from_dict(folder.read_json(name)),
        SUMMARY_NAME: lambda: TrainResult.from_dict(folder.read_json(name)).to_dict(),
    }
    valid = path.read_bytes()

    @many
    @given(mutated_json(valid) if name.endswith("json") else mutated_bytes(valid))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        only_our_errors(readers[name])

    check()


class Hidden:
    """A value whose text would fill the screen."""

    def __init__(self, value: Any) -> None:
        self.value = value


def test_the_state_of_a_run(resumable: TrainConfig) -> None:
    last = RunDir(resumable.run_dir).last
    content = torch.load(last, weights_only=True)

    @many
    @given(mutated_values(content["training"], json_values | tensors).map(Hidden))
    def check(hidden: Hidden) -> None:
        torch.save({**content, "training": hidden.value}, last)
        only_our_errors(lambda: train(resumable, resume=True))

    check()
