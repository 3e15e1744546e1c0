"""The layout of the source tree: what may import what, how large files and folders may be, and what is packaged."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from source_tree import ROOT, STAGES, Module, every_module, modules

# Each room has a floor; an import goes to a lower floor or stays in its room. Rooms are the folders below a stage and
# the files at its root. Rooms on one floor do not import each other.
FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "runtime": (
        ("errors", "boxes", "precision"),
        ("values", "json_text", "device", "size", "atomic"),
        ("spec", "machine", "pages"),
        ("network", "images"),
        ("video",),
        ("files",),
        ("results",),
        ("backends",),
        ("agreement", "inspection", "device_images"),
        ("flow",),
        ("detector",),
        ("opening",),
        ("views",),
        ("card", "compare", "predict", "label", "bench"),
        ("hub",),
        ("__init__",),
        ("cli",),
    ),
    "train": (
        ("yaml_text", "kernels"),
        ("config", "dense"),
        ("process", "methods"),
        ("models",),
        ("weights",),
        ("checkpoint",),
        ("data",),
        ("evaluation", "tracking"),
        ("loop",),
        ("run",),
        ("doctor", "explorer", "official", "conformance"),
        ("__init__",),
        ("cli",),
    ),
    "export": (
        ("graph", "engine"),
        ("precision",),
        ("to_onnx",),
        ("proof",),
        ("jobs",),
        ("__init__",),
        ("cli",),
    ),
    "serve": (
        ("settings", "problem"),
        ("access", "tensors"),
        ("decoding",),
        ("models",),
        ("services",),
        ("http", "rpc"),
        ("server", "ray_engine"),
        ("__init__",),
        ("cli",),
    ),
}
# Below each stage: the stages that it may import.
MAY_IMPORT = {"runtime": set(), "train": {"runtime"}, "export": {"runtime", "train"}, "serve": {"runtime"}}

# Functions whose result is JSON, or is written as JSON: its keys are a documented file format.
JSON_READERS = {
    "export/graph/operators.py:tensorrt_table",
    "runtime/results/entry.py:read_entry",
    "runtime/results/files.py:coco_results",
    "runtime/results/json_array.py:json_array",
    "serve/tensors.py:parse_object",
    "train/config.py:read_recipe",
}
MOST_FILES = 15
MOST_LINES = 300
JSON_FUNCTIONS = ("to_dict", "to_coco")
DATA_SUFFIXES = {
    ".html",
    ".css",
    ".js",
    ".svg",
    ".json",
    ".yaml",
    ".proto",
    ".binpb",
    ".onnx",
    ".typed",
    ".mjs",
    ".txt",
}
# Read by people and other programs, from the repository alone.
NOT_PACKAGED = {"serve/deploy"}


def floor_of(module: Module) -> int:
    for floor, rooms in enumerate(FLOORS[module.stage]):
        if module.room in rooms:
            return floor
    raise AssertionError(f"{module.path}: give the room {module.room!r} a floor in {Path(__file__).name}")


@pytest.mark.parametrize("stage", STAGES)
def test_imports_go_to_lower_floors(stage: str) -> None:
    upward = []
    for module in modules(stage):
        for path in module.imports:
            target = Module(path)
            if target.stage != stage or target.room == module.room:
                continue
            if floor_of(target) >= floor_of(module):
                upward.append(f"{module.path} imports {path}")
    assert upward == []


@pytest.mark.parametrize("stage", STAGES)
def test_the_table_of_floors_names_the_rooms_that_are_there(stage: str) -> None:
    named = [room for rooms in FLOORS[stage] for room in rooms]
    assert sorted(named) == sorted({module.room for module in modules(stage)})


@pytest.mark.parametrize("stage", STAGES)
def test_stages_import_lower_stages_only(stage: str) -> None:
    others = {Module(path).stage for module in modules(stage) for path in module.imports} - {stage}
    assert others <= MAY_IMPORT[stage]


def circles(stage: str) -> set[Path]:
    """The files on a circle of imports, or between two circles."""
    left = {
        module.path: {p for p in module.imports if p.parts[0] == stage} - {module.path} for module in modules(stage)
    }
    while True:
        imported = set().union(*left.values())
        outside = [path for path, imports in left.items() if not imports & left.keys() or path not in imported]
        if not outside:
            return set(left)
        for path in outside:
            del left[path]


@pytest.mark.parametrize("stage", STAGES)
def test_no_files_import_each_other_in_a_circle(stage: str) -> None:
    """Within a room too, and for type hints too: the files can be read in an order in which nothing is unknown."""
    assert circles(stage) == set()


def test_argparse_stays_in_the_command_line() -> None:
    importing = [str(m.path) for m in every_module() if "argparse" in {n.split(".")[0] for n in m.imported_names}]
    assert [path for path in importing if "/cli/" not in path] == []


def test_temporary_files_are_those_that_are_swept() -> None:
    """``tempfile`` leaves what a killed process had; atomic.py's are removed by the next one."""
    importing = [str(m.path) for m in every_module() if "tempfile" in {n.split(".")[0] for n in m.imported_names}]
    assert [path for path in importing if not path.endswith("runtime/atomic.py")] == []


def test_folders_and_files_stay_small() -> None:
    files: dict[Path, list[Module]] = {}
    for module in every_module():
        files.setdefault(module.path.parent, []).append(module)
    assert {str(folder): len(held) for folder, held in files.items() if len(held) > MOST_FILES} == {}
    lines = {str(m.path): m.text.count("\n") for m in every_module()}
    assert {path: n for path, n in lines.items() if n > MOST_LINES} == {}


def _public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node


def functions_returning_a_dict() -> set[str]:
    return {
        f"{module.path}:{function.name}"
        for module in every_module()
        for function in _public_functions(module.tree.body)
        if function.returns is not None and "dict[str, Any]" in ast.unparse(function.returns)
        if function.name not in JSON_FUNCTIONS
    }


def test_results_are_classes_and_not_dictionaries() -> None:
    assert functions_returning_a_dict() == JSON_READERS


def test_benchmarks_use_public_names_only() -> None:
    private = []
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                private += [f"{path.name}: {alias.name}" for alias in node.names if alias.name.startswith("_")]
            elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
                private += [] if own else [f"{path.name}:{node.lineno}: {node.attr}"]
    assert private == []


def test_the_list_of_packages_equals_the_folders() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {module.path.parent for module in every_module()} | set(_data_folders())
    assert sorted(setuptools["packages"]) == sorted("aweigh." + ".".join(folder.parts) for folder in folders)


def test_the_package_data_covers_every_data_file() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = setuptools["package-data"]
    covered: set[tuple[str, str]] = set()
    for path in _data_files():
        package = "aweigh." + ".".join(path.parent.parts)
        matching = [(package, pattern) for pattern in patterns.get(package, []) if fnmatch(path.name, pattern)]
        assert matching, f"{path} is in no wheel: add it to package-data in pyproject.toml"
        covered |= set(matching)
    unused = {(package, pattern) for package, given in patterns.items() for pattern in given} - covered
    assert unused == set()


def _data_files() -> list[Path]:
    files = [path for stage in STAGES for path in (ROOT / stage).rglob("*") if path.suffix in DATA_SUFFIXES]
    relative = sorted(path.relative_to(ROOT) for path in files)
    return [path for path in relative if str(path.parent) not in NOT_PACKAGED]


def _data_folders() -> set[Path]:
    return {path.parent for path in _data_files()}
