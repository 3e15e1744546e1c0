"""All that a model file tells about itself, and what the receipt beside it says."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.runtime.files.engine import is_engine, read_plan, read_sidecar, sidecar_path
from aweigh.runtime.files.flavours import FLAVOURS, generation_of
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.spec import PRECISION_KEY

_ENGINE_FACTS = (
    "flavour",
    "built",
    "targets",
    "profiles",
    "settings",
    "audit",
    "precision",
    "unknown_layers",
    "parents",
    "via",
)


def inspect_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Everything about a model file, as JSON values.

    Raises BadInput for a file that ``Detector`` cannot open (or an engine whose plan is not that of its sidecar),
    CannotRun for an ONNX file without ONNX Runtime.
    """
    path = Path(path)
    return _inspect_engine(path) if is_engine(path) else _inspect_onnx(path)


def _inspect_engine(path: Path) -> dict[str, Any]:
    """TensorRT is not needed: the sidecar tells all, and the plan is held against it."""
    engine = read_sidecar(path)
    size = len(read_plan(path, engine))
    known = engine.to_dict()
    tensors = [{"name": t.name, "type": t.dtype, "shape": list(t.shape)} for t in engine.tensors]
    return {
        "file": str(path),
        "bytes": size,
        "sha256": engine.plan_sha256,
        "inputs": [t for t in tensors if t["name"] == INPUT_NAME],
        "outputs": [t for t in tensors if t["name"] != INPUT_NAME],
        "spec": known["spec"],
        "engine": {
            "sidecar": str(sidecar_path(path)),
            **{name: known[name] for name in _ENGINE_FACTS},
        },
        "receipt": _receipt(path, engine.plan_sha256, engine.parents.get("onnx_sha256")),
    }


def _inspect_onnx(path: Path) -> dict[str, Any]:
    parsed = read_onnx(path)
    with OnnxRuntimeBackend(path, threads=1) as backend:
        spec = backend.spec
        session = backend.session
        tensors = {
            side: [{"name": t.name, "type": t.type, "shape": list(t.shape)} for t in values]
            for side, values in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
        }
    sha256 = file_sha256(path)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256,
        **tensors,
        "spec": spec.to_dict(),
        "graph": {
            "producer": parsed.producer,
            "ir_version": parsed.ir_version,
            "opsets": parsed.opsets,
            "nodes": len(parsed.nodes),
            "operators": dict(Counter(n.op_type for n in parsed.nodes).most_common()),
        },
        "precision": _precision(path, parsed.metadata.get(PRECISION_KEY)),
        "metadata": sorted(parsed.metadata),
        "receipt": _receipt(path, sha256),
    }


def _precision(model: Path, text: str | None) -> dict[str, Any] | None:
    """What the export noted on its precision; None for fp32."""
    if text is None:
        return None
    try:
        note = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{model}: metadata entry {PRECISION_KEY!r} is no JSON ({error}); export it again") from error
    if not isinstance(note, dict):
        raise BadInput(f"{model}: metadata entry {PRECISION_KEY!r}: expected an object; export it again")
    return note


def _receipt(model: Path, sha256: str, parent_sha256: str | None = None) -> dict[str, Any] | None:
    """File, verdict, and whether it is about these very bytes, or about the ONNX file that an engine was built from.

    None where there is no receipt.
    """
    path = receipt_path(model)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise BadInput(f"{path}: no JSON ({error}); remove it or write it again with aweigh verify") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path}: expected a JSON object; remove it or write it again with aweigh verify")
    about = content.get("sha256")
    return {
        "file": str(path),
        "verdict": content.get("verdict"),
        "sha256_matches": about == sha256,
        "parent_matches": parent_sha256 is not None and about == parent_sha256,
    }


