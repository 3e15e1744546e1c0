"""The OpenAPI document holds, and the pages need no other host."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from server_process import Server, jpeg

from aweigh.serve.http import schemas

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
OPERATIONS = 13


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


def test_answers_are_what_the_document_says(client: httpx.Client, picture: npt.NDArray[np.uint8]) -> None:
    body, kind = jpeg(picture), {"Content-Type": "image/jpeg"}
    one = client.post("/v1/models/red/detect", content=body, headers=kind).json()
    several = client.post("/v1/models/red/detect-batch", files=[("file", ("x.jpg", body))] * 2).json()
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 64, 96, 3], "data": [7] * 18432}
    for model, content in (
        (schemas.DetectResult, one),
        (schemas.BatchResult, several),
        (schemas.ModelList, client.get("/v1/models").json()),
        (schemas.ModelDescription, client.get("/v1/models/red").json()),
        (schemas.ModelMetadata, client.get("/v2/models/red").json()),
        (schemas.ServerMetadata, client.get("/v2").json()),
        (schemas.InferResponse, client.post("/v2/models/red/infer", json={"inputs": [tensor]}).json()),
        (schemas.ProblemDetails, client.get("/nowhere").json()),
    ):
        model.model_validate(content, strict=True)


def test_pages_name_no_other_host(client: httpx.Client) -> None:
    for path in ("/", "/docs"):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    pages = [page for page in files("aweigh.serve").joinpath("demo").iterdir() if page.is_file()]
    assert len(pages) >= 6
    for page in pages:
        links = set(re.findall(r"https?://[^\s\"'`)]+", page.read_text(encoding="utf-8")))
        assert links <= {"http://www.w3.org/2000/svg"}
