"""A plan just built, read back on the GPU that built it: its inputs and outputs, and what its inspector reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aweigh.export.engine.report import EngineReport, read_report
from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.backends.cuda_memory import Cuda
from aweigh.runtime.backends.tensorrt.library import (
    LogTail,
    check,
    construct,
    make_logger,
    numpy_dtype,
    require,
    shape_of,
)
from aweigh.runtime.files.engine import EngineTensor
from aweigh.runtime.files.shape_ranges import ShapeProfile


def read_back(
    trt_module: Any,
    cuda: Cuda,
    plan: bytes,
    profiles: Sequence[ShapeProfile],
    names: dict[str, str],
    version_compatible: bool,
) -> tuple[tuple[EngineTensor, ...], EngineReport]:
    """Inputs and outputs in the order of ``names``, and the inspector's report at the first profile's best shape.

    Raises CannotRun where the plan cannot be opened, or lacks one of ``names`` (contract name to plan name).
    """
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = trt_module
    cuda.use()
    log = LogTail()
    logger = make_logger(trt_module, log)
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
            str(numpy_dtype(trt_module, engine.get_tensor_dtype(plan_name), name)),
            shape_of(engine.get_tensor_shape(plan_name)),
        )
        for name, plan_name in names.items()
    )
    context = require(engine.create_execution_context(), "no execution context could be made", log)
    # With dynamic shapes the inspector knows types for the shapes of a context alone.
    check(context.set_input_shape(names[INPUT_NAME], profiles[0].opt), "the input shape was refused", log)
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    return tensors, read_report(str(inspector.get_engine_information(trt.LayerInformationFormat.JSON)))
