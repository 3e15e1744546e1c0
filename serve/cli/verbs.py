"""The verbs of this stage, for the entry point ``aweigh.verbs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aweigh.serve.cli.serve import add_flags, run

if TYPE_CHECKING:
    from aweigh.runtime.cli.main import Verbs


def register(verbs: Verbs) -> None:
    """Add the verb serve. Nothing heavy is imported before it runs."""
    add_flags(verbs.add("serve", run))
