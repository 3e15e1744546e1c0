"""For which GPUs TensorRT for RTX builds: they are named, none has to be there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aweigh.runtime.backends.tensorrt.library import LogTail, check

if TYPE_CHECKING:
    import tensorrt_rtx_bindings as rtx


def set_targets(module: Any, config: rtx.IBuilderConfig, targets: Sequence[str], log: LogTail) -> None:
    """Make ``config`` build for compute capabilities, ``("8.6", "8.9")``. Raises CannotRun where one is refused."""
    if TYPE_CHECKING:
        import tensorrt_rtx_bindings as rtx
    else:
        rtx = module
    config.num_compute_capabilities = len(targets)
    for i, target in enumerate(targets):
        capability = getattr(rtx.ComputeCapability, f"SM{target.replace('.', '')}")
        check(config.set_compute_capability(capability, i), f"compute capability {target} was refused", log)