def print_inspection(facts: dict[str, Any], console: Console) -> None:
    """The same as a table."""
    table = Table(show_header=False, title=facts["file"], title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(facts):
        table.add_row(name, value)
    console.print(table)


def _precision_words(note: dict[str, Any] | None) -> list[str]:
    if note is None:
        return []
    words = [f"{note.get('lowered')} of {note.get('convolutions')} convolutions"]
    if "encoding" in note:
        calibration = note.get("calibration") or {}
        words += [
            f"{note.get('quantize_nodes')} Q and {note.get('dequantize_nodes')} DQ nodes",
            f"encoding {note['encoding']}",
            f"calibrated ({calibration.get('method')}) on {calibration.get('pictures')} pictures "
            f"of {calibration.get('split')}",
        ]
    else:
        words.append(f"{note.get('sixteen_bit_nodes')} nodes in 16 bits")
    if note.get("high"):
        words.append(f"in fp32: {', '.join(note['high'])}")
    return words


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    spec, receipt = facts["spec"], facts["receipt"]
    pre, post = spec["input"], spec["post"]
    size = "x".join(map(str, pre["size_hw"]))
    smallest, largest = spec["batch"]
    lines = [("size", f"{facts['bytes']:,} bytes"), ("sha256", facts["sha256"])]
    for side in ("inputs", "outputs"):
        lines += [(side[:-1], f"{t['name']}  {t['type']}  {t['shape']}") for t in facts[side]]
    lines += [
        ("method", f"{spec['method']}, {spec['architecture']}, schema {spec['schema']}"),
        ("classes", ", ".join(f"{c['id']}: {c['name']}" for c in spec["categories"])),
        ("best thresholds", _best_thresholds(spec)),
        ("precision", ", ".join([spec["precision"], *_precision_words(facts.get("precision"))])),
        ("batch", str(smallest) if smallest == largest else f"{smallest} to {largest}"),
        ("resize", f"{pre['resize']} {size} (height x width), {pre['interpolation']}, padding {pre['pad_value']}"),
        ("dynamic size", f"multiples of {pre['pad_multiple']}" if pre["dynamic_size"] else "no"),
        ("normalisation", f"{pre['color_order']}, mean {pre['mean']}, std {pre['std']} (inside the graph)"),
        ("post-processing", ", ".join(f"{name} {value}" for name, value in post.items() if value is not None)),
        ("parents", ", ".join(f"{k} {v}" for k, v in spec["parents"].items()) or "not recorded"),
        ("versions", ", ".join(f"{k} {v}" for k, v in spec["versions"].items()) or "not recorded"),
    ]
    lines += _engine_lines(facts["engine"]) if "engine" in facts else _graph_lines(facts)
    if receipt is None:
        lines.append(("receipt", "none beside the file"))
    else:
        about = "about ANOTHER file (sha256 differs)"
        if receipt["sha256_matches"]:
            about = "about this file"
        elif receipt["parent_matches"]:
            about = "about the ONNX file that it was built from"
        lines.append(("receipt", f"{receipt['verdict']}, {about}: {receipt['file']}"))
    return lines


def _best_thresholds(spec: dict[str, Any]) -> str:
    pairs = zip(spec["categories"], spec["best_conf"], strict=False)
    told = [f"{c['name']} {value:.3f}" for c, value in pairs if value is not None]
    return ", ".join(told) or "not recorded"


def _graph_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    graph = facts["graph"]
    return [
        ("graph", f"{graph['producer']}, opset {graph['opsets']}, IR {graph['ir_version']}, {graph['nodes']} nodes"),
        ("operators", ", ".join(f"{n} {op}" for op, n in graph["operators"].items())),
        ("metadata", ", ".join(facts["metadata"])),
    ]


def _engine_lines(engine: dict[str, Any]) -> list[tuple[str, str]]:
    built, settings, flavour = engine["built"], engine["settings"], FLAVOURS[engine["flavour"]]
    workspace = settings["workspace_bytes"]
    lines = [("flavour", f"{flavour.name}, {flavour.title} {built['tensorrt']}")]
    if flavour.builds_without_gpu:
        names = dict.fromkeys(generation_of(target) or target for target in engine["targets"])
        lines.append(("built for", f"compute capability {', '.join(engine['targets'])} ({', '.join(names)})"))
        lines.append(("built on", f"a machine of {built['platform']}, without a GPU"))
    else:
        lines.append(("built with", f"CUDA {built['cuda']}, driver for CUDA {built['driver_cuda']}"))
        lines.append(
            ("built on", f"{built['gpu']} (compute capability {built['compute_capability']}), {built['platform']}")
        )
    lines.append(
        ("built from", ", ".join(f"{k} {v}" for k, v in engine["parents"].items()) + f", through {engine['via']}")
    )
    for profile in engine["profiles"]:
        low, best, high = ("x".join(map(str, profile[bound])) for bound in ("min", "opt", "max"))
        lines.append(("profile", f"{low} to {high}, best at {best} (batch x height x width x 3)"))
    lines.append(
        (
            "settings",
            f"level {settings['builder_level']}, workspace {f'{workspace:,} bytes' if workspace else 'unlimited'}, "
            f"TF32 {'on' if settings['tf32'] else 'off'}, "
            f"version compatible {'yes' if settings['version_compatible'] else 'no'}, "
            f"hardware compatible {settings['hardware_compatible']}",
        )
    )
    if engine["audit"]:
        lines += _audit_lines(engine["audit"])
    for share in engine["precision"]:
        lines.append(
            (
                share["precision"],
                f"{share['layer_share']:.1%} of layers ({share['layers']}), {share['weight_share']:.1%} of weights, "
                f"{share['byte_share']:.1%} of bytes",
            )
        )
    if engine["precision"]:
        lines.append(("unknown precision", f"{engine['unknown_layers']} layers"))
    return lines


def _audit_lines(audit: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [("audit", "every convolution computes what the ONNX file says; of the network before the build:")]
    for count in audit["layers"]:
        lines.append(
            (
                count["precision"],
                f"{count['convolutions']} convolutions, {count['matrix_products']} matrix products, "
                f"{count['layers']} layers in all",
            )
        )
    lines.append(
        ("build", f"{audit['parse_seconds'] + audit['build_seconds']:.1f} s, {audit['cpu_seconds']:.1f} CPU s")
    )
    return [*lines, *(("warning", warning) for warning in audit["warnings"])]
