"""The build, step by step, on a stand-in for TensorRT that records what it is asked; no evidence about TensorRT."""

from __future__ import annotations

import _thread
import enum
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from rich.console import Console

from aweigh.export.engine.build import build_engine
from aweigh.export.engine.network import parse_failure
from aweigh.export.engine.options import EngineOptions
from aweigh.export.engine.progress import BuildProgress, make_monitor
from aweigh.export.engine.stoppable import run_stoppable
from aweigh.export.precision.lowering import Lowering
from aweigh.export.to_onnx import make_graph, write_onnx
from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput, CannotRun, CheckFailed
from aweigh.runtime.files.digest import file_sha256
from aweigh.runtime.files.engine import read_plan, read_sidecar
from aweigh.runtime.files.flavours import TENSORRT
from aweigh.runtime.files.golden import GOLDEN_KEY
from aweigh.runtime.files.onnx import read_onnx
from aweigh.train.checkpoint import Checkpoint

MakeExport = Callable[..., Path]
TYPES = {"images": "UINT8", "num_dets": "INT64", "labels": "INT64", "converged": "BOOL"}
DataType = enum.Enum("DataType", "FLOAT HALF BF16 INT8 INT32 INT64 BOOL UINT8 FP8")
LayerType = enum.Enum("LayerType", "CONVOLUTION DEQUANTIZE MATRIX_MULTIPLY SOFTMAX")


def stand_in_network(model: Path, names: list[str], dtype: DataType) -> Any:
    """What the parser would make of an exported file: its convolutions, in one type."""
    layers = [
        layer(LayerType.CONVOLUTION, node.name, [tensor(f"{node.name}.in", dtype)], [tensor(node.outputs[0], dtype)])
        for node in read_onnx(model).nodes
        if node.op_type == "Conv"
    ]
    tensors = [tensor(name, DataType[TYPES.get(name, "FLOAT")]) for name in names]
    return SimpleNamespace(
        num_layers=len(layers),
        get_layer=layers.__getitem__,
        num_inputs=1,
        get_input=tensors[:1].__getitem__,
        num_outputs=len(names) - 1,
        get_output=tensors[1:].__getitem__,
    )


def tensor(name: str, dtype: DataType) -> Any:
    return SimpleNamespace(name=name, dtype=dtype, shape=(-1, 3))


def layer(kind: LayerType, name: str, inputs: list[Any], outputs: list[Any]) -> Any:
    return SimpleNamespace(
        type=kind,
        name=name,
        num_inputs=len(inputs),
        get_input=inputs.__getitem__,
        num_outputs=len(outputs),
        get_output=outputs.__getitem__,
    )


def inspector_text(kind: str) -> str:
    return json.dumps({"Layers": [{"Outputs": [], "Weights": {"Type": kind, "Count": 100}}]})


@pytest.fixture
def onnx(make_export: MakeExport) -> Path:
    return make_export("fcos", post="auto", nms="matrix")


