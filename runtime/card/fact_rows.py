"""What a model file says of itself, in rows of a name and words."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from aweigh.runtime.files.audit import Audit
from aweigh.runtime.files.engine import BuildSettings, EngineFile
from aweigh.runtime.files.flavours import FLAVOURS, generation_of
from aweigh.runtime.inspection import GraphFacts, ModelFacts
from aweigh.runtime.spec import ModelSpec

Rows = list[tuple[str, str]]


def fact_rows(facts: ModelFacts) -> Rows:
    """All of it, as ``aweigh inspect`` prints it."""
    rows: Rows = [("size", f"{facts.bytes:,} bytes"), ("sha256", facts.sha256)]
    for side, tensors in (("input", facts.inputs), ("output", facts.outputs)):
        rows += [(side, f"{t.name}  {t.type}  {list(t.shape)}") for t in tensors]
    rows += spec_rows(facts.spec, facts.precision)
    if facts.engine is not None:
        rows += engine_rows(facts.engine)
    if facts.graph is not None:
        rows += graph_rows(facts.graph, facts.metadata)
    return [*rows, ("receipt", receipt_words(facts))]


def spec_rows(spec: ModelSpec, precision: Mapping[str, Any] | None) -> Rows:
    pre, (smallest, largest) = spec.input, spec.batch
    height, width = pre.size_hw
    post = spec.to_dict()["post"]
    return [
        ("method", f"{spec.method}, {spec.architecture}, schema {spec.to_dict()['schema']}"),
        ("classes", ", ".join(f"{c.id}: {c.name}" for c in spec.categories)),
        ("best thresholds", _best_thresholds(spec)),
        ("precision", ", ".join([spec.precision, *_precision_words(precision)])),
        ("batch", str(smallest) if smallest == largest else f"{smallest} to {largest}"),
        (
            "resize",
            f"{pre.resize} {height}x{width} (height x width), {pre.interpolation}, padding {pre.pad_value}",
        ),
        ("dynamic size", f"multiples of {pre.pad_multiple}" if pre.dynamic_size else "no"),
        ("normalisation", f"{pre.color_order}, mean {pre.mean}, std {pre.std} (inside the graph)"),
        ("post-processing", ", ".join(f"{name} {value}" for name, value in post.items() if value is not None)),
        ("parents", _pairs(spec.parents) or "not recorded"),
        ("versions", _pairs(spec.versions) or "not recorded"),
    ]


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _best_thresholds(spec: ModelSpec) -> str:
    pairs = zip(spec.categories, spec.best_conf, strict=False)
    return ", ".join(f"{c.name} {value:.3f}" for c, value in pairs if value is not None) or "not recorded"


def _precision_words(note: Mapping[str, Any] | None) -> list[str]:
    if note is None:
        return []
    words = [f"{note.get('lowered')} of {note.get('convolutions')} convolutions"]
    if "encoding" in note:
        calibration = note.get("calibration") or {}
        words += [
            f"{note.get('quantize_nodes')} Q and {note.get('dequantize_nodes')} DQ nodes",
            f"encoding {note['encoding']}",
            f"calibrated ({calibration.get('method')}) on {calibration.get('pictures')} images "
            f"of {calibration.get('split')}",
        ]
    else:
        words.append(f"{note.get('sixteen_bit_nodes')} nodes in 16 bits")
    if note.get("high"):
        words.append(f"in fp32: {', '.join(note['high'])}")
    return words


def graph_rows(graph: GraphFacts, metadata: tuple[str, ...]) -> Rows:
    return [
        ("graph", f"{graph.producer}, opset {dict(graph.opsets)}, IR {graph.ir_version}, {graph.nodes} nodes"),
        ("operators", ", ".join(f"{count} {name}" for name, count in graph.operators.items())),
        ("metadata", ", ".join(metadata)),
    ]


def engine_rows(engine: EngineFile) -> Rows:
    settings = engine.settings
    flavour = FLAVOURS[engine.flavour]
    rows: Rows = [("flavour", f"{flavour.name}, {flavour.title} {engine.built.tensorrt}"), *_build_rows(engine)]
    for profile in engine.profiles:
        low, best, high = ("x".join(map(str, shape)) for shape in (profile.min, profile.opt, profile.max))
        rows.append(("profile", f"{low} to {high}, best at {best} (batch x height x width x 3)"))
    rows.append(("settings", ", ".join(_settings_words(settings, flavour.lacks))))
    if engine.audit is not None:
        rows += _audit_rows(engine.audit)
    for share in engine.precision:
        rows.append(
            (
                share.precision,
                f"{share.layer_share:.1%} of layers ({share.layers}), {share.weight_share:.1%} of weights, "
                f"{share.byte_share:.1%} of bytes",
            )
        )
    if engine.precision:
        rows.append(("unknown precision", f"{engine.unknown_layers} layers"))
    return rows


def _settings_words(settings: BuildSettings, lacks: Container[str]) -> list[str]:
    """Without those whose flag the flavour lacks: they had no part in the build."""
    workspace = settings.workspace_bytes
    words = {
        "--builder-level": f"level {settings.builder_level}",
        "--workspace-gb": f"workspace {f'{workspace:,} bytes' if workspace else 'unlimited'}",
        "": f"TF32 {'on' if settings.tf32 else 'off'}",
        "--version-compatible": f"version compatible {'yes' if settings.version_compatible else 'no'}",
        "--hardware-compatible": f"hardware compatible {settings.hardware_compatible}",
    }
    return [word for flag, word in words.items() if flag not in lacks]


def _build_rows(engine: EngineFile) -> Rows:
    """Where the engine was built, what for and from what."""
    built = engine.built
    if FLAVOURS[engine.flavour].builds_without_gpu:
        names = dict.fromkeys(generation_of(target) or target for target in engine.targets)
        rows = [
            ("built for", f"compute capability {', '.join(engine.targets)} ({', '.join(names)})"),
            ("built on", f"a machine of {built.platform}, without a GPU"),
        ]
    else:
        rows = [
            ("built with", f"CUDA {built.cuda}, driver for CUDA {built.driver_cuda}"),
            ("built on", f"{built.gpu} (compute capability {built.compute_capability}), {built.platform}"),
        ]
    return [*rows, ("built from", f"{_pairs(engine.parents)}, through {engine.via}")]


def _audit_rows(audit: Audit) -> Rows:
    rows: Rows = [("audit", "every convolution computes what the ONNX file says; of the network before the build:")]
    for count in audit.layers:
        rows.append(
            (
                count.precision,
                f"{count.convolutions} convolutions, {count.matrix_products} matrix products, "
                f"{count.layers} layers in all",
            )
        )
    rows.append(("build", f"{audit.parse_seconds + audit.build_seconds:.1f} s, {audit.cpu_seconds:.1f} CPU s"))
    return [*rows, *(("warning", warning) for warning in audit.warnings)]


def receipt_words(facts: ModelFacts) -> str:
    """Verdict of the receipt next to the file, and whether it is about this file."""
    if facts.receipt is None:
        return "none next to the file"
    about = "about ANOTHER file (sha256 differs)"
    if facts.receipt.sha256_matches:
        about = "about this file"
    elif facts.receipt.parent_matches:
        about = "about the ONNX file that it was built from"
    return f"{facts.receipt.verdict}, {about}: {facts.receipt.file}"
