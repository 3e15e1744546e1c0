"""From an ONNX file of ours to a TensorRT plan and its sidecar, on the machine that is to run it. Free of torch.

One text for TensorRT 10.13 and newer and for 11: the network is strongly typed, which 11 knows alone. So precision is
what the ONNX file says; after the build the engine is read back and held against it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aweigh.export.engine.profiles import make_profiles
from aweigh.export.engine.progress import BuildProgress, make_monitor
from aweigh.export.engine.report import EngineReport, read_report, require_precision
from aweigh.export.engine.stoppable import run_stoppable
from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.backends.tensorrt.cuda_memory import Cuda, device_index, import_cudart
from aweigh.runtime.backends.tensorrt.library import (
    LogTail,
    check,
    construct,
    fingerprint_here,
    import_tensorrt,
    make_logger,
    numpy_dtype,
    require,
    shape_of,
)
from aweigh.runtime.errors import BadInput, CannotRun
from aweigh.runtime.files.engine import BuildSettings, EngineFile, EngineTensor, write_engine
from aweigh.runtime.files.fingerprint import HardwareLevel
from aweigh.runtime.files.golden import GOLDEN_KEY
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.files.shape_ranges import ShapeProfile
from aweigh.runtime.spec import ModelSpec

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class EngineOptions:
    """The flags of ``aweigh export --format engine``.

    Attributes:
        opt_batches: see ``profiles.make_profiles``.
        workspace_bytes: scratch memory the engine may use; None for as much as the device has.
        builder_level: 0 (quick build) to 5 (thorough).
        timing_cache: file of measurements, read if it is there and written after the build.
        device: that builds, and that the engine is for.
    """

    opt_batches: tuple[int, ...] = ()
    workspace_bytes: int | None = None
    builder_level: int = 3
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: HardwareLevel = "none"
    device: str = "cuda"

    def settings(self, cache_used: bool) -> BuildSettings:
        """The same for the sidecar."""
        return BuildSettings(
            workspace_bytes=self.workspace_bytes,
            builder_level=self.builder_level,
            tf32=False,
            version_compatible=self.version_compatible,
            hardware_compatible=self.hardware_compatible,
            timing_cache=cache_used,
        )


def check_options(spec: ModelSpec, options: EngineOptions) -> tuple[ShapeProfile, ...]:
    """The profiles, after all that can be checked without TensorRT. Raises BadInput."""
    if not 0 <= options.builder_level <= 5:
        raise BadInput(f"--builder-level {options.builder_level}: expected 0 (quick) to 5 (thorough)")
    if options.workspace_bytes is not None and options.workspace_bytes < 1 << 20:
        raise BadInput(f"--workspace-gb: {options.workspace_bytes} bytes, expected at least 0.001 (1 MB)")
    if options.timing_cache is not None and options.timing_cache.is_dir():
        raise BadInput(f"--timing-cache {options.timing_cache}: expected a file, this is a folder")
    return make_profiles(spec, options.opt_batches)


def build_engine(model: Path, out: Path, options: EngineOptions) -> EngineFile:
    """Build, read back, write ``out`` and its sidecar.

    Returns:
        The sidecar as written.

    Raises:
        BadInput: no ONNX file of ours, options that do not go together, or a timing cache of another machine.
        CannotRun: no TensorRT, no GPU, or TensorRT cannot build this graph.
        CheckFailed: the engine lacks the precision that the ONNX file asks for; nothing is written.
        KeyboardInterrupt: Ctrl-C; nothing is written.
    """
    content = model.read_bytes() if model.is_file() else b""
    parsed = read_onnx(model)
    spec = parsed.spec(model)
    profiles = check_options(spec, options)
    index = device_index(options.device)
    import_tensorrt()
    cuda = Cuda(import_cudart(), index)
    stop = threading.Event()
    cache_used = options.timing_cache is not None and options.timing_cache.is_file()
    with BuildProgress(stop) as progress:
        progress.say(f"build {model} -> {out}; " + "; ".join(str(profile) for profile in profiles))
        plan = run_stoppable(lambda: _build(cuda, content, model, profiles, options, progress), stop)
    parents = {"onnx_sha256": hashlib.sha256(content).hexdigest(), **spec.parents}
    golden = parsed.metadata.get(GOLDEN_KEY)
    return finish_plan(cuda, plan, spec, profiles, options.settings(cache_used), out, parents, golden)


def finish_plan(
    cuda: Cuda,
    plan: bytes,
    spec: ModelSpec,
    profiles: Sequence[ShapeProfile],
    settings: BuildSettings,
    out: Path,
    parents: dict[str, str],
    golden: str | None,
    plan_names: dict[str, str] | None = None,
) -> EngineFile:
    """Read a plan back, check its precision, write it with its sidecar.

    Args:
        golden: the text of the golden pictures, for the sidecar.
        plan_names: the plan's names of the contract's inputs and outputs, where a front end chose its own; by default
            they are the same, and the plan comes from an ONNX file.

    Raises:
        CheckFailed, CannotRun: as ``build_engine``.
    """
    names = plan_names or {name: name for name in (INPUT_NAME, *spec.post.output_names)}
    tensors, report = _read_back(cuda, plan, profiles, names, settings.version_compatible)
    require_precision(report, spec.precision)
    engine = EngineFile(
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        spec=spec,
        built=fingerprint_here(cuda),
        profiles=tuple(profiles),
        settings=settings,
        tensors=tensors,
        precision=report.shares,
        unknown_layers=report.unknown_layers,
        parents=parents,
        via="torch-trt" if plan_names else "onnx",
        golden=golden,
    )
    write_engine(plan, out, engine)
    return engine


def _build(
    cuda: Cuda,
    content: bytes,
    model: Path,
    profiles: Sequence[ShapeProfile],
    options: EngineOptions,
    progress: BuildProgress,
) -> bytes:
    """The plan. Runs in a thread of its own, whose device has to be set."""
    import tensorrt as trt

    cuda.use()
    log = LogTail()
    logger = make_logger(log)
    builder = construct(trt.Builder, logger, log=log)
    # TensorRT 11 ignores the flag, and may drop it one day, for there is no other kind of network then.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = construct(trt.OnnxParser, network, logger, log=log)
    if not parser.parse(content, str(model)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        raise CannotRun(parse_failure(str(model), errors))
    config = builder.create_builder_config()
    for profile in profiles:
        shapes = builder.create_optimization_profile()
        shapes.set_shape(INPUT_NAME, trt.Dims(profile.min), trt.Dims(profile.opt), trt.Dims(profile.max))
        check(config.add_optimization_profile(shapes) >= 0, f"profile {profile} was refused", log)
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.builder_optimization_level = options.builder_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector tells names alone
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and FP32 would be 10 bits of mantissa
    config.max_aux_streams = 0  # a CUDA graph is captured from one stream
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible == "ampere-plus":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    elif options.hardware_compatible == "same-capability":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
    if options.timing_cache is not None:
        _load_timing_cache(config, options.timing_cache)
    monitor = make_monitor(progress)
    config.progress_monitor = monitor
    built = builder.build_serialized_network(network, config)
    if progress.stop.is_set():
        raise KeyboardInterrupt
    plan = _bytes(require(built, f"{model}: TensorRT {trt.__version__} cannot build this engine", log))
    if options.timing_cache is not None:
        measured = _bytes(config.get_timing_cache().serialize())
        with atomic_write(options.timing_cache) as temporary:
            temporary.write_bytes(measured)
    return plan


def _load_timing_cache(config: trt.IBuilderConfig, path: Path) -> None:
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        raise BadInput(
            f"--timing-cache {path}: measured on another GPU or with another TensorRT; name another file, or remove it"
        )


def parse_failure(model: str, errors: Sequence[Any]) -> str:
    """What the parser had against a graph, node by node; ``errors`` are TensorRT's ParserError."""
    lines = []
    for error in errors:
        where = f"node {error.node()} {error.node_name() or '(no name)'} ({error.node_operator() or 'no operator'})"
        lines.append(f"{where}: {' '.join(error.desc().split())}")
    return f"{model}: TensorRT's parser refuses the graph: " + ("; ".join(lines) or "it tells no reason")


