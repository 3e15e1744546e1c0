"""Layers of exported graphs, as the parser of TensorRT for RTX counts them; needs no GPU.

    python benchmarks/layers.py [--methods dw,fcos] [--forms raw,engine,auto] --out benchmarks/results/layers.json
    python benchmarks/layers.py --dynamic-size --forms raw,engine      # of files that take any image size

Each is a launch on a GPU, or a fusion to be hoped for. Those of shapes and constants are computed on the host or when
the engine is built, and are counted apart. Untrained networks of the nano architecture; batch 1 to 8, which takes more
arithmetic on shapes than a fixed batch. Forms: ``raw`` ends in the network's outputs; ``engine`` is the method's own
post-processing as a checkpoint becomes an engine, without a branch; ``auto`` the same as in the default file, both
branches counted.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from aweigh.export import ExportOptions, export
from aweigh.export.engine.network import parse_network
from aweigh.export.jobs.options import Post
from aweigh.runtime.backends.tensorrt.library import load
from aweigh.runtime.files.flavours import RTX
from aweigh.runtime.files.onnx import read_onnx
from support.reports.grid import Column
from support.reports.layout import Layout, tables
from support.reports.report import Report, Row
from support.reports.script import make_parser, public_command, publish, run
from support.untrained import write_checkpoint

METHODS = "fcos,autoassign,ala,dw,paa,o2f"
FORMS = "raw,engine,auto"
SIZE_HW, CLASSES = (192, 192), 6
WHAT = "layers of exported graphs as the parser of TensorRT for RTX counts them"
_SHAPES = "ONNXTRT_Shape"  # names that the parser gives to its own arithmetic on shapes

LAYOUT = Layout(
    tables(
        {
            "layers of exported graphs": (
                Column("method", "method"),
                Column("post-processing", "form"),
                Column("image size", lambda row: "free" if row.get("dynamic_size") else "fixed"),
                Column("layers", "layers"),
                Column("of them shapes and constants", "shapes_and_constants"),
                Column("the rest", lambda row: str(row["layers"] - row["shapes_and_constants"])),
            )
        }
    ),
    plots=(),
)


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--methods", default=METHODS, help="default %(default)s")
    parser.add_argument("--forms", default=FORMS, help="of post-processing (default %(default)s)")
    parser.add_argument("--dynamic-size", action="store_true", help="files that take any image size")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for method in options.methods.split(","):
            model = write_checkpoint(Path(folder) / f"{method}.pt", "nano", method, SIZE_HW, CLASSES)
            for form in options.forms.split(","):
                about = {"method": method, "form": form, "dynamic_size": options.dynamic_size}
                rows.append(about | count(model, form, options.dynamic_size))
                print(rows[-1], file=sys.stderr, flush=True)
    report = Report.here("layers", WHAT, rows, public_command("layers.py", arguments), {"classes": CLASSES})
    publish(report, LAYOUT, options)
    return 0


def count(model: Path, form: str, dynamic_size: bool) -> Row:
    """Export the checkpoint and parse the file. Raises CannotRun where the parser refuses it."""
    path = model.with_name(f"{model.stem}-{form}.onnx")
    post: Post = "raw" if form == "raw" else "auto"
    engine = form == "engine"
    options = ExportOptions(
        batch=(1, 8), post=post, golden=0, verify=False, for_engine=engine, dynamic_size=dynamic_size
    )
    with redirect_stdout(sys.stderr):
        export(model, path, options)
    file = read_onnx(path)
    network = parse_network(load(RTX), RTX, path.read_bytes(), path.name, file, file.spec(path)).network
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    idle = [layer for layer in layers if layer.name.startswith(_SHAPES) or str(layer.type).endswith("CONSTANT")]
    return {"layers": len(layers), "shapes_and_constants": len(idle)}


if __name__ == "__main__":
    sys.exit(run("layers.py", main))
