"""Serving stands without the stages before it, and the command line without serving's libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import aweigh.serve

BLOCKED = (
    "torch",
    "onnx",
    "onnxscript",
    "PIL",
    "matplotlib",
    "fastapi",
    "tritonclient",
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
import aweigh.serve
modules = [m.name for m in pkgutil.walk_packages(aweigh.serve.__path__, "aweigh.serve.")]
for name in modules:
    importlib.import_module(name)
from aweigh.serve.http.app import build_app
from aweigh.serve.settings import ModelSource, Settings
app = build_app(Settings((ModelSource("red", {model!r}),), threads=1))
print(len(modules), app.state.services.store.get("red").describe().spec.precision)
"""

WITHOUT = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("starlette", "uvicorn", "grpc", "prometheus_client"):
            raise ModuleNotFoundError("blocked: " + name, name=name)

sys.meta_path.insert(0, Block())
from aweigh.runtime.cli.main import main
sys.exit(main(["serve", "--model", {model!r}]))
"""


def test_every_file_imports_and_a_model_is_served_without_the_other_stages(red_model: Path) -> None:
    program = PROGRAM.format(blocked=BLOCKED, model=str(red_model))
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    root = Path(aweigh.serve.__path__[0])
    rooms = [folder for folder in root.iterdir() if (folder / "__init__.py").is_file()]
    files = [file for folder in (root, *rooms) for file in folder.glob("*.py")]
    assert done.stdout.split() == [str(len(files) - 1), "fp32"]  # the package's own __init__ is not listed


def test_a_missing_extra_is_named(red_model: Path) -> None:
    program = WITHOUT.format(model=str(red_model))
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "pip install '.[serve]'" in done.stderr


def test_the_verb_is_light() -> None:
    program = (
        "import sys, aweigh.serve.cli.verbs; print({'cv2', 'numpy', 'starlette', 'grpc', 'uvicorn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
