from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aweigh.serve.problem import Problem
from aweigh.serve.tensors import InferRequest, build_response, from_bytes, from_numbers, parse_infer_request

LIMIT = 1 << 16


def document(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 2, 1, 3], "data": [1, 2, 3, 4, 5, 6]}
    return {"inputs": [{**tensor, **changes}]}


def parse(content: Any, tail: bytes = b"") -> InferRequest:
    head = json.dumps(content).encode()
    return parse_infer_request(head + tail, len(head) if tail else None, LIMIT)


def test_numbers_flat_and_nested() -> None:
    flat = parse(document())
    nested = parse(document(data=[[[[1, 2, 3]], [[4, 5, 6]]]]))
    np.testing.assert_array_equal(flat.images_u8, [[[[1, 2, 3]], [[4, 5, 6]]]])
    np.testing.assert_array_equal(flat.images_u8, nested.images_u8)
    assert flat.images_u8.dtype == np.uint8
    assert (flat.request_id, flat.outputs, flat.binary) == ("", None, False)


def test_bytes_behind_the_header() -> None:
    content = document(parameters={"binary_data_size": 6})
    content |= {"id": "7", "parameters": {"binary_data_output": True}}
    content["outputs"] = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    request = parse(content, bytes(range(6)))
    np.testing.assert_array_equal(request.images_u8.ravel(), range(6))
    assert request.outputs == (("a", True), ("b", False))
    assert request.request_id == "7"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [1, 2, 2, 3]}, "takes 12 integers, got 6"),
        ({"shape": [1, 2, 1, 4]}, r"expected \[n, height, width, 3\]"),
        ({"shape": [-1, -2, 1, 3]}, "expected"),
        ({"shape": [2**40, 2**40, 1, 3]}, "expected"),
        ({"shape": [True, 2, 1, 3]}, "expected"),
        ({"shape": "1213"}, "expected"),
        ({"shape": None}, "expected"),
        ({"data": [1, 2, 3, 4, 5, 256]}, "values from 1 to 256"),
        ({"data": [1, 2, 3, 4, 5, -1]}, "values from -1"),
        ({"data": [1, 2, 3, 4, 5, 6.5]}, "integers"),
        ({"data": [True] * 6}, "integers"),
        ({"data": ["1"] * 6}, "integers"),
        ({"data": [[1, 2], [3]]}, "no regular array"),
        ({"data": [1, 2, 3, 4, 5, 2**70]}, "integers"),
        ({"data": None}, "integers"),
        ({"name": "pictures"}, "'images' of UINT8"),
        ({"datatype": "FP32"}, "'images' of UINT8"),
        ({"parameters": {"shared_memory_region": "x"}}, "shared memory is not served"),
        ({"parameters": []}, "expected an object"),
        ({"parameters": {"binary_data_size": 6}}, "0 bytes follow"),
    ],
)
def test_tensors_that_are_not_what_they_say(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Problem, match=words) as refused:
        parse(document(**changes))
    assert refused.value.status == 400


@pytest.mark.parametrize("tail", [b"12345", b"1234567", b"1"])
def test_shapes_that_lie_about_their_bytes(tail: bytes) -> None:
    with pytest.raises(Problem, match=f"takes 6 bytes, got {len(tail)}"):
        parse(document(parameters={"binary_data_size": len(tail)}), tail)
    with pytest.raises(Problem, match=f"{len(tail)} bytes follow"):
        parse(document(parameters={"binary_data_size": 6}), tail)
    with pytest.raises(Problem, match="belong to no input"):
        parse(document(), tail)


@pytest.mark.parametrize(
    ("body", "length", "status"),
    [
        (b"", None, 400),
        (b"[]", None, 400),
        (b"{}", 5, 400),
        (b'{"inputs": NaN}', None, 400),
        (b"[" * 60_000, None, 400),
        (b"1" * 50_000, None, 400),
        (b" " * (LIMIT + 1), None, 413),
        (b'{"inputs": [{}, {}]}', None, 400),
        (b"\xff\xfe{}", None, 400),
    ],
)
def test_bodies_that_are_none(body: bytes, length: int | None, status: int) -> None:
    with pytest.raises(Problem) as refused:
        parse_infer_request(body, length, LIMIT)
    assert refused.value.status == status


def test_answers_as_numbers_and_as_bytes() -> None:
    outputs = {"n": np.array([2], np.int64), "boxes": np.arange(8, dtype=np.float32).reshape(1, 2, 4)}
    images_u8 = from_bytes(bytes(3), [1, 1, 1, 3])
    body, length = build_response("m", "v", InferRequest("7", images_u8, None), outputs)
    assert length is None
    assert json.loads(body) == {
        "model_name": "m",
        "model_version": "v",
        "id": "7",
        "outputs": [
            {"name": "n", "datatype": "INT64", "shape": [1], "data": [2]},
            {"name": "boxes", "datatype": "FP32", "shape": [1, 2, 4], "data": [0, 1, 2, 3, 4, 5, 6, 7]},
        ],
    }
    body, length = build_response("m", "v", InferRequest("", images_u8, (("boxes", True), ("n", False))), outputs)
    assert length is not None
    assert body[length:] == outputs["boxes"].tobytes()
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 32}
    with pytest.raises(Problem, match="there are n, boxes"):
        build_response("m", "v", InferRequest("", images_u8, (("other", True),)), outputs)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("images") | values,
        "datatype": st.just("UINT8") | values,
        "shape": st.just([1, 2, 1, 3]) | st.lists(st.integers(-2, 9), max_size=5) | values,
        "data": st.lists(st.integers(-1, 256), max_size=9) | values,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 9)}) | values,
    },
)
documents = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=2) | values},
    optional={"id": values, "outputs": st.lists(values, max_size=2) | values, "parameters": values},
)


@settings(deadline=None)
@given(content=documents | values, tail=st.binary(max_size=9), length=st.none() | st.integers(-1, 400))
def test_any_document_is_pictures_or_a_problem(content: Any, tail: bytes, length: int | None) -> None:
    head = json.dumps(content).encode()
    for header_length in (len(head), length, None):
        try:
            outcome = parse_infer_request(head + tail, header_length, LIMIT).images_u8.ndim
        except Problem as problem:
            outcome = problem.status
            json.dumps(problem.to_dict(), ensure_ascii=False).encode()
        assert outcome in (4, 400, 413)


@settings(deadline=None)
@given(body=st.binary(max_size=300), length=st.none() | st.integers(-10, 400))
def test_any_bytes_are_pictures_or_a_problem(body: bytes, length: int | None) -> None:
    with pytest.raises(Problem):
        parse_infer_request(body, length, LIMIT)


@settings(deadline=None)
@given(data=values, shape=values)
def test_any_numbers_are_pictures_or_a_problem(data: Any, shape: Any) -> None:
    for dims in (shape, [1, 1, 1, 3]):
        try:
            outcome = from_numbers(data, dims).ndim
        except Problem as problem:
            outcome = problem.status
        assert outcome in (4, 400)
