"""What export and verify print: the result as JSON, or for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aweigh.runtime.cli.output import console, emit_json

if TYPE_CHECKING:
    from aweigh.export.jobs.engine import EngineResult
    from aweigh.export.jobs.results import VerifyResult


def report(result: VerifyResult | EngineResult, as_json: bool) -> int:
    """Print on stdout; the exit code."""
    if as_json:
        emit_json(result.to_dict())
    elif result.verdict == "built":
        print_engine(result.to_dict())
    else:
        print_result(result.to_dict())
    return 1 if result.verdict == "failed" else 0


def print_result(result: dict[str, Any]) -> None:
    """The files, the figures and the checks that failed."""
    from rich.table import Table

    out = console()
    table = Table(show_header=False, title=f"receipt {result['verdict']}", title_justify="left")
    for name in ("artifact", "receipt", "page"):
        if result[name]:
            table.add_row(name, result[name])
    table.add_row("size", f"{result['bytes'] / 1e6:.1f} MB")
    if result["ap"]:
        ap = result["ap"]
        table.add_row("AP", f"trained {ap['trained']['AP']:.4f}, exported {ap['exported']['AP']:.4f}")
    if result["detections_compared"] is not None:
        on = result["detections_on"]
        words = f"{result['detections_compared']} compared on {on['pictures']} images, each in {on['runs']} run(s)"
        table.add_row("detections", words)
    out.print(table)
    for line in result["failed"]:
        out.print(f"FAILED {line}")
    if result["failed_at"]:
        out.print(f"look first at: {result['failed_at']}")
    for line in result["warnings"]:
        out.print(f"warning: {line}")
    if "bisection" in result:
        print_bisection(result["bisection"])


def print_bisection(result: dict[str, Any]) -> None:
    """The error of each layer, and what to do."""
    from rich.table import Table

    out = console()
    table = Table("layer", "error", "largest value", "", title="error by layer", title_justify="left")
    for row in result["layers"]:
        error = f"{row['error']:.1e}" if row["error"] is not None and row["finite"] else "not finite"
        table.add_row(row["layer"], error, f"{row['largest']:.3g}", "jumps" if row["jumps"] else "")
    out.print(table)
    if result["first"] is None:
        out.print("No layer's error jumps: rounding adds up, or the fault is not one of precision.")
    else:
        out.print(f"first jump: {result['first']}")
    if result["keep_high"]:
        out.print(f"try: --keep-high {','.join(result['keep_high'])}")


def print_engine(result: dict[str, Any]) -> None:
    """The files, and what the engine computes in."""
    from rich.table import Table

    from aweigh.runtime.files.flavours import FLAVOURS

    out = console()
    built = result["built"]
    table = Table(show_header=False, title="engine built", title_justify="left")
    table.add_row("artifact", result["artifact"])
    table.add_row("sidecar", result["sidecar"])
    table.add_row("size", f"{result['bytes'] / 1e6:.1f} MB")
    table.add_row("library", f"{FLAVOURS[result['flavour']].title} {built['tensorrt']}")
    capabilities = result["targets"] or [built["compute_capability"]]
    table.add_row("for", ", ".join(filter(None, [built["gpu"], f"compute capability {', '.join(capabilities)}"])))
    if result["audit"]:
        for count in result["audit"]["layers"]:
            table.add_row(
                count["precision"],
                f"{count['convolutions']} convolutions, {count['matrix_products']} matrix products, "
                f"{count['layers']} layers in all",
            )
        table.add_row("as the ONNX file says", "every convolution, compared one by one")
    for share in result["precision"]:
        table.add_row(
            share["precision"],
            f"{share['layer_share']:.1%} of layers, {share['weight_share']:.1%} of weights, "
            f"{share['byte_share']:.1%} of bytes",
        )
    out.print(table)
