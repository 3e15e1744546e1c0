"""What a computation would ask of a GPU, counted on a CPU: calls that compute, and calls that the host waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from aweigh.train.kernels.operators import NAMESPACE, OPERATORS

_FREE = frozenset(
    [
        "empty",
        "empty_like",
        "empty_strided",
        "new_empty",
        "new_empty_strided",
        "detach",
        "alias",
        "resize_",
        "set_",
        "lift_fresh",
        "sym_size",
        "sym_numel",
        "is_same_size",
    ]
)
# The result's size or value must be known on the host.
_WAITING = frozenset(
    [
        "nonzero",
        "_local_scalar_dense",
        "masked_select",
        "_unique2",
        "unique_consecutive",
        "unique_dim",
        "bincount",
        "item",
        "is_nonzero",
        "equal",
    ]
)

# Methods that fetch a tensor without a call that the dispatcher sees.
_FETCHING = ("tolist", "numpy", "cpu")


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts aten calls below autograd; a call counts once, however many kernels it takes, and a view not at all.

    An operator of our own counts as the kernels of its form on a GPU.

    Attributes:
        computing: calls that compute, by name.
        waiting: calls that would stop a GPU's queue, by name.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.computing: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        self._fetching = {name: getattr(Tensor, name) for name in _FETCHING}

    def __enter__(self) -> Launches:
        for name, method in self._fetching.items():
            setattr(Tensor, name, self._counted(name, method))
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        for name, method in self._fetching.items():
            setattr(Tensor, name, method)
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def _counted(self, name: str, method: Any) -> Any:
        def fetch(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.waiting[name] += 1
            return method(tensor, *args, **kwargs)

        return fetch

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        namespace, name = func._schema.name.split("::")
        if namespace == NAMESPACE:
            return self._own(name, func, args, kwargs or {})
        if not (func.is_view or name in _FREE):
            self.computing[name] += 1
        indices = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else args[1:2]
        masked = name.startswith("index") and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in indices
        )
        sized = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in _WAITING or masked or sized:
            self.waiting[name] += 1
        return func(*args, **(kwargs or {}))

    def _own(self, name: str, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        assert name in OPERATORS, f"{name}: an operator of which nobody knows what it does on a GPU"
        self.computing[name] += OPERATORS[name].launches
        return func(*args, **kwargs)
