"""The Triton repository, read back by Triton's own message."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from aweigh.export.jobs.triton import config, write_repository
from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import Category, InputSpec, ModelSpec, PostSpec

SPEC = ModelSpec(
    "dw",
    "r18",
    (Category(3, 'cell "A"'), Category(7, "größer 🔬")),
    InputSpec((288, 384)),
    PostSpec("nms", nms_form="matrix", max_det=50),
    batch=(1, 8),
)


def parsed(spec: ModelSpec, suffix: str = ".onnx") -> ModelConfig:
    return text_format.Parse(config("cells", suffix, spec), ModelConfig())


def test_a_file_of_any_batch_is_batched_by_triton() -> None:
    found = parsed(SPEC)
    assert (found.name, found.backend, found.max_batch_size) == ("cells", "onnxruntime", 8)
    assert found.HasField("dynamic_batching")
    assert [(i.name, i.data_type, list(i.dims)) for i in found.input] == [
        ("images", DataType.TYPE_UINT8, [288, 384, 3])
    ]
    assert [(o.name, o.data_type, list(o.dims)) for o in found.output] == [
        ("num_dets", DataType.TYPE_INT64, [1]),
        ("boxes", DataType.TYPE_FP32, [50, 4]),
        ("scores", DataType.TYPE_FP32, [50]),
        ("labels", DataType.TYPE_INT64, [50]),
        ("converged", DataType.TYPE_BOOL, [1]),
    ]
    # One value per picture has no shape of its own.
    assert [o.HasField("reshape") and list(o.reshape.shape) == [] for o in found.output] == [
        True, False, False, False, True,
    ]  # fmt: skip


def test_a_fixed_batch_stands_in_the_shapes() -> None:
    found = parsed(replace(SPEC, batch=(4, 4)))
    assert found.max_batch_size == 0
    assert not found.HasField("dynamic_batching")
    assert list(found.input[0].dims) == [4, 288, 384, 3]
    assert [list(o.dims) for o in found.output] == [[4], [4, 50, 4], [4, 50], [4, 50], [4]]
    assert list(parsed(replace(SPEC, batch=(2, 8))).input[0].dims) == [-1, 288, 384, 3]


def test_sizes_and_raw_outputs_that_follow_the_picture() -> None:
    found = parsed(replace(SPEC, input=replace(SPEC.input, dynamic_size=True), post=PostSpec("raw")), ".engine")
    assert list(found.input[0].dims) == [-1, -1, 3]
    assert [(o.name, list(o.dims)) for o in found.output] == [("boxes", [-1, 4]), ("scores", [-1, 2])]
    assert (found.backend, found.default_model_filename) == ("tensorrt", "model.plan")


def test_repository_holds_file_labels_and_spec(tmp_path: Path) -> None:
    artifact = tmp_path / "best.onnx"
    artifact.write_bytes(b"graph")
    folder = write_repository(artifact, SPEC, tmp_path / "repository" / "cells")
    assert (folder / "1" / "model.onnx").read_bytes() == b"graph"
    assert (folder / "labels.txt").read_text(encoding="utf-8") == 'cell "A"\ngrößer 🔬\n'
    found = text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), ModelConfig())
    assert ModelSpec.from_dict(json.loads(found.parameters["aweigh"].string_value)) == SPEC
    assert found.output[3].label_filename == "labels.txt"
    assert [p.name for p in folder.parent.iterdir()] == ["cells"], "nothing temporary stays"
    with pytest.raises(BadInput, match="is not an empty folder"):
        write_repository(artifact, SPEC, folder)


def test_other_files_and_failures_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"\.onnx or \.engine or \.plan"):
        write_repository(tmp_path / "best.pt", SPEC, tmp_path / "cells")
    with pytest.raises(FileNotFoundError):
        write_repository(tmp_path / "gone.onnx", SPEC, tmp_path / "cells")
    assert list(tmp_path.iterdir()) == []
