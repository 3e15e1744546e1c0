"""The verb verify."""

from __future__ import annotations

import argparse

from aweigh.export.cli.flags import compared_images
from aweigh.export.cli.report import report
from aweigh.runtime.cli.numbers import given_tolerances, parse_counts


def run_verify_verb(arguments: argparse.Namespace) -> int:
    """0 where all checks passed, 1 where one failed."""
    from aweigh.export.jobs.options import VerifyOptions
    from aweigh.export.jobs.verify import verify
    from aweigh.export.proof.prove import Scope

    batches = tuple(parse_counts(arguments.batches, "--batches")) if arguments.batches else ()
    options = VerifyOptions(
        data=arguments.data,
        split=arguments.split,
        outside_images=arguments.outside_images,
        out=arguments.out,
        force=arguments.force,
        threads=arguments.threads,
        tolerances=given_tolerances(arguments),
        scope=Scope(compared_images(arguments), batches),
        device=arguments.device,
        build=arguments.build,
        strict=arguments.strict,
        match_names=arguments.match_names,
    )
    return report(verify(arguments.model, arguments.against, options), arguments.json)
