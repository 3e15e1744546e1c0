"""A case: inputs and results of the authors' code, as one npz file holds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from aweigh.runtime.spec import PostSpec
from aweigh.train.dense.points import Points, make_points
from aweigh.train.dense.postprocess import Dense, PostProcess
from aweigh.train.methods.values import Predictions, Targets

Post: TypeAlias = Callable[[PostSpec, Dense], tuple[Tensor, ...]]


def in_torch(spec: PostSpec, dense: Dense) -> tuple[Tensor, ...]:
    """The post-processing as evaluation runs it."""
    outputs: tuple[Tensor, ...] = PostProcess(spec)(dense)
    return outputs


class Case:
    """The arrays of one file, in the form that the methods take.

    Args:
        arrays: by name.
        precision: ``float32`` or ``float64``, to compute and to judge in; None takes the one that the file states.
    """

    def __init__(self, arrays: dict[str, np.ndarray], precision: str | None = None) -> None:
        self.arrays = arrays
        self.precision = precision or str(arrays["dtype_compute"])
        # A case of several precisions names them all; its runner takes one at a time.
        self.dtype = torch.float32 if self.precision == "float32" else torch.float64
        self.levels = len(arrays["strides"])

    def in_precision(self, precision: str) -> Case:
        """The same arrays, to be computed and judged in ``float64`` or ``float32``."""
        return Case(self.arrays, precision)

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def array(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def number(self, name: str) -> float:
        return float(self.arrays[name])

    @property
    def num_classes(self) -> int:
        return int(self.arrays["num_classes"])

    @property
    def images(self) -> int:
        return int(self.arrays["reg_l0"].shape[0])

    def points(self, offset: float) -> Points:
        shapes = [self.arrays[f"reg_l{level}"].shape[2:] for level in range(self.levels)]
        return make_points(shapes, [int(s) for s in self.arrays["strides"]], offset, dtype=self.dtype)

    def rows(self, stem: str, suffix: str = "") -> np.ndarray:
        """Maps of all levels ``STEM_l0SUFFIX`` ... as [B, P, c]."""
        parts = [self.arrays[f"{stem}_l{level}{suffix}"] for level in range(self.levels)]
        return np.concatenate([p.transpose(0, 2, 3, 1).reshape(p.shape[0], -1, p.shape[1]) for p in parts], axis=1)

    def predictions(self) -> Predictions:
        """The stored outputs of the head, as leaves that require a gradient."""
        tensors = [torch.from_numpy(self.rows(stem)).to(self.dtype) for stem in ("cls", "reg", "obj")]
        return Predictions(
            tensors[0].requires_grad_(), tensors[1].requires_grad_(), tensors[2][..., 0].clone().requires_grad_()
        )

    def targets(self) -> Targets:
        return Targets.join(
            [torch.from_numpy(self.arrays[f"gt_boxes_{b}"]).to(self.dtype) for b in range(self.images)],
            [torch.from_numpy(self.arrays[f"gt_labels_{b}"]) for b in range(self.images)],
        )
