"""What ONNX Runtime can be asked for beyond its defaults: how runs are bound, and how its CUDA provider computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import ModelSpec

Search = Literal["exhaustive", "heuristic", "default"]
_SWITCHES = ("binding", "graph", "nhwc")


@dataclass(frozen=True)
class OrtOptions:
    """Options of the back end ``onnxruntime``; none of them has been run on a GPU so far.

    Attributes:
        binding: inputs and outputs lie in buffers of the device, which are kept from call to call.
        graph: a CUDA graph of each batch size is recorded in its first runs and replayed; implies ``binding``.
        nhwc: convolutions with the channels last, where the CUDA provider was built with them.
        search: how cuDNN's kernels are chosen: ``exhaustive`` times them (ONNX Runtime's own default), ``heuristic``
            asks cuDNN, ``default`` takes one kernel for all; None leaves it.
    """

    binding: bool = False
    graph: bool = False
    nhwc: bool = False
    search: Search | None = None

    @classmethod
    def parse(cls, text: str) -> OrtOptions:
        """From words joined by ``+``; an empty text for none.

        Raises:
            BadInput: another word, a word twice, or two ways to search.

        Example:
            >>> OrtOptions.parse("binding+heuristic")
            OrtOptions(binding=True, graph=False, nhwc=False, search='heuristic')
        """
        words = text.split("+") if text else []
        unknown = [word for word in words if word not in (*_SWITCHES, *get_args(Search))]
        searches = [word for word in words if word in get_args(Search)]
        if unknown or len(searches) > 1 or len(set(words)) < len(words):
            raise BadInput(
                f"ONNX Runtime options {text!r}: expected some of {', '.join(_SWITCHES)} and one of "
                f"{', '.join(get_args(Search))}, joined by +"
            )
        search: Search | None = next((word for word in get_args(Search) if word in searches), None)
        return cls("binding" in words or "graph" in words, "graph" in words, "nhwc" in words, search)

    def require(self, device: Device, spec: ModelSpec) -> None:
        """Raises BadInput where the device or the file cannot have them."""
        cuda_only = [name for name in ("graph", "nhwc", "search") if getattr(self, name)]
        if cuda_only and device.kind != "cuda":
            raise BadInput(f"ONNX Runtime options: {', '.join(cuda_only)} need --device cuda, got {device}")
        if self.graph and spec.input.dynamic_size:
            raise BadInput("ONNX Runtime options: graph needs a file of one input size, and this one takes any size")

    def of_provider(self) -> dict[str, str]:
        """As the CUDA provider takes them."""
        options = {"enable_cuda_graph": "1"} if self.graph else {}
        options |= {"prefer_nhwc": "1"} if self.nhwc else {}
        return options | ({"cudnn_conv_algo_search": self.search.upper()} if self.search else {})
