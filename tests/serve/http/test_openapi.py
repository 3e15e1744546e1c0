"""The OpenAPI document holds, and the pages need no other host."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib.resources import files
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from server_process import Server, jpeg

from aweigh.serve.http import v1, v2

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
OPERATIONS = 16


@pytest.fixture(scope="module")
def schema(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{server.http}/openapi.json")


def test_every_operation_keeps_its_word(schema: Any) -> None:
    """Generated requests, right and wrong ones, to every operation: no 5xx, and answers as the document has them."""
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == OPERATIONS
    for operation in operations:
        _holds(operation)


def _holds(operation: Any) -> None:
    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def every(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    every()


def test_answers_are_what_the_document_says(client: httpx.Client, schema: Any, picture: npt.NDArray[np.uint8]) -> None:
    body, kind = jpeg(picture), {"Content-Type": "image/jpeg"}
    version = client.get("/v1/models/red").json()["version"]
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 64, 96, 3], "data": [7] * 18432}
    binary = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    model, at_version = "/v2/models/{name}", "/v2/models/{name}/versions/{model_version}"
    answered = [
        ("POST", "/v1/models/{name}/detect", {"content": body, "headers": kind}),
        ("POST", "/v1/models/{name}/detect-batch", {"files": [("file", ("x.jpg", body))] * 2}),
        ("GET", "/v1/models", {}),
        ("GET", "/v1/models/{name}", {}),
        ("GET", "/v2", {}),
        ("GET", "/v2/health/live", {}),
        ("GET", "/v2/health/ready", {}),
        *(("GET", path, {}) for path in (model, at_version, f"{model}/ready", f"{at_version}/ready")),
        *(("POST", f"{path}/infer", {"json": {"inputs": [tensor]}}) for path in (model, at_version)),
        ("POST", f"{model}/infer", {"json": binary}),
        ("POST", "/v2/repository/index", {}),
        ("POST", "/v2/repository/models/{name}/load", {}),
        ("GET", "/metrics", {}),
    ]
    assert len({(method, path) for method, path, _ in answered}) == OPERATIONS
    for method, path, options in answered:
        request = client.build_request(method, path.format(name="red", model_version=version), **options)
        request.read()
        answer = client.send(request)
        assert answer.status_code == 200, answer.text
        schema[path][method].validate_response(answer)
    assert answer.headers["content-type"].startswith("text/plain")
    refused = client.get("/v1/models/none")
    assert refused.status_code == 404
    schema["/v1/models/{name}"]["GET"].validate_response(refused)


def test_an_answer_that_the_document_does_not_have_is_noticed(schema: Any) -> None:
    """The document is strict: a key more or less, or a value of another type, is against it."""
    detection = {"box": [0, 0, 1, 1], "score": 0.5, "class_id": 3, "label": "whole"}
    timing = dict.fromkeys(("decode", "preprocess", "queue", "network", "postprocess"), 1.0)
    right = {
        "model": "red",
        "version": "0",
        "image": {"width": 1, "height": 1},
        "detections": [detection],
        "timing_ms": timing,
    }

    def validate(content: Any) -> None:
        request = httpx.Request("POST", "http://localhost/v1/models/red/detect")
        answer = httpx.Response(200, json=content, request=request)
        answer.elapsed = timedelta()
        schema["/v1/models/{name}/detect"]["POST"].validate_response(answer)

    validate(right)
    for wrong in (
        right | {"more": 1},
        {key: value for key, value in right.items() if key != "version"},
        right | {"detections": [detection | {"score": 2}]},
        right | {"detections": [detection | {"box": [0, 0, 1]}]},
        right | {"timing_ms": timing | {"transfer": 1.0}},
    ):
        with pytest.raises((Failure, FailureGroup)):
            validate(wrong)


def test_every_route_is_in_the_document(schema: Any) -> None:
    documented = {(result.ok().method.upper(), result.ok().path) for result in schema.get_all_operations()}
    served = {
        (method, route.path) for route in (*v1.ROUTES, *v2.ROUTES) for method in route.methods or () if method != "HEAD"
    }
    assert documented == served | {("GET", "/metrics")}


def test_pages_name_no_other_host(client: httpx.Client) -> None:
    for path in ("/", "/docs"):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    folders = files("aweigh.serve").joinpath("demo"), files("aweigh.runtime").joinpath("browser")
    pages = [page for folder in folders for page in folder.iterdir() if page.is_file()]
    assert len(pages) >= 10
    for page in pages:
        links = set(re.findall(r"https?://[^\s\"'`)]+", page.read_text(encoding="utf-8")))
        assert links <= {"http://www.w3.org/2000/svg"}
