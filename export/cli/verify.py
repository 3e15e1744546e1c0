"""The verb verify."""

from __future__ import annotations

import argparse

from aweigh.export.cli.report import report
from aweigh.runtime.cli.numbers import parse_counts
from aweigh.runtime.cli.tolerances import given_tolerances
from aweigh.runtime.errors import BadInput


def run_verify_verb(arguments: argparse.Namespace) -> int:
    """0 where all checks passed, 1 where one failed."""
    from aweigh.export.jobs.options import VerifyOptions
    from aweigh.export.jobs.verify import verify
    from aweigh.export.proof.prove import IMAGES, Scope

    if arguments.pictures is not None and arguments.pictures < 1:
        raise BadInput(f"--pictures {arguments.pictures}: expected at least 1")
    batches = tuple(parse_counts(arguments.batches, "--batches")) if arguments.batches else ()
    options = VerifyOptions(
        data=arguments.data,
        split=arguments.split,
        out=arguments.out,
        force=arguments.force,
        threads=arguments.threads,
        tolerances=given_tolerances(arguments),
        scope=Scope(arguments.pictures or IMAGES, batches),
        device=arguments.device,
        build=arguments.build,
    )
    return report(verify(arguments.model, arguments.against, options), arguments.json)
