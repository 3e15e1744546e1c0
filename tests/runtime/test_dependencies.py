"""The runtime stands alone: no torch, no onnx, nothing of the stages before it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aweigh.runtime

BLOCKED = (
    "torch",
    "onnx",
    "onnxscript",
    "torchvision",
    "PIL",
    "matplotlib",
    "pycocotools",
    "aweigh.train",
    "aweigh.export",
)

PROGRAM = """
import importlib, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if any(name == b or name.startswith(b + ".") for b in {blocked!r}):
            raise ModuleNotFoundError("blocked: " + name, name=name)

sys.meta_path.insert(0, Block())
import aweigh.runtime
modules = [m.name for m in pkgutil.walk_packages(aweigh.runtime.__path__, "aweigh.runtime.")]
for name in modules:
    importlib.import_module(name)
with aweigh.runtime.Detector({model!r}) as detector:
    print(len(modules), detector({picture!r}).to_json())
"""


def python(program: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *flags, "-c", program], capture_output=True, text=True, check=True)


def test_every_file_imports_and_a_detector_runs_without_the_other_stages(
    model: Path, tmp_path: Path, make_picture: Callable[..., Any], write_picture: Callable[..., Path]
) -> None:
    picture = write_picture(tmp_path / "x.png", make_picture())
    done = python(PROGRAM.format(blocked=BLOCKED, model=str(model), picture=str(picture)))
    count, result = done.stdout.split(" ", 1)
    files = [p for p in Path(aweigh.runtime.__path__[0]).rglob("*.py") if p.parent.name != "__pycache__"]
    assert int(count) == len(files) - 1  # the package's own __init__ is not listed
    assert '"label": "whole"' in result
    assert done.stderr == ""


def test_importing_the_runtime_is_light() -> None:
    imported = python("import aweigh.runtime", "-X", "importtime").stderr
    names = {line.rsplit("|", 1)[-1].strip() for line in imported.splitlines()}
    assert "aweigh.runtime.spec" in names
    heavy = ("torch", "onnx", "onnxruntime", "cv2", "numpy", "rich")
    assert not [n for n in names if n.split(".")[0] in heavy]
    assert "torch" not in imported
    assert "onnx" not in imported


def test_importing_the_detector_loads_no_onnxruntime() -> None:
    done = python(
        "import sys; from aweigh.runtime import Detector; print([m for m in sys.modules if m == 'onnxruntime'])"
    )
    assert done.stdout.strip() == "[]"


def test_the_command_lines_verbs_are_light() -> None:
    done = python(
        "import sys, aweigh.runtime.cli.verbs; print({'cv2', 'numpy', 'rich', 'onnxruntime'} & set(sys.modules))"
    )
    assert done.stdout.strip() == "set()"
