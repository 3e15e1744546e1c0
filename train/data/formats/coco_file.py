"""One COCO JSON with its images, whatever its name: Label Studio's ``result.json``, CVAT's, Roboflow's without splits.

Several such files in one folder are several splits, named by the word of their names that is one (``train`` of
``train_annotations.json``), else by their whole names; a single one without such a word is the split ``all``.
"""

from __future__ import annotations

from pathlib import Path

from aweigh.runtime.errors import BadInput
from aweigh.train.data.documents import read_bytes, read_json
from aweigh.train.data.split_names import ALL, ANNOTATION_FOLDERS, split_in_stem

_MOST_FILES = 20  # more are one for each image, of another format


def find_splits(root: Path) -> dict[str, Path]:
    """Split name to its file; empty where no JSON file in ``root`` or its folder annotations is COCO's."""
    for folder in (root, *(root / name for name in ANNOTATION_FOLDERS)):
        files = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
        found = [path for path in files if is_coco(path)] if len(files) <= _MOST_FILES else []
        if found:
            return _named(found)
    return {}


def splits_of_file(file: Path) -> dict[str, Path]:
    """The split of one file. Raises BadInput where it is not COCO's."""
    if is_coco(file):
        return _named([file])
    raise BadInput(
        f"{file}: expected COCO JSON, an object with the lists images, annotations and categories; for annotations "
        "with one JSON file for each image, name their folder"
    )


def is_coco(file: Path) -> bool:
    """Whether a file is a JSON object with the lists images and categories."""
    try:
        content = read_json(read_bytes(file), str(file))
    except BadInput:
        return False
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "categories"))


def _named(files: list[Path]) -> dict[str, Path]:
    stems = {path: path.stem.removeprefix("instances_") for path in files}
    names = {path: split_in_stem(stem) for path, stem in stems.items()}
    if len(files) == 1 and stems[files[0]] == "default":  # CVAT's
        return {"default": files[0]}
    if len(set(names.values())) < len(files) or (len(files) > 1 and ALL in names.values()):
        names = stems
    return {names[path]: path for path in files}