def _read_back(
    cuda: Cuda, plan: bytes, profiles: Sequence[ShapeProfile], names: dict[str, str], version_compatible: bool
) -> tuple[tuple[EngineTensor, ...], EngineReport]:
    """Inputs and outputs in the order of ``names``, and the inspector's report at the first profile's best shape."""
    import tensorrt as trt

    cuda.use()
    log = LogTail()
    logger = make_logger(log)
    runtime = construct(trt.Runtime, logger, log=log)
    runtime.engine_host_code_allowed = version_compatible  # it was built here and now
    engine = require(runtime.deserialize_cuda_engine(plan), "the plan just built cannot be read back", log)
    there = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
    missing = sorted(set(names.values()) - there)
    check(not missing, f"the engine has the tensors {', '.join(sorted(there))}; missing {', '.join(missing)}")
    tensors = tuple(
        EngineTensor(
            name,
            plan_name,
            str(numpy_dtype(engine.get_tensor_dtype(plan_name), name)),
            shape_of(engine.get_tensor_shape(plan_name)),
        )
        for name, plan_name in names.items()
    )
    context = require(engine.create_execution_context(), "no execution context could be made", log)
    # With dynamic shapes the inspector tells types for the shapes of a context alone.
    check(context.set_input_shape(names[INPUT_NAME], profiles[0].opt), "the input shape was refused", log)
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    return tensors, read_report(str(inspector.get_engine_information(trt.LayerInformationFormat.JSON)))


def _bytes(memory: Any) -> bytes:
    """Of an IHostMemory, which has a buffer that its stubs do not tell of."""
    return bytes(memory)
