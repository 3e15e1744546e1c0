"""The folder from which nuclio builds a function of CVAT: the model, its classes, aweigh's wheel, the entry."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from aweigh.runtime.atomic import atomic_folder
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.spec import ModelSpec

_ENTRY = '''"""Entry of the function; nuclio looks for it here."""

from aweigh.runtime.label.cvat_function import handler, init_context

__all__ = ["handler", "init_context"]
'''
_NO_NAME = re.compile(r"[^a-z0-9]+")
_LARGEST_REQUEST_BYTES = 64 << 20


def write_cvat_function(model: Path, wheel: Path, out: Path) -> Path:
    """Write a folder for ``nuctl deploy``; it appears whole or not at all. Returns ``out``.

    ``function.yaml`` is JSON, which is YAML.

    Args:
        model: an exported ONNX file.
        wheel: aweigh's, as ``pip wheel --no-deps .`` builds it: no package index has aweigh.

    Raises:
        BadInput: no exported file, two classes of one name, which CVAT does not take, or no wheel; ``out`` is there
            already and not empty.

    Example:
        >>> wheel = tmp_path / "aweigh-0.1.0-py3-none-any.whl"
        >>> _ = wheel.write_bytes(b"a wheel")
        >>> folder = write_cvat_function(model_path, wheel, tmp_path / "function")
        >>> sorted(path.name for path in folder.iterdir())
        ['aweigh-0.1.0-py3-none-any.whl', 'function.yaml', 'main.py', 'model.onnx']
    """
    spec = read_onnx(model).spec(model)
    names = [category.name for category in spec.categories]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"{model}: several classes are called {', '.join(map(repr, twice))}; CVAT needs a name for each")
    if wheel.suffix != ".whl" or not wheel.is_file():
        raise BadInput(f"{wheel}: expected aweigh's wheel: pip wheel --no-deps . in a clone of aweigh")
    with atomic_folder(out) as folder:
        shutil.copyfile(model, folder / "model.onnx")
        shutil.copyfile(wheel, folder / wheel.name)
        (folder / "main.py").write_text(_ENTRY, encoding="utf-8")
        text = json.dumps(_function(model, spec, wheel.name), indent=2, ensure_ascii=False)
        (folder / "function.yaml").write_text(text + "\n", encoding="utf-8")
    return out


def _function(model: Path, spec: ModelSpec, wheel: str) -> dict[str, Any]:
    labels = [{"id": i, "name": category.name, "type": "rectangle"} for i, category in enumerate(spec.categories)]
    name = "aweigh-" + (_NO_NAME.sub("-", model.stem.lower()).strip("-") or "detector")
    return {
        "metadata": {
            "name": name,
            "namespace": "cvat",
            "annotations": {
                "name": model.stem,
                "type": "detector",
                "framework": "onnx",
                "spec": json.dumps(labels, ensure_ascii=False),  # CVAT reads it as JSON
            },
        },
        "spec": {
            "description": f"{model.stem}: {spec.architecture}, {spec.method}, exported by aweigh",
            "runtime": "python:3.11",
            "handler": "main:handler",
            "eventTimeout": "60s",
            "build": {
                "image": f"cvat.{name}",
                "baseImage": "python:3.11-slim",
                "directives": {
                    # After the folder was copied: the wheel lies in it.
                    "postCopy": [{"kind": "RUN", "value": f"pip install --no-cache-dir '/opt/nuclio/{wheel}[cpu]'"}]
                },
            },
            "triggers": {
                "http": {
                    "kind": "http",
                    "numWorkers": 1,
                    "workerAvailabilityTimeoutMilliseconds": 10_000,
                    "attributes": {"maxRequestBodySize": _LARGEST_REQUEST_BYTES},
                }
            },
        },
    }