@pytest.fixture
def tensorrt(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module whose builder gives a plan of a few bytes, whose engine has the tensors of a matrix export.

    Put in place after the ONNX export, for torch must not find it.
    """
    trt = MagicMock()
    trt.__version__ = "11.4.0.106"
    trt.ILogger = type("ILogger", (), {"WARNING": 2})
    trt.IProgressMonitor = type("IProgressMonitor", (), {})
    trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED = 1
    config = trt.Builder.return_value.create_builder_config.return_value
    config.add_optimization_profile.return_value = 0
    config.get_timing_cache.return_value.serialize.return_value = b"measured"
    trt.Builder.return_value.build_serialized_network.return_value = b"the plan"
    names = ["images", "num_dets", "boxes", "scores", "labels", "converged"]
    trt.DataType, trt.LayerType = DataType, LayerType
    trt.Builder.return_value.create_network.return_value = stand_in_network(onnx, names, DataType.FLOAT)
    engine = trt.Runtime.return_value.deserialize_cuda_engine.return_value
    engine.num_io_tensors = len(names)
    engine.get_tensor_name.side_effect = names.__getitem__
    engine.get_tensor_dtype.side_effect = lambda name: DataType[TYPES.get(name, "FLOAT")]
    engine.get_tensor_shape.side_effect = lambda name: (-1, 3)
    trt.inspector = engine.create_engine_inspector.return_value
    trt.inspector.get_engine_information.return_value = inspector_text("Float")
    trt.config = config
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    cudart = MagicMock()
    cudart.cudaError_t.cudaSuccess = 0
    cudart.cudaGetDeviceCount.return_value = (0, 1)
    cudart.cudaSetDevice.return_value = (0,)
    cudart.cudaGetDeviceProperties.return_value = (0, SimpleNamespace(name=b"Stand-in GPU", major=9, minor=0))
    cudart.cudaRuntimeGetVersion.return_value = (0, 13000)
    cudart.cudaDriverGetVersion.return_value = (0, 13010)
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = cudart  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    return trt


def test_plan_and_sidecar(tensorrt: Any, onnx: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "best.engine", tmp_path / "cache.bin"
    options = EngineOptions((1, 4), 10**9, 5, cache, True, "same-capability")
    returned = build_engine(onnx, out, options)
    engine = read_sidecar(out)
    assert engine == returned
    assert read_plan(out, engine) == b"the plan"
    assert engine.parents["onnx_sha256"] == file_sha256(onnx)
    assert "checkpoint_sha256" in engine.parents
    assert engine.golden is not None
    assert engine.golden == read_onnx(onnx).metadata[GOLDEN_KEY]
    assert [p.opt[0] for p in engine.profiles] == [1, 4]
    assert engine.built.gpu == "Stand-in GPU"
    assert (engine.built.cuda, engine.built.driver_cuda) == ("13.0", "13.1")
    assert {t.name: t.dtype for t in engine.tensors}["num_dets"] == "int64"
    assert [t.name for t in engine.tensors][:2] == ["images", "num_dets"]
    assert (engine.flavour, engine.targets) == ("tensorrt", ())
    assert engine.audit is not None
    assert engine.audit.convolutions == {"fp32": 46}
    settings = engine.settings
    assert (settings.workspace_bytes, settings.builder_level, settings.tf32) == (10**9, 5, False)
    assert (settings.version_compatible, settings.hardware_compatible) == (True, "same-capability")
    assert not settings.timing_cache
    assert cache.read_bytes() == b"measured"

    tensorrt.Builder.return_value.create_network.assert_called_once_with(1 << 1)
    config = tensorrt.config
    config.clear_flag.assert_called_once_with(tensorrt.BuilderFlag.TF32)
    config.set_flag.assert_called_once_with(tensorrt.BuilderFlag.VERSION_COMPATIBLE)
    config.set_memory_pool_limit.assert_called_once_with(tensorrt.MemoryPoolType.WORKSPACE, 10**9)
    config.create_timing_cache.assert_called_once_with(b"")
    assert config.builder_optimization_level == 5
    assert config.profiling_verbosity is tensorrt.ProfilingVerbosity.DETAILED
    assert config.add_optimization_profile.call_count == 2

    assert build_engine(onnx, out, options).settings.timing_cache
    config.create_timing_cache.assert_called_with(b"measured")


def test_defaults_leave_tensorrts_own(tensorrt: Any, onnx: Path, tmp_path: Path) -> None:
    build_engine(onnx, tmp_path / "best.engine", EngineOptions())
    for untouched in ("set_flag", "set_memory_pool_limit", "create_timing_cache"):
        getattr(tensorrt.config, untouched).assert_not_called()


def test_the_operator_of_nms_is_built_with_a_line_on_cuda_graphs(
    tensorrt: Any, make_export: MakeExport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = make_export("fcos", post="auto", nms="onnx")
    names = ["images", "num_dets", "boxes", "scores", "labels"]
    tensorrt.Builder.return_value.create_network.return_value = stand_in_network(onnx, names, DataType.FLOAT)
    assert build_engine(onnx, tmp_path / "best.engine", EngineOptions()).spec.post.nms_form == "onnx"
    [line] = [line for line in capsys.readouterr().err.splitlines() if "NonMaxSuppression" in line]
    assert "runs without a CUDA graph; a model exported with --nms matrix has one" in line


@pytest.mark.parametrize("stop_early", [True, False])
def test_nms_that_stops_early_is_built_with_a_line_on_cuda_graphs(
    stop_early: bool,
    tensorrt: Any,
    make_export: MakeExport,
    checkpoint: Checkpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The default file has the branch; what is traced for an engine has none."""
    onnx = tmp_path / "best.onnx"
    if stop_early:
        onnx = make_export("fcos", post="auto")
    else:
        spec = replace(checkpoint.spec, post=replace(checkpoint.spec.post, nms_form="matrix"))
        write_onnx(make_graph(checkpoint.detector(), spec, Lowering(), stop_early=False), spec, onnx)
    names = ["images", "num_dets", "boxes", "scores", "labels", "converged"]
    tensorrt.Builder.return_value.create_network.return_value = stand_in_network(onnx, names, DataType.FLOAT)
    assert build_engine(onnx, tmp_path / "best.engine", EngineOptions()).branches == stop_early
    assert read_sidecar(tmp_path / "best.engine").branches == stop_early
    assert ("the operator If): the engine runs without a CUDA graph" in capsys.readouterr().err) == stop_early


def test_nothing_is_written_where_the_build_fails(tensorrt: Any, onnx: Path, tmp_path: Path) -> None:
    out = tmp_path / "best.engine"
    builder = tensorrt.Builder.return_value

    tensorrt.inspector.get_engine_information.return_value = inspector_text("Half")
    with pytest.raises(CheckFailed, match="was to compute in fp32, but FP32 has 0"):
        build_engine(onnx, out, EngineOptions())

    tensorrt.inspector.get_engine_information.return_value = inspector_text("Float")
    network = builder.create_network.return_value
    first = network.get_layer(0)
    first.get_input(0).dtype = DataType.HALF
    with pytest.raises(CheckFailed, match=rf"1 of 46 convolutions otherwise .*{first.name}: fp32 in the ONNX fi"):
        build_engine(onnx, out, EngineOptions())
    first.get_input(0).dtype = DataType.FLOAT

    def fail(network: Any, config: Any) -> None:
        logger = tensorrt.Builder.call_args.args[0]
        logger.log(1, "no implementation for node_conv")
        logger.log(3, "some information")

    builder.build_serialized_network.side_effect = fail
    with pytest.raises(CannotRun, match=r"cannot build this engine: no implementation for node_conv$"):
        build_engine(onnx, out, EngineOptions())

    tensorrt.config.set_timing_cache.return_value = False
    with pytest.raises(BadInput, match="measured on another GPU or with another TensorRT"):
        build_engine(onnx, out, EngineOptions(timing_cache=tmp_path / "cache.bin"))

    parser = tensorrt.OnnxParser.return_value
    parser.parse.return_value, parser.num_errors = False, 1
    parser.get_error.return_value = parser_error(7, "node_topk", "TopK", "K is too\nlarge")
    with pytest.raises(CannotRun, match=r"refuses the graph: node 7 node_topk \(TopK\): K is too large"):
        build_engine(onnx, out, EngineOptions())
    assert list(tmp_path.iterdir()) == []


def parser_error(node: int, name: str, operator: str, words: str) -> Any:
    values = {"node": node, "node_name": name, "node_operator": operator, "desc": words}
    return SimpleNamespace(**{key: lambda value=value: value for key, value in values.items()})


def test_parser_errors_are_listed() -> None:
    text = parse_failure(
        "x.onnx", [parser_error(1, "a", "Conv", "first"), parser_error(-1, "", "", "second")], TENSORRT
    )
    assert text.endswith("node 1 a (Conv): first; node -1 (no name) (no operator): second")
    assert parse_failure("x.onnx", [], TENSORRT).endswith("it gives no reason")


def test_ctrl_c_stops_the_build(tensorrt: Any, onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def slow_build(network: Any, config: Any) -> bytes | None:
        config.progress_monitor.phase_start("Building", None, 1000)
        _thread.interrupt_main()
        for step in range(1000):
            time.sleep(0.01)
            steps.append(step)
            if not config.progress_monitor.step_complete("Building", step):
                return None
        return b"the plan"

    tensorrt.Builder.return_value.build_serialized_network.side_effect = slow_build
    with pytest.raises(KeyboardInterrupt):
        build_engine(onnx, tmp_path / "best.engine", EngineOptions())
    assert 0 < len(steps) < 900
    assert list(tmp_path.iterdir()) == []


def test_run_stoppable_passes_results_and_errors_on() -> None:
    assert run_stoppable(lambda: 7, threading.Event()) == 7
    with pytest.raises(ZeroDivisionError):
        run_stoppable(lambda: 1 // 0, threading.Event())


@pytest.mark.parametrize("terminal", [True, False])
def test_progress(tensorrt: Any, terminal: bool) -> None:
    out = io.StringIO()
    stop = threading.Event()
    with BuildProgress(stop, Console(file=out, force_terminal=terminal, width=80)) as progress:
        monitor: Any = make_monitor(tensorrt, progress)
        monitor.phase_start("Building [engine]", None, 2)
        monitor.phase_start("Timing", "Building [engine]", 3)
        assert monitor.step_complete("Timing", 0)
        assert monitor.step_complete("unknown", 0)
        monitor.phase_finish("Timing")
        stop.set()
        assert not monitor.step_complete("Building [engine]", 0)
        monitor.phase_finish("Building [engine]")
        monitor.phase_finish("unknown")
    assert "Building [engine]" in out.getvalue()
    if not terminal:
        assert out.getvalue() == "Building [engine]: 2 steps\n"


def test_the_verb(tensorrt: Any, onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "best.engine"
    command = ["export", "--model", str(onnx), "--format", "engine", "--out", str(out), "--hardware-compatible"]
    assert main([*command, "--opt-batch", "1,4", "--workspace-gb", "0.5", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert (result["verdict"], result["artifact"], result["onnx"]) == ("built", str(out), str(onnx))
    assert result["precision"][0]["precision"] == "FP32"
    assert read_sidecar(out).settings.hardware_compatible == "same-capability"
    assert "best at 4x128x160x3" in captured.err
    assert main(command) == 0
    assert "engine built" in capsys.readouterr().out
    assert main(["inspect", "--model", str(out)]) == 0
    assert "Stand-in GPU" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--precision", "fp16"], 2, "--precision fp16: "),
        (["--batch", "4"], 2, "is exported already, and is taken as it is"),
        (["--nms", "matrix"], 2, "--nms matrix"),
        (["--opt-batch", "5"], 2, "expected rising numbers from 1 to 4"),
        (["--opt-batch", "x"], 2, "--opt-batch 'x'"),
        (["--builder-level", "9"], 2, "--builder-level 9: expected 0 (quick) to 5 (thorough)"),
        (["--workspace-gb", "0"], 2, "--workspace-gb 0.0"),
        (["--device", "cpu"], 3, "runs on an NVIDIA GPU alone"),
        (["--out", "x.onnx"], 2, "a name that ends in .engine or .plan"),
        (["--format", "torch-trt"], 2, "expected a checkpoint; use --format engine"),
        (
            ["--gpus", "ada"],
            2,
            "--gpus with --flavour tensorrt: TensorRT lacks it: it builds for the GPU of",
        ),
        ([], 3, "TensorRT is not installed"),
    ],
)
def test_bad_usage(
    arguments: list[str],
    code: int,
    words: str,
    onnx: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert main(["export", "--model", str(onnx), "--format", "engine", *arguments]) == code
    assert words in capsys.readouterr().err


PROGRAM = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError("blocked: " + name, name=name)

sys.meta_path.insert(0, Block())
from aweigh.runtime.cli.main import main
sys.exit(main({arguments!r}))
"""
BLOCKED = ("torch", "onnx", "onnxscript", "lightning_fabric", "pycocotools", "jinja2", "tensorrt")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "engine"], "TensorRT is not installed or does not load"),
        (["--format", "engine", "--model", "best.pt"], "aweigh export needs the module 'torch'"),
        ([], "aweigh export needs the module 'torch'"),
    ],
)
def test_an_onnx_file_is_built_without_torch(arguments: list[str], words: str, onnx: Path) -> None:
    program = PROGRAM.format(blocked=BLOCKED, arguments=["export", "--model", str(onnx), *arguments])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert words in done.stderr
    assert done.stdout == ""


def test_other_verbs_of_the_stage_still_need_it(onnx: Path) -> None:
    program = PROGRAM.format(blocked=BLOCKED, arguments=["verify", "--model", str(onnx), "--against", "best.pt"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "aweigh verify needs the module 'torch'" in done.stderr
