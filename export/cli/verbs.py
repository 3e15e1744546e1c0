"""The verbs of this stage: export, verify, demo.

torch and the exporter are loaded inside the verbs, for every command loads this module. An engine is built from
an ONNX file without them, on the machine that is to run it.
"""

from __future__ import annotations

from aweigh.export.cli.demo import run_demo_verb
from aweigh.export.cli.export import run_export_verb
from aweigh.export.cli.flags import add_demo, add_export, add_verify
from aweigh.export.cli.provided import exported_checkpoint
from aweigh.export.cli.stage import require_stage
from aweigh.export.cli.verify import run_verify_verb
from aweigh.runtime.cli.main import Verbs


def register(verbs: Verbs) -> None:
    """Raises ModuleNotFoundError where the stage's extra is not installed; ``export`` is there all the same."""
    add_export(verbs.add("export", run_export_verb))
    require_stage()
    verbs.provided.exported_checkpoint = exported_checkpoint
    add_verify(verbs.add("verify", run_verify_verb))
    add_demo(verbs.add("demo", run_demo_verb))
