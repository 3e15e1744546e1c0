from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aweigh.runtime.errors import BadInput
from aweigh.runtime.spec import SCHEMA_VERSION, Category, InputSpec, ModelSpec, PostSpec

names = st.text(min_size=0, max_size=20)
unit = st.floats(0, 1)
specs = st.builds(
    ModelSpec,
    method=names,
    architecture=names,
    categories=st.lists(
        st.builds(Category, st.integers(-5, 10**6), names), min_size=1, max_size=5, unique_by=lambda c: c.id
    ).map(tuple),
    input=st.builds(
        InputSpec,
        size_hw=st.tuples(st.integers(32, 8192), st.integers(32, 8192)),
        resize=st.sampled_from(["letterbox", "keep-ratio", "stretch"]),
        dynamic_size=st.booleans(),
        mean=st.tuples(unit, unit, unit),
    ),
    post=st.builds(
        PostSpec,
        kind=st.sampled_from(["nms", "vote", "none", "raw"]),
        nms_form=st.sampled_from(["onnx", "matrix", None]),
        score_threshold=unit,
        iou_threshold=unit,
    ),
    precision=st.sampled_from(["fp32", "fp16", "bf16", "int8"]),
    batch=st.tuples(st.integers(1, 4), st.integers(4, 64)),
    parents=st.dictionaries(names, names, max_size=3),
)


@given(specs)
def test_round_trip(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert ModelSpec.from_dict(spec.to_dict()) == spec


def test_names_keep_the_label_order_and_the_ids(spec: ModelSpec) -> None:
    assert spec.names == {17: "left half", 3: "whole"}
    assert list(spec.names) == [17, 3]


@pytest.mark.parametrize("schema", ["2.0", "0.9", None, 1, ""])
def test_another_major_schema_is_refused(spec: ModelSpec, schema: Any) -> None:
    with pytest.raises(BadInput, match=f"schema {schema!r}, this aweigh reads '{SCHEMA_VERSION}'"):
        ModelSpec.from_dict({**spec.to_dict(), "schema": schema})


def test_another_minor_schema_is_read(spec: ModelSpec) -> None:
    major = SCHEMA_VERSION.split(".")[0]
    assert ModelSpec.from_dict({**spec.to_dict(), "schema": f"{major}.7"}) == spec


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("precision",), "fp8", r"spec\.precision: got 'fp8', expected one of int8, bf16, fp16, fp32"),
        (("batch",), [1], r"spec\.batch: got \[1\], expected a list of 2"),
        (("batch",), [1, "8"], r"spec\.batch\[1\]: got '8', expected int"),
        (("batch",), [True, 8], r"spec\.batch\[0\]: got True, expected int"),
        (("input", "size_hw"), 320, r"spec\.input\.size_hw: got 320, expected a list of 2"),
        (("input", "mean"), [1, 2, None], r"spec\.input\.mean\[2\]: got None, expected float"),
        (("input",), [], r"spec\.input: expected an object"),
        (("post", "kind"), "soft-nms", r"spec\.post\.kind"),
        (("post", "nms_form"), "fast", r"spec\.post\.nms_form"),
        (("parents",), {"commit": 3}, r"spec\.parents: expected an object of strings"),
        (("categories",), [{"id": "1", "name": "x"}], r"spec\.categories\[0\]\.id"),
        (("categories",), [{"id": 1}], r"spec\.categories\[0\]: missing fields \['name'\]"),
        (("colour",), "red", r"unknown fields \['colour'\]"),
    ],
)
def test_bad_fields_are_named(spec: ModelSpec, path: tuple[str, ...], value: Any, words: str) -> None:
    data = json.loads(spec.to_json())
    target = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(BadInput, match=words):
        ModelSpec.from_dict(data)


def test_integers_pass_for_floats(spec: ModelSpec) -> None:
    data = spec.to_dict()
    data["post"] = {**data["post"], "score_threshold": 0}
    read = ModelSpec.from_dict(data)
    assert read.post == dataclasses.replace(spec.post, score_threshold=0.0)
    assert isinstance(read.post.score_threshold, float)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"spec"', "3"])
def test_text_that_is_no_spec(text: str) -> None:
    with pytest.raises(BadInput, match="model spec"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("categories",), []),
        (("categories", 1, "id"), 17),
        (("categories", 0, "id"), 10**30),
        (("categories", 0, "id"), -(2**63) - 1),
        (("batch",), [0, 4]),
        (("batch",), [4, 1]),
        (("batch",), [1, 10**9]),
        (("input", "size_hw"), [0, 96]),
        (("input", "size_hw"), [64, 10**30]),
        (("input", "pad_value"), -1),
        (("input", "pad_value"), 999),
        (("input", "pad_multiple"), 0),
        (("input", "mean"), [0, 0, 1e300]),
        (("input", "std"), [1, 0, 1]),
        (("input", "std"), [1, -1, 1]),
        (("post", "score_threshold"), -0.1),
        (("post", "score_threshold"), 1.5),
        (("post", "iou_threshold"), 2),
        (("post", "pre_nms_top_k"), 0),
        (("post", "vote_sigma"), 0),
        (("post", "vote_min_iou"), -1),
        (("post", "max_det"), -1),
        (("best_conf",), [0.5, 1.5]),
        (("best_conf",), [0.5]),
    ],
)
def test_values_out_of_range_are_named(spec: ModelSpec, path: tuple[str | int, ...], value: Any) -> None:
    data = json.loads(spec.to_json())
    target = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(BadInput, match=rf"model spec\.{path[0]}.*expected"):
        ModelSpec.from_dict(data)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("path", [("post", "score_threshold"), ("post", "vote_sigma"), ("best_conf", 0)])
def test_numbers_that_are_none(spec: ModelSpec, path: tuple[str | int, ...], number: float) -> None:
    """In a dictionary and in text, where JSON has no such numbers."""
    data = json.loads(dataclasses.replace(spec, best_conf=(0.5, 0.5)).to_json())
    data[path[0]][path[1]] = number
    with pytest.raises(BadInput, match="model spec"):
        ModelSpec.from_dict(data)
    with pytest.raises(BadInput, match="model spec"):
        ModelSpec.from_json(json.dumps(data))


def test_a_schema_of_many_digits(spec: ModelSpec) -> None:
    assert ModelSpec.from_dict({**spec.to_dict(), "schema": "1." + "9" * 5000}) == spec
