"""A plan of comparisons: methods under one recipe on several data sets, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.reading import read_once
from aweigh.runtime.values import build
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.yaml_text import parse_yaml
from support.methods.comparison import Variant, parse_variants

Job = tuple[str, Variant, int]  # data set, variant, seed


@dataclass(frozen=True)
class PlannedData:
    """A data set of a plan.

    Attributes:
        folder: below the folder of data sets; of generated images none.
        generated: images of train, val and test, height and width of an image in pixels.
        val_share, test_share: images held out, as by the flags of ``aweigh train``.
        ranked: whether the methods are compared on it; a data set that is too small for that is only reported.
    """

    folder: str = ""
    generated: dict[str, Any] = field(default_factory=dict)
    val_share: float = 0.0
    test_share: float = 0.0
    ranked: bool = True

    @property
    def recipe(self) -> dict[str, Any]:
        """The keys of a recipe that are of this data set."""
        shares = {"val_share": self.val_share, "test_share": self.test_share}
        return {name: share for name, share in shares.items() if share}

    def place(self, name: str, below: Path, made: Path) -> Path:
        """The folder; generated images are written once, below ``made``. Raises BadInput where there is none."""
        if not self.generated:
            path = below / self.folder
            if not path.is_dir():
                raise BadInput(f"{path}: no such folder; --data names the one that holds {self.folder}")
            return path
        path = made / name
        if not path.is_dir():
            counts = {key: value for key, value in self.generated.items() if key not in ("height", "width")}
            size_hw = self.generated["height"], self.generated["width"]
            generate_shapes(path, **counts, size_hw=size_hw, seed=7)
        return path


@dataclass(frozen=True)
class Plan:
    """What is compared with what.

    Attributes:
        what: in words.
        variants: the methods.
        recipe: of all runs.
        data: the data sets, by name.
        seeds: of each data set.
        jobs: every run, in order.
    """

    what: str
    variants: tuple[Variant, ...]
    recipe: Mapping[str, Any]
    data: Mapping[str, PlannedData]
    jobs: tuple[Job, ...]

    def seeds(self, data: str) -> list[int]:
        """Of a data set, in ascending order."""
        return sorted({seed for name, _, seed in self.jobs if name == data})


def read_plan(path: Path) -> Plan:
    """Raises BadInput for a file that is no plan, naming what is wrong."""
    content = parse_yaml(read_once(path, "plan"), str(path))
    keys = {"what": str, "methods": str, "recipe": dict, "data": dict, "order": list}
    if not isinstance(content, dict) or set(content) != set(keys):
        raise BadInput(f"{path}: expected the keys {', '.join(keys)}")
    for name, expected in keys.items():
        if not isinstance(content[name], expected):
            raise BadInput(f"{path}: {name}: expected {expected.__name__}, got {content[name]!r}")
    data = {
        str(name): build(PlannedData, given, f"{path}: data {name}", coerce=True, noun="keys")
        for name, given in content["data"].items()
    }
    variants = parse_variants(content["methods"])
    jobs: list[Job] = []
    for entry in dict.fromkeys(content["order"]):
        name, _, seed = str(entry).partition(" ")
        if name not in data or not seed.isdigit():
            raise BadInput(f"{path}: order: {entry!r}: expected a data set ({', '.join(data)}) and a seed")
        jobs += [(name, variant, int(seed)) for variant in variants]
    return Plan(content["what"], variants, content["recipe"], data, tuple(jobs))
