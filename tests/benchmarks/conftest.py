"""The benchmarks' tests use the runtime's small detector, and run verbs within their own process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

import methods
import pytest
import torch
from red_files import folder, make_model, make_picture, model, write_picture

from aweigh.runtime.cli import main as cli
from support.methods import run as method_run

__all__ = ["folder", "make_model", "make_picture", "model", "write_picture"]


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The verbs that were run, within this process: starting Python and torch afresh takes longer than they do.

    Nor is an export made twice, which takes seconds; its file is still there.
    """
    ran: list[str] = []
    exports: dict[tuple[str, ...], dict[str, Any]] = {}

    def run(*arguments: str) -> dict[str, Any]:
        ran.append(arguments[0])
        if arguments in exports:
            return exports[arguments]
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = cli.main([*arguments, "--json"])
            assert code == 0 or "int8" in arguments  # of a network that has hardly learned: its receipt may fail
        result: dict[str, Any] = json.loads(out.getvalue())
        if arguments[0] == "export":
            exports[arguments] = result
        return result

    for module in (method_run, methods):
        monkeypatch.setattr(module, "aweigh", run)
    threads = torch.get_num_threads()
    yield ran
    torch.set_num_threads(threads)
