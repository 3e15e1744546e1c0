"""A dozen generated images in every layout that labelling tools write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aweigh.train.data.open import load_split
from aweigh.train.data.records import Split
from aweigh.train.data.shapes import generate_shapes

NAMES = ("disk", "ring", "square")
_CLASSES = {"disk": "disk", "ring": "ring"}


@dataclass(frozen=True)
class Item:
    """One image: boxes are (class name, x1, y1, x2, y2), pixels with one decimal."""

    path: Path
    size_hw: tuple[int, int]
    boxes: tuple[tuple[str, float, float, float, float], ...]
    split: str

    @property
    def name(self) -> str:
        return self.path.name


def boxes_of(split: Split) -> dict[str, list[tuple[str, list[float]]]]:
    """Class names and boxes of each image, by the image's name."""
    return {
        record.path.name: [
            (split.categories[label].name, box)
            for label, box in zip(record.labels.tolist(), record.boxes_xyxy.tolist(), strict=True)
        ]
        for record in split.records
    }


def make_items(root: Path) -> list[Item]:
    """8 images for training and 4 for validation, 64x96 pixels; the classes are those of NAMES."""
    data = generate_shapes(root / "shapes", train=8, val=4, size_hw=(64, 96), seed=11)
    items = []
    for split in ("train", "val"):
        read = load_split(data, split)
        for i, record in enumerate(read.records):
            path = root / "images" / f"{split}_{i}.{'png' if i == 1 else 'jpg'}"
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(record.path, path)
            names = [_CLASSES.get(read.categories[label].name, "square") for label in record.labels.tolist()]
            corners = [[round(value, 1) for value in box] for box in record.boxes_xyxy.tolist()]
            boxes = tuple((name, *box) for name, box in zip(names, corners, strict=True))
            items.append(Item(path, record.size_hw, boxes, split))
    assert {box[0] for item in items for box in item.boxes} == set(NAMES)
    return items


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        write: writes the images into an empty folder; returns what is given as ``--data``.
        splits: whether it keeps the two splits apart.
        tolerance_px: how far its rounding may move a corner.
    """

    write: Callable[[Path, Sequence[Item]], Path]
    splits: bool = False
    tolerance_px: float = 1e-3


def _copy(item: Item, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(item.path, folder / item.name)
    return folder / item.name


def _text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _coco(items: Sequence[Item], prefix: str = "", root_category: bool = False) -> str:
    categories: list[dict[str, Any]] = [
        {"id": i, "name": name, "supercategory": "shapes" if root_category else ""}
        for i, name in enumerate(NAMES, start=1)
    ]
    if root_category:
        categories.insert(0, {"id": 0, "name": "shapes", "supercategory": "none"})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(items):
        height, width = item.size_hw
        images.append({"id": number, "file_name": prefix + item.name, "width": width, "height": height})
        for name, x1, y1, x2, y2 in item.boxes:
            box = [x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)]
            annotation = {"id": len(annotations), "image_id": number, "category_id": NAMES.index(name) + 1}
            annotations.append({**annotation, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def _coco_layout(images: str, file: str, prefix: str = "", given: str = "") -> Layout:
    def write(root: Path, items: Sequence[Item]) -> Path:
        for item in items:
            _copy(item, root / images)
        _text(root / file, _coco(items, prefix))
        return root / given

    return Layout(write)


def _coco_split(place: str, images: str, rename: dict[str, str], root_category: bool = False) -> Layout:
    def write(root: Path, items: Sequence[Item]) -> Path:
        for split in ("train", "val"):
            own, name = [item for item in items if item.split == split], rename.get(split, split)
            for item in own:
                _copy(item, root / images.format(name))
            _text(root / place.format(name), _coco(own, root_category=root_category))
        return root

    return Layout(write, splits=True)


def _xml(item: Item, whole: bool = False) -> str:
    objects = ""
    for name, *corners in item.boxes:
        values = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        box = "".join(f"<{key}>{round(value) if whole else value}</{key}>" for key, value in values)
        objects += f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
    size = f"<size><width>{item.size_hw[1]}</width><height>{item.size_hw[0]}</height><depth>3</depth></size>"
    return f"<annotation><folder>x</folder><filename>{item.name}</filename>{size}{objects}</annotation>"


def _voc_layout(images: str, annotations: str, rename: dict[str, str] | None = None, whole: bool = False) -> Layout:
    def write(root: Path, items: Sequence[Item]) -> Path:
        for item in items:
            split = (rename or {}).get(item.split, item.split)
            path = _copy(item, root / images.format(split))
            _text(root / annotations.format(split) / f"{path.stem}.xml", _xml(item, whole))
        return root

    return Layout(write, splits="{}" in images, tolerance_px=0.5 if whole else 1e-3)


def _voc_lists(root: Path, items: Sequence[Item]) -> Path:
    _voc_layout("JPEGImages", "Annotations").write(root, items)
    for split in ("train", "val"):
        stems = [item.path.stem for item in items if item.split == split]
        _text(root / "ImageSets" / "Main" / f"{split}.txt", "\n".join(stems) + "\n")
    return root


def _lines(item: Item) -> str:
    height, width = item.size_hw
    lines = ""
    for name, x1, y1, x2, y2 in item.boxes:
        values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines += f"{NAMES.index(name)} " + " ".join(f"{value:.6f}" for value in values) + "\n"
    return lines


def _yolo_layout(
    images: str, labels: str, extra: dict[str, str], rename: dict[str, str] | None = None, splits: bool = False
) -> Layout:
    """``extra``: more files; {train} and {val} in them are lists of the images."""

    def write(root: Path, items: Sequence[Item]) -> Path:
        listed: dict[str, list[str]] = {"train": [], "val": []}
        for item in items:
            split = (rename or {}).get(item.split, item.split)
            path = _copy(item, root / images.format(split))
            listed[item.split].append(path.relative_to(root).as_posix())
            _text(root / labels.format(split) / f"{path.stem}.txt", _lines(item))
        lists = {split: "\n".join(names) + "\n" for split, names in listed.items()}
        lists["all"] = lists["train"] + lists["val"]
        lists["data"] = "".join(f"data/{line}\n" for line in lists["all"].split())
        for name, text in extra.items():
            for key, lines in lists.items():
                text = text.replace("{" + key + "}", lines)
            _text(root / name, text)
        return root

    return Layout(write, splits, tolerance_px=1e-4)


def _labelme(item: Item, polygons: bool) -> str:
    shapes = []
    for name, x1, y1, x2, y2 in item.boxes:
        corners = [[x2, y2], [x1, y1]]
        outline = [[x1, (y1 + y2) / 2], [(x1 + x2) / 2, y1], [x2, (y1 + y2) / 2], [(x1 + x2) / 2, y2]]
        shape: dict[str, Any] = {
            "label": name,
            "points": outline if polygons else corners,
            "group_id": None,
            "flags": {},
        }
        shapes.append({**shape, "shape_type": "polygon" if polygons else "rectangle"})
    height, width = item.size_hw
    content: dict[str, Any] = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": item.name,
        "imageData": None,
    }
    return json.dumps({**content, "imageHeight": height, "imageWidth": width})


def _labelme_layout(images: str, annotations: str, polygons: bool = False) -> Layout:
    def write(root: Path, items: Sequence[Item]) -> Path:
        for item in items:
            path = _copy(item, root / images.format(item.split))
            _text(root / annotations.format(item.split) / f"{path.stem}.json", _labelme(item, polygons))
        return root

    return Layout(write, splits="{}" in images)


def _csv_layout(
    header: str, row: str, file: str = "labels.csv", images: str = "images", given: str = "", splits: bool = False
) -> Layout:
    """``row``: a format string over the values of a box; an image without objects has a row without them."""

    def write(root: Path, items: Sequence[Item]) -> Path:
        tables: dict[str, list[str]] = {}
        for item in items:
            path = _copy(item, root / images.format(item.split))
            height, width = item.size_hw
            place = {"image": item.name, "stem": path.stem, "path": path.relative_to(root), "split": item.split}
            lines = tables.setdefault(file.format(item.split), [header] if header else [])
            for name, x1, y1, x2, y2 in item.boxes:
                corners = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "w": round(x2 - x1, 1), "h": round(y2 - y1, 1)}
                shares = {"fx1": x1 / width, "fy1": y1 / height, "fx2": x2 / width, "fy2": y2 / height}
                values = {**place, **corners, **shares, "width": width, "height": height, "name": name}
                lines.append(row.format(**values))
        for name, lines in tables.items():
            _text(root / name, "\n".join(lines) + "\n")
        return root / given

    return Layout(write, splits)


def _hugging_face(root: Path, items: Sequence[Item], numbers: bool, folders: bool) -> Path:
    tables: dict[str, list[str]] = {}
    for item in items:
        folder = {"train": "train", "val": "validation"}[item.split] if folders else ""
        _copy(item, root / folder)
        boxes = [[x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)] for _, x1, y1, x2, y2 in item.boxes]
        categories = [NAMES.index(box[0]) if numbers else box[0] for box in item.boxes]
        line = {"file_name": item.name, "objects": {"bbox": boxes, "category": categories}}
        tables.setdefault(folder, []).append(json.dumps(line))
    for folder, lines in tables.items():
        _text(root / folder / "metadata.jsonl", "\n".join(lines) + "\n")
    if numbers:
        _text(root / "classes.txt", _LIST_OF_NAMES)
    return root


_LIST_OF_NAMES = "\n".join(NAMES) + "\n"
_YAML_NAMES = f"nc: {len(NAMES)}\nnames: [{', '.join(NAMES)}]\n"
_ROBOFLOW = {"val": "valid"}

LAYOUTS: dict[str, Layout] = {
    "coco-official": _coco_split("annotations/instances_{}2017.json", "{}2017", {}),
    "coco-official-images": _coco_split("annotations/instances_{}2017.json", "images/{}2017", {}),
    "coco-roboflow": _coco_split("{}/_annotations.coco.json", "{}", _ROBOFLOW, root_category=True),
    "coco-cvat-subsets": _coco_split(
        "annotations/instances_{}.json", "images/{}", {"train": "Train", "val": "Validation"}
    ),
    "coco-cvat-default": _coco_layout("images/default", "annotations/instances_default.json"),
    "coco-cvat-default-flat": _coco_layout("images", "annotations/instances_default.json"),
    "coco-label-studio": _coco_layout("images", "result.json", "images/"),
    "coco-label-studio-windows": _coco_layout("images", "result.json", "images\\"),
    "coco-one-folder": _coco_layout("images", "annotations.json"),
    "coco-flat": _coco_layout("", "annotations.json"),
    "coco-roboflow-root": _coco_layout("", "_annotations.coco.json"),
    "coco-file": _coco_layout("photos", "my labels.json", "photos/", given="my labels.json"),
    "coco-file-below": _coco_layout("images", "annotations/mine.json", given="annotations/mine.json"),
    "voc-lists": Layout(_voc_lists, splits=True),
    "voc-without-lists": _voc_layout("JPEGImages", "Annotations"),
    "voc-labelimg-flat": _voc_layout("", "", whole=True),
    "voc-labelimg-folders": _voc_layout("{}", "{}", whole=True),
    "voc-roboflow": _voc_layout("{}", "{}", _ROBOFLOW),
    "voc-as-cloned": _voc_layout("images", "annotations"),
    "voc-folders-below": _voc_layout("images/{}", "annotations/{}"),
    "yolo-yaml": _yolo_layout(
        "images/{}", "labels/{}", {"data.yaml": f"train: images/train\nval: images/val\n{_YAML_NAMES}"}, splits=True
    ),
    "yolo-yaml-other-name": _yolo_layout(
        "images/{}", "labels/{}", {"shapes.yaml": f"train: images/train\nval: images/val\n{_YAML_NAMES}"}, splits=True
    ),
    "yolo-roboflow": _yolo_layout(
        "{}/images",
        "{}/labels",
        {"data.yaml": f"train: ../train/images\nval: ../valid/images\n{_YAML_NAMES}"},
        _ROBOFLOW,
        splits=True,
    ),
    "yolo-cvat-ultralytics": _yolo_layout(
        "images/train", "labels/train", {"data.yaml": f"train: train.txt\n{_YAML_NAMES}", "train.txt": "{all}"}
    ),
    "yolo-cvat": _yolo_layout(
        "obj_train_data",
        "obj_train_data",
        {
            "obj.data": "classes = 3\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
            "obj.names": _LIST_OF_NAMES,
            "train.txt": "{data}",
        },
    ),
    "yolo-label-studio": _yolo_layout("images", "labels", {"classes.txt": _LIST_OF_NAMES, "notes.json": "{}"}),
    "yolo-labelimg": _yolo_layout("", "", {"classes.txt": _LIST_OF_NAMES}),
    "yolo-folders": _yolo_layout("images/{}", "labels/{}", {"classes.txt": _LIST_OF_NAMES}, splits=True),
    "yolo-split-folders": _yolo_layout(
        "{}/images", "{}/labels", {"classes.txt": _LIST_OF_NAMES}, _ROBOFLOW, splits=True
    ),
    "yolo-lists": _yolo_layout(
        "images",
        "labels",
        {"classes.txt": _LIST_OF_NAMES, "train.txt": "{train}", "val.txt": "{val}"},
        splits=True,
    ),
    "labelme": _labelme_layout("", ""),
    "labelme-folders": _labelme_layout("{}", "{}", polygons=True),
    "labelme-apart": _labelme_layout("images", "annotations"),
    "csv-tensorflow": _csv_layout(
        "filename,width,height,class,xmin,ymin,xmax,ymax",
        "{image},{width},{height},{name},{x1},{y1},{x2},{y2}",
        "{}_labels.csv",
        splits=True,
    ),
    "csv-roboflow": _csv_layout(
        "filename,width,height,class,xmin,ymin,xmax,ymax",
        "{image},{width},{height},{name},{x1},{y1},{x2},{y2}",
        "{}/_annotations.csv",
        "{}",
        splits=True,
    ),
    "csv-bbox": _csv_layout("image_id;label;bbox", '{stem};{name};"[{x1}, {y1}, {w}, {h}]"'),
    "csv-fractions": _csv_layout(
        "ImageID,LabelName,XMin,XMax,YMin,YMax", "{stem},{name},{fx1},{fx2},{fy1},{fy2}", given="labels.csv"
    ),
    "csv-split-column": _csv_layout(
        "path,label,x,y,w,h,split", "{path},{name},{x1},{y1},{w},{h},{split}", images="photos", splits=True
    ),
    "csv-without-header": _csv_layout("", "{path},{x1},{y1},{x2},{y2},{name}"),
    "hugging-face": Layout(lambda root, items: _hugging_face(root, items, numbers=False, folders=True), splits=True),
    "hugging-face-flat": Layout(lambda root, items: _hugging_face(root, items, numbers=True, folders=False)),
}
