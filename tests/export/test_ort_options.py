"""Exported files on bound buffers give the bits of plain runs; on a GPU, options change no detection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aweigh.runtime.backends.base import Backend
from aweigh.runtime.backends.open import open_backend

MakeExport = Callable[..., Path]
POSTS: list[dict[str, Any]] = [
    {"post": "none"},
    {"post": "nms", "nms": "onnx"},
    {"post": "nms", "nms": "matrix"},
    {"post": "raw"},
]


def noise(backend: Backend, count: int) -> npt.NDArray[np.uint8]:
    size = (count, *backend.spec.input.size_hw, 3)
    images = np.random.default_rng(count).integers(0, 256, size, dtype=np.uint8)
    images[:, 20:60, 30:90] = (200, 40, 40)
    return images


@pytest.mark.parametrize("options", POSTS, ids=lambda options: "-".join(options.values()))
def test_bound_runs_of_exported_files(options: dict[str, Any], make_export: MakeExport) -> None:
    path = make_export("o2f" if options["post"] == "none" else "fcos", **options)
    with open_backend(path, threads=1) as plain, open_backend(path, threads=1, ort_options="binding") as bound:
        kept = []
        for count in (1, 4, 2, 4):
            images = noise(plain, count)
            kept.append((bound.infer(images), plain.infer(images)))
        for found, expected in kept:
            assert list(found) == list(expected)
            for name, value in expected.items():
                assert found[name].dtype == value.dtype
                np.testing.assert_array_equal(found[name], value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device and onnxruntime-gpu")
@pytest.mark.parametrize("words", ["binding", "graph", "nhwc", "heuristic", "graph+nhwc+heuristic"])
def test_options_on_a_gpu(words: str, make_export: MakeExport) -> None:
    path = make_export("o2f", post="none")
    with open_backend(path, "cuda") as plain, open_backend(path, "cuda", ort_options=words) as other:
        for count in (1, 4, 1, 4, 2, 1):  # recorded, replayed, recorded for another batch
            images = noise(plain, count)
            found, expected = other.infer(images), plain.infer(images)
            np.testing.assert_array_equal(found["num_dets"], expected["num_dets"])
            np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
            np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=0.05)
