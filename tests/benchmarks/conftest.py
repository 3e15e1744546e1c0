"""The benchmarks are scripts that import each other from their own folder."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE.parents[1] / "benchmarks"))

# The runtime's small detector, and pictures that it finds something in.
_spec = spec_from_file_location("runtime_fixtures", _HERE.parent / "runtime" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
make_model, model, folder, write_picture = (
    getattr(_fixtures, name) for name in ("make_model", "model", "folder", "write_picture")
)
make_picture = _fixtures.make_picture
