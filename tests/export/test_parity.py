"""The exported file does what eager torch does: every method, every kind of post-processing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from aweigh.export import ExportOptions, export
from aweigh.runtime.agreement.match import match_detections
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.boxes import overlap
from aweigh.runtime.errors import BadInput
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.methods import METHODS, method_class
from aweigh.train.models.deployable import Deployable

pytestmark = pytest.mark.slow

POSTS: list[dict[str, Any]] = [
    {"post": "auto"},
    {"post": "nms", "nms": "onnx"},
    {"post": "nms", "nms": "matrix"},
    {"post": "raw"},
]
DTYPES = {"num_dets": np.int64, "boxes": np.float32, "scores": np.float32, "labels": np.int64, "converged": np.bool_}
# NMS by operator is the own of most methods: it is among their cases as auto.
CASES = [
    *[(m, p) for m in METHODS for p in POSTS if p != {"post": "nms", "nms": "onnx"} or method_class(m).one_to_one],
    ("ala-one-to-one", {"post": "auto"}),
    ("ala-one-to-one", {"post": "nms"}),
    ("paa", {"post": "vote", "nms": "matrix"}),
    ("dw", {"post": "vote"}),
    ("dw", {"nms": "onnx", "agnostic": True}),
    ("dw", {"nms": "matrix", "agnostic": True}),
    ("paa", {"post": "vote", "nms": "onnx", "agnostic": True}),
    ("paa", {"post": "vote", "nms": "matrix", "agnostic": True}),
]


def run_both(
    path: Path, checkpoint_path: Path, batch: int, size_hw: tuple[int, int], device: str = "cpu"
) -> tuple[Any, Any]:
    images = np.random.default_rng(batch).integers(0, 256, (batch, *size_hw, 3), dtype=np.uint8)
    images[:, 20:60, 30:90] = (200, 40, 40)  # structure, beside noise
    with OnnxRuntimeBackend(path, device, threads=1) as backend:
        exported = backend.infer(images)
        deployable = Deployable(load_checkpoint(checkpoint_path).detector(), backend.spec.post).eval()
    with torch.inference_mode():
        values = deployable(torch.from_numpy(images))
    trained = {n: v.numpy() for n, v in zip(deployable.postprocess.spec.output_names, values, strict=True)}
    return trained, exported


def check_same(trained: dict[str, Any], exported: dict[str, Any], score_error: float = 1e-5) -> None:
    assert list(trained) == list(exported)
    for name, expected in trained.items():
        assert exported[name].dtype == expected.dtype == DTYPES[name], name
        assert exported[name].shape == expected.shape, name
    if "num_dets" not in trained:
        np.testing.assert_allclose(exported["boxes"], trained["boxes"], atol=5e-3)
        np.testing.assert_allclose(exported["scores"], trained["scores"], atol=score_error)
        return
    for i in range(len(trained["num_dets"])):
        counts = int(trained["num_dets"][i]), int(exported["num_dets"][i])
        assert counts[0] > 20
        first, second = (
            tuple(outputs[name][i, :n] for name in ("boxes", "scores", "labels"))
            for outputs, n in zip((trained, exported), counts, strict=True)
        )
        match = match_detections(first, second, moved_px=5e-3)  # type: ignore[arg-type]
        # One pair may sit on the limit of the IoU, one detection on that of the 100 rows.
        assert match.differing <= 1, match
        assert match.max_score_error < score_error
        assert (np.diff(second[1]) <= 0).all()
        for name, filler in (("boxes", 0), ("scores", 0), ("labels", -1)):
            assert (exported[name][i, counts[1] :] == filler).all()
    if "converged" in exported:
        assert exported["converged"].all()


@pytest.mark.parametrize(
    ("method", "post"), CASES, ids=lambda x: x if isinstance(x, str) else "-".join(map(str, x.values()))
)
def test_equals_torch_at_batch_1_and_3(
    method: str, post: dict[str, Any], make_export: Callable[..., Path], make_checkpoint: Callable[[str], Path]
) -> None:
    path = make_export(method, **post)
    for batch in (1, 3):
        trained, exported = run_both(path, make_checkpoint(method), batch, (128, 160))
        check_same(trained, exported)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device and onnxruntime-gpu")
@pytest.mark.parametrize(
    ("method", "post"), CASES, ids=lambda x: x if isinstance(x, str) else "-".join(map(str, x.values()))
)
def test_on_a_gpu_equals_torch_on_the_cpu(
    method: str, post: dict[str, Any], make_export: Callable[..., Path], make_checkpoint: Callable[[str], Path]
) -> None:
    path = make_export(method, **post)
    for batch in (1, 3):
        # Sums in another order: PAA's scores are square roots, and near 0 they make 1e-6 a 1e-5.
        check_same(*run_both(path, make_checkpoint(method), batch, (128, 160), "cuda"), score_error=5e-5)


def test_dynamic_size_equals_torch(make_export: Callable[..., Path], make_checkpoint: Callable[[str], Path]) -> None:
    """DW, whose refinement makes the most of the sizes of the levels."""
    method = "dw"
    path = make_export(method, dynamic_size=True)
    for batch, size_hw in ((1, (128, 160)), (3, (224, 96)), (2, (160, 288))):
        check_same(*run_both(path, make_checkpoint(method), batch, size_hw))
    # Levels of one row or one column: fewer points than rows of the output.
    trained, exported = run_both(path, make_checkpoint(method), 1, (32, 64))
    np.testing.assert_array_equal(exported["num_dets"], trained["num_dets"])
    np.testing.assert_allclose(exported["scores"], trained["scores"], atol=1e-5)


@pytest.mark.parametrize("form", ["onnx", "matrix"])
def test_agnostic_files_have_one_label_for_an_object(form: str, make_export: Callable[..., Path]) -> None:
    """No two rows overlap by more than the threshold, of whatever classes; without the flag some do."""
    image = np.random.default_rng(1).integers(0, 256, (1, 128, 160, 3), dtype=np.uint8)
    overlapping = {}
    for agnostic in (False, True):
        with OnnxRuntimeBackend(make_export("dw", nms=form, agnostic=agnostic), threads=1) as backend:
            assert backend.spec.post.agnostic == agnostic
            outputs = backend.infer(image)
            boxes = outputs["boxes"][0, : int(outputs["num_dets"][0])]
            shares = overlap(boxes[:, None], boxes[None], "iou")
            overlapping[agnostic] = int((np.triu(shares, 1) > backend.spec.post.iou_threshold + 1e-5).sum())
    assert overlapping[False] > 0
    assert overlapping[True] == 0


@pytest.mark.parametrize("count", [2, 4])  # as many as corners and coordinates, which are axes too
def test_fixed_batch_takes_that_batch_alone(
    count: int, make_export: Callable[..., Path], make_checkpoint: Callable[[str], Path]
) -> None:
    path = make_export("fcos", batch=(count, count))
    check_same(*run_both(path, make_checkpoint("fcos"), count, (128, 160)))
    with OnnxRuntimeBackend(path, threads=1) as backend:
        assert backend.session.get_inputs()[0].shape == [count, 128, 160, 3]
        with pytest.raises(BadInput, match=f"batch of 1: this file takes {count}"):
            backend.infer(np.zeros((1, 128, 160, 3), np.uint8))


def test_a_free_batch_after_a_fixed_one(make_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """In one process: PyTorch remembers the branch of NMS that it traced for the fixed batch."""
    for name, batch in (("fixed", (2, 2)), ("free", (1, 4))):
        options = ExportOptions(batch=batch, golden=0, verify=False, threads=1)
        export(make_checkpoint("fcos"), tmp_path / f"{name}.onnx", options)
    for name, size in (("fixed", 2), ("free", "batch")):
        (graph_input,) = onnx.load(tmp_path / f"{name}.onnx").graph.input
        dimension = graph_input.type.tensor_type.shape.dim[0]
        assert (dimension.dim_param or dimension.dim_value) == size


def test_another_size_than_trained(make_export: Callable[..., Path], make_checkpoint: Callable[[str], Path]) -> None:
    path = make_export("fcos", size_hw=(96, 96), batch=(1, 1))
    check_same(*run_both(path, make_checkpoint("fcos"), 1, (96, 96)))
