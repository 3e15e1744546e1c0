"""From an ONNX file to a TensorRT plan and its sidecar, without torch.

One text for TensorRT 10.13 and newer, for 11, and for TensorRT for RTX: networks are strongly typed, so precision is
what the ONNX file says. Before the build every convolution of the parsed network is held against the file; after a
build on a GPU the engine's inspector is read as well.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aweigh.export.engine.network import ParsedNetwork, parse_network
from aweigh.export.engine.options import EngineOptions, check_options, refuse_operators
from aweigh.export.engine.progress import BuildProgress, make_monitor
from aweigh.export.engine.read_back import read_back
from aweigh.export.engine.report import EngineReport, require_precision
from aweigh.export.engine.stoppable import run_stoppable
from aweigh.export.engine.summary import BuildSummary
from aweigh.export.engine.targets import set_targets
from aweigh.runtime.atomic import atomic_write
from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.backends.cuda_memory import Cuda, device_index, import_cudart
from aweigh.runtime.backends.tensorrt.library import check, fingerprint_here, load, require
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.audit import Audit
from aweigh.runtime.files.engine import EngineFile, EngineTensor, write_engine
from aweigh.runtime.files.golden import GOLDEN_KEY
from aweigh.runtime.files.onnx import OnnxFile, read_onnx
from aweigh.runtime.files.shape_ranges import ShapeProfile
from aweigh.runtime.spec import ModelSpec

if TYPE_CHECKING:
    import tensorrt as trt

# Why an engine with such an operator runs without a CUDA graph.
_NO_GRAPH = {
    "NonMaxSuppression": (
        "the NonMaxSuppression operator inside has results of unknown number: the engine runs without a CUDA graph; "
        "a model exported with --nms matrix has one"
    ),
    "If": (
        "the NMS inside stops early, by a branch (the operator If): the engine runs without a CUDA graph; one made of "
        "the checkpoint (--model CHECKPOINT --format engine) goes without the branch and has one"
    ),
}


@dataclass(frozen=True)
class Builder:
    """A library with the device that it builds on; None where it builds without one."""

    module: Any
    cuda: Cuda | None


@dataclass(frozen=True)
class Plan:
    """A plan, and what is known of it from the network; by another front end than ONNX nothing is."""

    content: bytes
    audit: Audit | None = None
    tensors: tuple[EngineTensor, ...] = ()


def open_builder(options: EngineOptions) -> Builder:
    """The library and, where its flavour needs one to build, the device.

    Raises:
        CannotRun: one of them is missing.
        BadInput: ``options.device`` is no device.
    """
    if options.library.builds_without_gpu:
        return Builder(load(options.library), None)
    index = device_index(options.device or "cuda")
    module = load(options.library)
    return Builder(module, Cuda(import_cudart(options.library.install), index))


def build_engine(model: Path, out: Path, options: EngineOptions) -> EngineFile:
    """Parse, audit and build; write ``out`` and its sidecar.

    Returns:
        The sidecar as written.

    Raises:
        BadInput: no ONNX file of aweigh's, options that do not go together, or a timing cache of another machine.
        CannotRun: no TensorRT, no GPU where one is needed, or a graph that TensorRT cannot build.
        CheckFailed: a convolution has another precision than the ONNX file says; nothing is written.
        KeyboardInterrupt: Ctrl-C; nothing is written.

    Example:
        >>> build_engine(Path("absent.onnx"), Path("best.engine"), EngineOptions(flavour="rtx"))
        Traceback (most recent call last):
        aweigh.runtime.errors.BadInput: absent.onnx: no such model file
    """
    file = read_onnx(model)
    spec = file.spec(model)
    plan, profiles, builder, cache_used = _built(model, file, spec, options, f" -> {out}")
    parents = {"onnx_sha256": file.sha256, **spec.parents}
    golden = file.metadata.get(GOLDEN_KEY)
    branches = any(node.op_type == "If" for node in file.nodes)
    return finish_plan(
        builder, plan, spec, profiles, options, out, parents, golden, cache_used=cache_used, branches=branches
    )


def try_build(model: Path, options: EngineOptions) -> BuildSummary:
    """Parse, audit and build as ``build_engine`` does, and write nothing. Raises as it does."""
    file = read_onnx(model)
    plan, _, builder, _ = _built(model, file, file.spec(model), options, "")
    assert plan.audit is not None
    here = fingerprint_here(builder.module, builder.cuda)
    targets = options.targets or (here.compute_capability,)
    return BuildSummary(options.flavour, here.tensorrt, targets, plan.tensors, plan.audit, len(plan.content))


def finish_plan(
    builder: Builder,
    plan: Plan,
    spec: ModelSpec,
    profiles: Sequence[ShapeProfile],
    options: EngineOptions,
    out: Path,
    parents: dict[str, str],
    golden: str | None,
    plan_names: dict[str, str] | None = None,
    cache_used: bool = False,
    branches: bool = False,
) -> EngineFile:
    """Write a plan with its sidecar; where there is a GPU, read it back first and check its precision.

    Args:
        golden: the text of the golden images, for the sidecar.
        plan_names: the plan's names of the contract's inputs and outputs, where a front end chose its own; by default
            they are the same, and the plan comes from an ONNX file.
        branches: see EngineFile.

    Raises:
        CheckFailed, CannotRun: as ``build_engine``.
    """
    names = plan_names or {name: name for name in (INPUT_NAME, *spec.post.output_names)}
    tensors, report = plan.tensors, EngineReport((), 0)
    if builder.cuda is not None:
        compatible = options.version_compatible
        tensors, report = read_back(builder.module, builder.cuda, plan.content, profiles, names, compatible)
        require_precision(report, spec.precision)
    engine = EngineFile(
        plan_sha256=hashlib.sha256(plan.content).hexdigest(),
        plan_bytes=len(plan.content),
        spec=spec,
        built=fingerprint_here(builder.module, builder.cuda),
        profiles=tuple(profiles),
        settings=options.settings(cache_used),
        tensors=tensors,
        precision=report.shares,
        unknown_layers=report.unknown_layers,
        parents=parents,
        via="torch-trt" if plan_names else "onnx",
        golden=golden,
        flavour=options.flavour,
        targets=options.targets,
        audit=plan.audit,
        branches=branches,
    )
    write_engine(plan.content, out, engine)
    return engine


def _built(
    model: Path, file: OnnxFile, spec: ModelSpec, options: EngineOptions, goal: str
) -> tuple[Plan, tuple[ShapeProfile, ...], Builder, bool]:
    operators = {node.op_type for node in file.nodes}
    refuse_operators(operators, options.library, str(model))
    profiles = check_options(spec, options)
    builder = open_builder(options)
    stop = threading.Event()
    cache_used = options.timing_cache is not None and options.timing_cache.is_file()
    with BuildProgress(stop) as progress:
        progress.say(f"build {model}{goal}; " + "; ".join(str(profile) for profile in profiles))
        for operator in sorted(operators & _NO_GRAPH.keys()):
            progress.say(_NO_GRAPH[operator])
        work = _Work(builder, model, file, spec, profiles, options, progress)
        return run_stoppable(work.build, stop), profiles, builder, cache_used


@dataclass(frozen=True)
class _Work:
    """One build. Runs in a thread of its own, whose device has to be set."""

    builder: Builder
    model: Path
    file: OnnxFile
    spec: ModelSpec
    profiles: Sequence[ShapeProfile]
    options: EngineOptions
    progress: BuildProgress

    def build(self) -> Plan:
        library, module = self.options.library, self.builder.module
        if self.builder.cuda is not None:
            self.builder.cuda.use()
        begin, cpu_begin = time.perf_counter(), time.process_time()
        parsed = parse_network(module, library, self.file.content, str(self.model), self.file, self.spec)
        parse_seconds = time.perf_counter() - begin
        config = self._config(parsed)
        monitor = make_monitor(module, self.progress)
        config.progress_monitor = monitor
        built = parsed.builder.build_serialized_network(parsed.network, config)
        if self.progress.stop.is_set():
            raise KeyboardInterrupt
        failure = f"{self.model}: {library.title} {module.__version__} cannot build this engine"
        content = _bytes(require(built, failure, parsed.log))
        self._write_timing_cache(config)
        audit = Audit(
            layers=parsed.layers,
            warnings=(*parsed.warnings, *parsed.log.take()),
            parse_seconds=round(parse_seconds, 3),
            build_seconds=round(time.perf_counter() - begin - parse_seconds, 3),
            cpu_seconds=round(time.process_time() - cpu_begin, 3),
        )
        return Plan(content, audit, parsed.tensors)

    def _config(self, parsed: ParsedNetwork) -> trt.IBuilderConfig:
        if TYPE_CHECKING:
            import tensorrt as trt
        else:
            trt = self.builder.module
        options, log = self.options, parsed.log
        config = parsed.builder.create_builder_config()
        for profile in self.profiles:
            shapes = parsed.builder.create_optimization_profile()
            shapes.set_shape(INPUT_NAME, trt.Dims(profile.min), trt.Dims(profile.opt), trt.Dims(profile.max))
            check(config.add_optimization_profile(shapes) >= 0, f"profile {profile} was refused", log)
        if options.workspace_bytes is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector knows names alone
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and FP32 would be 10 bits of mantissa
        config.max_aux_streams = 0  # a CUDA graph is captured from one stream
        if options.library.builds_without_gpu:
            set_targets(trt, config, options.targets, log)
            return config
        config.builder_optimization_level = options.level
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if options.hardware_compatible == "ampere-plus":
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        elif options.hardware_compatible == "same-capability":
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
        if options.timing_cache is not None:
            _load_timing_cache(config, options.timing_cache)
        return config

    def _write_timing_cache(self, config: trt.IBuilderConfig) -> None:
        if self.options.timing_cache is not None:
            measured = _bytes(config.get_timing_cache().serialize())
            with atomic_write(self.options.timing_cache) as temporary:
                temporary.write_bytes(measured)


def _load_timing_cache(config: trt.IBuilderConfig, path: Path) -> None:
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        raise BadInput(
            f"--timing-cache {path}: measured on another GPU or with another TensorRT; name another file, or remove it"
        )


def _bytes(memory: Any) -> bytes:
    """Of an IHostMemory, which has a buffer that its stubs do not show."""
    return bytes(memory)
