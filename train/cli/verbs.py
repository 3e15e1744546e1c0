"""The verbs of the training stage: train, val, convert, import, methods, assign, conformance.

torch is imported by the verbs, not here: every ``aweigh`` command loads this module.
"""

from __future__ import annotations

from importlib.util import find_spec

from aweigh.runtime.cli.main import Verbs
from aweigh.train.cli.assign import add_assign, run_assign
from aweigh.train.cli.conformance import add_conformance, run_conformance
from aweigh.train.cli.convert import add_convert, run_convert
from aweigh.train.cli.methods import run_methods
from aweigh.train.cli.official import add_import, run_import
from aweigh.train.cli.provided import examine_data, labelled_images, torch_facts
from aweigh.train.cli.train import add_late_flags, add_train, run_train
from aweigh.train.cli.val import add_val, run_val


def register(verbs: Verbs) -> None:
    """Raises ModuleNotFoundError where the stage's extra is not installed."""
    for module in ("torch", "lightning_fabric", "pycocotools"):
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    verbs.provided.labelled_images = labelled_images
    verbs.provided.examine_data = examine_data
    verbs.provided.torch_facts = torch_facts
    add_train(verbs.add("train", run_train, add_late_flags))
    add_val(verbs.add("val", run_val))
    add_assign(verbs.add("assign", run_assign))
    add_convert(verbs.add("convert", run_convert))
    add_import(verbs.add("import", run_import))
    verbs.add("methods", run_methods)
    add_conformance(verbs.add("conformance", run_conformance))
