"""Options of ONNX Runtime; on a CPU its runs are bound by the same class as on a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.backends.onnxruntime_options import OrtOptions
from aweigh.runtime.backends.onnxruntime_session import CUDA, providers_of
from aweigh.runtime.backends.open import open_backend
from aweigh.runtime.cli.main import main
from aweigh.runtime.detector import Detector
from aweigh.runtime.device import Device
from aweigh.runtime.errors import BadInput
from aweigh.runtime.network import Outputs

MakeModel = Callable[..., Path]
MakePicture = Callable[..., npt.NDArray[np.uint8]]
BOUND = OrtOptions(binding=True)


def batches(make_picture: MakePicture, sizes: tuple[tuple[int, int], ...], counts: tuple[int, ...]) -> list[Any]:
    found = []
    for place, (height, width) in enumerate(sizes):
        for count in counts:
            boxes = [(4 + place + i, 5 + i, width - 9 - i, height - 7) for i in range(count)]
            found.append(np.stack([make_picture((height, width), box) for box in boxes]))
    return found


def same(found: Outputs, expected: Outputs) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"post": {"kind": "nms", "nms_form": "matrix"}},
        {"post": {"kind": "raw"}},
        {"input": {"dynamic_size": True}},
        {"precision": "fp16"},
    ],
)
def test_bound_runs_give_the_bits_of_plain_ones(
    changes: dict[str, Any], make_model: MakeModel, make_picture: MakePicture
) -> None:
    path = make_model(**changes)
    sizes = ((64, 96), (32, 160)) if "input" in changes else ((64, 96),)
    with OnnxRuntimeBackend(path) as plain, OnnxRuntimeBackend(path, options=BOUND) as bound:
        assert bound.binds
        assert not plain.binds
        assert (bound.precision, bound.layers, bound.providers) == (plain.precision, plain.layers, plain.providers)
        kept = []
        for batch in batches(make_picture, sizes, (1, 3, 2, 3, 1)):
            found, expected = bound.infer(batch), plain.infer(batch)
            same(found, expected)
            kept.append((found, expected))
        for found, expected in kept:  # nothing that was returned is written to again
            same(found, expected)


def test_buffers_are_kept_while_the_shape_stays(model: Path, make_picture: MakePicture) -> None:
    one, three = batches(make_picture, ((64, 96),), (1, 3))
    with OnnxRuntimeBackend(model, options=BOUND) as backend:
        assert backend._bound is not None
        places = []
        for batch in (one, one, three, three, one):
            backend.infer(batch)
            [buffers] = backend._bound._free
            values = [buffers._input, *buffers._binding.get_outputs()]
            places.append((id(buffers), [value.data_ptr() for value in values]))
        assert places[0] == places[1]
        assert places[2] == places[3]
        assert places[1][0] != places[2][0]


def test_threads_have_buffers_of_their_own(model: Path, make_picture: MakePicture) -> None:
    given = batches(make_picture, ((64, 96),), (1, 2, 3, 4))
    wrong: list[int] = []
    with OnnxRuntimeBackend(model, threads=1) as plain, OnnxRuntimeBackend(model, threads=1, options=BOUND) as bound:
        expected = [plain.infer(batch) for batch in given]

        def call(number: int) -> None:
            for _ in range(50):
                found = bound.infer(given[number])
                if any(not np.array_equal(found[name], value) for name, value in expected[number].items()):
                    wrong.append(number)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(len(given))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert bound._bound is not None
        assert 1 <= len(bound._bound._free) <= len(threads)


def test_a_closed_backend_says_so(model: Path) -> None:
    backend = OnnxRuntimeBackend(model, options=BOUND)
    backend.close()
    with pytest.raises(BadInput, match="closed"):
        backend.infer(np.zeros((1, 64, 96, 3), np.uint8))


def test_words_become_options_of_the_provider() -> None:
    assert OrtOptions.parse("") == OrtOptions()
    assert OrtOptions.parse("graph+nhwc+exhaustive") == OrtOptions(True, True, True, "exhaustive")
    assert OrtOptions.parse("nhwc").of_provider() == {"prefer_nhwc": "1"}
    [(name, options)] = providers_of(Device("cuda", 1), False, OrtOptions.parse("graph+heuristic"))
    assert name == CUDA
    assert options == {
        "device_id": "1",
        "use_tf32": "0",
        "enable_cuda_graph": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
    }


@pytest.mark.parametrize("words", ["fast", "binding+", "binding binding", "nhwc+nhwc", "heuristic+default", "+"])
def test_other_words_are_refused(words: str) -> None:
    with pytest.raises(BadInput, match="expected some of binding, graph, nhwc and one of exhaustive, heuristic"):
        OrtOptions.parse(words)


def test_options_that_device_or_file_cannot_have_are_refused(model: Path, make_model: MakeModel) -> None:
    for words, named in (("graph+nhwc", "graph, nhwc"), ("default", "search")):
        with pytest.raises(BadInput, match=f"{named} need --device cuda, got cpu"):
            open_backend(model, ort_options=words)
    with pytest.raises(BadInput, match="graph needs a file of one input size"):
        open_backend(make_model(input={"dynamic_size": True}), "cuda", ort_options="graph")
    with pytest.raises(BadInput, match="the back end is openvino; they are of onnxruntime"):
        open_backend(model, backend="openvino", ort_options="binding")


def test_the_detector_and_the_command_line_take_them(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Detector(model, ort_options="binding") as bound, Detector(model) as plain:
        assert bound.backend.binds  # type: ignore[attr-defined]
        for found, expected in zip(bound.stream(folder), plain.stream(folder), strict=True):
            np.testing.assert_array_equal(found.xyxy, expected.xyxy)
            np.testing.assert_array_equal(found.conf, expected.conf)
    words = ["predict", "--model", str(model), "--source", str(folder)]
    assert main([*words, "--out", str(tmp_path / "out"), "--ort-options", "binding"]) == 0
    assert main([*words, "--out", str(tmp_path / "none"), "--ort-options", "graph"]) == 2
    assert "need --device cuda" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.parametrize("words", ["binding", "nhwc", "heuristic", "exhaustive"])  # this graph has nodes on the CPU
def test_options_on_a_gpu_give_the_same_outputs(words: str, model: Path, make_picture: MakePicture) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device and onnxruntime-gpu")
    given = batches(make_picture, ((64, 96),), (1, 3, 1, 3, 2))
    with open_backend(model, "cuda", ort_options=words) as found, open_backend(model, "cuda") as plain:
        for batch in given * 3:
            expected = plain.infer(batch)
            for name, value in found.infer(batch).items():
                np.testing.assert_allclose(value, expected[name], rtol=1e-5)
