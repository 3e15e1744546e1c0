"""A detector as a function of CVAT, called as nuclio calls it, with the requests that CVAT sends."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from red import red_picture

from aweigh.runtime import Detector
from aweigh.runtime.errors import AweighError, BadInput
from aweigh.runtime.label.cvat_folder import write_cvat_function
from aweigh.runtime.label.cvat_function import MODEL_VARIABLE, handler, init_context
from aweigh.runtime.spec import Category


class Answer:
    """As nuclio_sdk.Response, whose arguments these are."""

    def __init__(self, headers: Any = None, body: Any = None, content_type: Any = None, status_code: int = 200) -> None:
        self.headers, self.body, self.content_type, self.status_code = headers, body, content_type, status_code


@pytest.fixture
def context(model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv(MODEL_VARIABLE, str(model))
    made = SimpleNamespace(user_data=SimpleNamespace(), Response=Answer, logger=SimpleNamespace(info=lambda text: None))
    init_context(made)
    yield made
    made.user_data.detector.close()


@pytest.fixture
def picture(tmp_path: Path, write_picture: Callable[..., Path]) -> Path:
    return write_picture(tmp_path / "red.png", red_picture())


def body_of(picture: Path, **more: Any) -> dict[str, Any]:
    return {"image": base64.b64encode(picture.read_bytes()).decode("utf-8"), **more}


def ask(context: Any, body: Any) -> Answer:
    answer = handler(context, SimpleNamespace(body=body))
    assert isinstance(answer, Answer)
    return answer


def test_the_shapes_are_the_detections(context: Any, picture: Path, model: Path) -> None:
    answer = ask(context, body_of(picture, threshold=0.2))
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    shapes = json.loads(answer.body)
    with Detector(model) as detector:
        found = detector(picture, conf=0.2)
    assert (
        [shape["label"] for shape in shapes] == [found.names[i] for i in found.cls.tolist()] == ["whole", "left half"]
    )
    np.testing.assert_allclose([shape["points"] for shape in shapes], found.xyxy, atol=1e-4)
    np.testing.assert_allclose([float(shape["confidence"]) for shape in shapes], found.conf, atol=1e-5)
    assert {shape["type"] for shape in shapes} == {"rectangle"}


def test_the_threshold_is_the_users_or_the_models(
    context: Any, picture: Path, make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(json.loads(ask(context, body_of(picture, threshold=0.7)).body)) == 1
    assert len(json.loads(ask(context, body_of(picture)).body)) == 2  # above 0.3, in a file without better ones
    monkeypatch.setenv(MODEL_VARIABLE, str(make_model("better.onnx", best_conf=(0.6, 0.4))))
    init_context(context)
    assert [shape["label"] for shape in json.loads(ask(context, body_of(picture)).body)] == ["whole"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "base64 of an image file as image"),
        (b"{", "expected a JSON object"),
        ({"image": 3}, "base64 of an image file as image"),
        ({"image": "%%"}, "expected base64"),
        ({"image": "ä"}, "expected base64"),
        ({"image": base64.b64encode(b"text").decode()}, "image"),
        ({"image": "", "threshold": 2}, "threshold"),
        ({"image": "", "threshold": "x"}, "threshold"),
        ({"image": "", "threshold": [0.5]}, "threshold"),
        ({"image": "", "threshold": float("nan")}, "threshold"),
    ],
)
def test_what_cannot_be_used_is_answered_with_the_reason(body: Any, words: str, context: Any) -> None:
    answer = ask(context, body)
    assert answer.status_code == 400
    assert words in answer.body


def test_a_function_without_a_model_does_not_start(
    context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "absent.onnx"))
    with pytest.raises(AweighError, match=r"absent\.onnx"):
        init_context(context)


def test_the_sdk_of_nuclio_calls_it(model: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own context, response, and events as its worker reads them."""
    sdk = pytest.importorskip("nuclio_sdk", reason="nuclio-sdk is not installed")
    monkeypatch.setenv(MODEL_VARIABLE, str(model))
    context = sdk.Context(logger=sdk.Logger(level="ERROR"))
    init_context(context)
    event = sdk.Event(body=body_of(picture, threshold=0.2), content_type="application/json")
    answer = handler(context, event)
    context.user_data.detector.close()
    encoded = sdk.Response.from_entrypoint_output(json.dumps, answer)
    assert (encoded["status_code"], encoded["content_type"]) == (200, "application/json")
    assert len(json.loads(encoded["body"])) == 2


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "aweigh-0.1.0-py3-none-any.whl"
    path.write_bytes(b"a wheel")
    return path


def test_the_folder_has_the_classes_as_cvat_reads_them(
    make_model: Callable[..., Path], wheel: Path, tmp_path: Path
) -> None:
    model = make_model("Best_r18 (2).onnx", categories=(Category(17, "a: #b"), Category(3, "größe")))
    folder = write_cvat_function(model, wheel, tmp_path / "function")
    function = yaml.safe_load((folder / "function.yaml").read_text(encoding="utf-8"))
    assert function["metadata"]["name"] == "aweigh-best-r18-2"
    assert function["metadata"]["annotations"]["type"] == "detector"
    labels = json.loads(function["metadata"]["annotations"]["spec"])
    assert [(label["name"], label["type"]) for label in labels] == [("a: #b", "rectangle"), ("größe", "rectangle")]
    assert function["spec"]["handler"] == "main:handler"
    assert function["spec"]["triggers"]["http"]["kind"] == "http"
    assert (folder / "model.onnx").read_bytes() == model.read_bytes()


def test_the_entry_has_what_nuclio_looks_for(model: Path, wheel: Path, tmp_path: Path) -> None:
    folder = write_cvat_function(model, wheel, tmp_path / "function")
    spec = importlib.util.spec_from_file_location("entry", folder / "main.py")
    assert spec is not None
    assert spec.loader is not None
    entry = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(entry)
    assert (entry.handler, entry.init_context) == (handler, init_context)


def test_bad_folders(model: Path, make_model: Callable[..., Path], wheel: Path, tmp_path: Path) -> None:
    twins = make_model("twins.onnx", categories=(Category(17, "cat"), Category(3, "cat")))
    with pytest.raises(BadInput, match="several classes are called 'cat'"):
        write_cvat_function(twins, wheel, tmp_path / "function")
    with pytest.raises(BadInput, match="expected aweigh's wheel"):
        write_cvat_function(model, tmp_path / "absent.whl", tmp_path / "function")
    assert not (tmp_path / "function").exists()
