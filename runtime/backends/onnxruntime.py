"""ONNX Runtime on a CPU or a CUDA device, there also through its TensorRT provider."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aweigh.runtime.atomic import temporary_folder
from aweigh.runtime.backends.base import INPUT_NAME, Backend, own_errors
from aweigh.runtime.backends.contract import GraphInput, check_graph
from aweigh.runtime.backends.negotiate import computed_precision, wanted_precision
from aweigh.runtime.backends.onnxruntime_binding import GRAPH_ID, NO_GRAPH, BoundRuns
from aweigh.runtime.backends.onnxruntime_options import OrtOptions
from aweigh.runtime.backends.onnxruntime_rtx import RTX, open_rtx_session
from aweigh.runtime.backends.onnxruntime_session import (
    CPU,
    Providers,
    import_onnxruntime,
    open_session,
    providers_of,
    require_providers,
    session_options,
)
from aweigh.runtime.backends.onnxruntime_trace import CONVOLUTIONS, count_layers, read_profile, require_placement
from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.golden import GOLDEN_KEY
from aweigh.runtime.files.onnx import OnnxFile, read_onnx
from aweigh.runtime.machine.facts import available_cores
from aweigh.runtime.network import DeviceBatch, Outputs

_NAME = "ONNX Runtime"
_SMALLEST = 4  # of a file of any size, the image that is looked at has so many times its multiple in both directions


class OnnxRuntimeBackend(Backend):
    """A session of ONNX Runtime; calls from several threads may overlap.

    ``providers`` lists, after their names, the nodes that the requested device does not run.

    Attributes:
        device: that computes.
    """

    device: Device

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str | Device = "cpu",
        threads: int | None = None,
        *,
        precision: str | None = None,
        tensorrt: bool = False,
        rtx: bool = False,
        profile_prefix: Path | None = None,
        optimized_path: Path | None = None,
        parsed: OnnxFile | None = None,
        options: OrtOptions | None = None,
    ) -> None:
        """Open a file.

        FP32 on a CPU is opened and no more, for nothing there can differ from what was asked. Any other file is run
        once, on the smallest batch, to see from ONNX Runtime's profiler where and in which types its nodes run.

        Args:
            path: an ONNX file written by aweigh export.
            device: ``cpu``, ``cuda`` or ``cuda:N``; exactly this one is used or an error raised.
            threads: within an operator; by default the cores this process may use.
            precision: None for what the file says; another than the file's is refused, for it stands in the graph.
            tensorrt: through the TensorRT provider, on a CUDA device.
            rtx: through the provider of TensorRT for RTX, on an RTX GPU.
            profile_prefix: where ``end_profiling`` writes its JSON; None for no profile.
            optimized_path: where the graph is written as it is executed; None for nowhere.
            parsed: the file, where the caller has read it already; ``path`` is then for messages.
            options: of ONNX Runtime on the device, without ``tensorrt`` and ``rtx``; None for its defaults.

        Raises:
            BadInput: no such file, no ONNX, not written by aweigh, a graph that breaks its own contract, a precision
                that is not the file's, or options that the device or the file cannot have.
            CannotRun: neither onnxruntime package is installed; the device, an operator or the precision is not
                available.
        """
        if threads is not None and threads < 1:
            raise BadInput(f"threads {threads}: expected at least 1")
        device = Device.parse(device, ("cuda",) if rtx else ("cpu", "cuda"), "ONNX Runtime")
        self.device = device
        options = options or OrtOptions()
        providers: Providers = [(RTX, {})] if rtx else providers_of(device, tensorrt, options)
        ort = import_onnxruntime()
        parsed = parsed or read_onnx(path)
        self.sha256 = parsed.sha256
        self.spec = parsed.spec(path)
        self.golden = parsed.metadata.get(GOLDEN_KEY)
        options.require(device, self.spec)
        wanted = wanted_precision(path, self.spec.precision, precision, _NAME)
        if not rtx:
            require_providers(ort, providers, device)
        self.threads = threads or available_cores()
        settings = session_options(ort, self.threads)
        if optimized_path is not None:
            settings.optimized_model_filepath = str(optimized_path)
        plain = (wanted, providers[0][0]) == ("fp32", CPU)
        look = profile_prefix is None and not plain
        with temporary_folder() if look else nullcontext() as folder:
            prefix = profile_prefix if folder is None else folder / "profile"
            if prefix is not None:
                settings.enable_profiling = True
                settings.profile_file_prefix = str(prefix)
            self._session: Any = (
                open_rtx_session(ort, path, parsed.content, settings, self.spec, device)
                if rtx
                else open_session(ort, path, parsed.content, settings, providers, device)
            )
            check_graph(path, *_ports(self._session), self.spec)
            self.providers = tuple(self._session.get_providers())
            self.layers = _convolutions(parsed) if plain else {}
            if look:
                self._look(path, ort, options.graph)
        names = self.spec.post.output_names
        self._bound = BoundRuns(ort, self._session, device, names, options.graph) if options.binding else None
        self.precision = computed_precision(path, wanted, precision, self.layers, _NAME)

    @property
    def session(self) -> Any:
        """The onnxruntime.InferenceSession, for its inputs, outputs and profile. Raises BadInput after ``close``."""
        if self._session is None:
            raise BadInput("this detector is closed; open the file again")
        return self._session

    @property
    def binds(self) -> bool:
        """Whether runs use buffers of the device that are kept (``OrtOptions.binding``)."""
        return self._bound is not None

    def _infer(self, images_u8: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        session = self.session
        if self._bound is not None:
            return self._bound.run(images_u8)
        names = self.spec.post.output_names
        return dict(zip(names, session.run(names, {INPUT_NAME: images_u8}), strict=True))

    def infer_on_device(self, batch: DeviceBatch) -> Outputs:
        """``infer`` of images that lie in the memory of the session's device; the outputs come to the host.

        Raises as ``infer``.
        """
        self.check_shape(batch.shape)
        return self._checked(lambda: self._run_on_device(batch), len(batch))

    def _run_on_device(self, batch: DeviceBatch) -> dict[str, npt.NDArray[Any]]:
        names = self.spec.post.output_names
        binding = self.session.io_binding()
        place = (self.device.kind, self.device.number)
        binding.bind_input(INPUT_NAME, *place, np.uint8, list(batch.shape), batch.address)
        for name in names:
            binding.bind_output(name)  # to the host, whose memory is allocated by the run
        self.session.run_with_iobinding(binding)
        return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))

    def close(self) -> None:
        self._bound = None
        self._session = None

    def _look(self, path: str | os.PathLike[str], ort: Any, graph: bool) -> None:
        """Run once and see in the profile where the nodes ran, and in which types."""
        size = self.spec.input
        hw = (size.pad_multiple * _SMALLEST,) * 2 if size.dynamic_size else size.size_hw
        run_options = ort.RunOptions()
        if graph:  # what is replayed has no nodes to look at
            run_options.add_run_config_entry(GRAPH_ID, NO_GRAPH)
        images_u8 = np.zeros((self.spec.batch[0], *hw, 3), np.uint8)
        with own_errors(self.providers[0], len(images_u8)):
            self.session.run(self.spec.post.output_names, {INPUT_NAME: images_u8}, run_options)
        nodes = read_profile(self.session.end_profiling())
        self.layers = count_layers(nodes)
        remark = require_placement(path, nodes, self.providers[0])
        if remark:
            self.providers = (*self.providers, remark)


def _convolutions(parsed: OnnxFile) -> dict[str, int]:
    """On a CPU, ONNX Runtime computes FP32 in FP32."""
    count = Counter(node.op_type in CONVOLUTIONS for node in parsed.nodes)[True]
    return {"fp32": count} if count else {}


def _ports(session: Any) -> tuple[list[GraphInput], list[str]]:
    inputs = [
        GraphInput(
            port.name,
            port.type.removeprefix("tensor(").removesuffix(")"),
            tuple(size if isinstance(size, int) else None for size in port.shape),
        )
        for port in session.get_inputs()
    ]
    return inputs, [port.name for port in session.get_outputs()]
