"""The inspector's JSON is constructed here, after NVIDIA's published examples of both schemas."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fuzzing import many, mutated_json, only_our_errors
from hypothesis import given

from aweigh.export.engine.report import precision_of, read_report, require_precision
from aweigh.runtime.errors import CheckFailed


def conv(kind: str, count: int, dimensions: list[int], out: str | None = None, bias: int = 0) -> dict[str, Any]:
    layer: dict[str, Any] = {
        "Name": "node_conv + node_relu",
        "LayerType": "CaskConvolution",
        "ParameterType": "Convolution",
        "Outputs": [{"Name": "y", "Dimensions": dimensions, "Format/Datatype": out or kind}],
        "Weights": {"Type": kind, "Count": count},
    }
    return {**layer, "Bias": {"Type": "Float", "Count": bias}} if bias else layer


def plain(datatype: str, dimensions: list[int], key: str = "Format/Datatype") -> dict[str, Any]:
    return {
        "Name": "__myl_fc",
        "LayerType": "kgen",
        "Outputs": [{"Name": "y", "Dimensions": dimensions, key: datatype}],
    }


def report(*layers: Any) -> Any:
    return read_report(json.dumps({"Layers": list(layers), "Bindings": ["images"]}))


def test_shares_of_layers_weights_and_bytes() -> None:
    got = report(
        conv("Half", 900, [1, 10, 10], bias=100),
        conv("Half", 0, [1, 50], "Half"),
        plain("Row major linear FP32", [1, 25]),
        plain("Int64", [1, 4]),
        plain("N/A due to dynamic shapes", [-1, 4]),
    )
    half, full = got.share("FP16"), got.share("FP32")
    assert (half.layers, full.layers, got.unknown_layers) == (2, 1, 2)
    assert half.layer_share == pytest.approx(2 / 3)
    assert (half.weights, full.weights) == (900, 100)
    assert half.weight_share == pytest.approx(0.9)
    assert half.bytes == 900 * 2 + 100 * 2 + 50 * 2
    assert full.bytes == 100 * 4 + 25 * 4
    assert half.byte_share + full.byte_share == pytest.approx(1)
    assert [s.precision for s in got.shares] == ["FP16", "FP32"]
    assert got.share("INT8").layers == 0
    assert "FP16 66.7% of layers, 90.0% of weights" in got.describe()


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format."}, "INT8"),
        ({"Format/Datatype": "Half(64,1:8,8,1)"}, "FP16"),
        ({"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}, "FP16"),
        ({"Format/Datatype": "Row major linear BFloat16"}, "BF16"),
        ({"Format/Datatype": "Row major linear FP32"}, "FP32"),
        ({"Format/Datatype": "Row major linear UInt8 format"}, None),
        ({"Format/Datatype": "N/A due to dynamic shapes"}, None),
        ({"Format": "Row major linear FP32 format (kLINEAR)", "DataType": "Float"}, "FP32"),
        ({"Format": "Row major linear format", "DataType": "BFloat16"}, "BF16"),
        ({"Format": "Row major linear format", "Datatype": "FP8"}, "FP8"),
        ({"DataType": "Bool"}, None),
        ({"Name": "y"}, None),
        ("y", None),
    ],
)
def test_types_of_both_schemas(entry: Any, expected: str | None) -> None:
    assert precision_of(entry) == expected


def test_an_fp32_engine_that_was_to_be_fp16_is_an_error() -> None:
    got = report(conv("Float", 1000, [1, 10, 10]), conv("Float", 1000, [1, 10, 10]))
    with pytest.raises(CheckFailed) as caught:
        require_precision(got, "fp16")
    assert "was to compute in fp16, but FP16 has 0.0% of its weights, at least 90% were expected" in str(caught.value)
    assert "FP32 100.0% of layers" in str(caught.value)
    require_precision(got, "fp32")


@pytest.mark.parametrize(
    ("asked", "weights", "passes"),
    [
        ("fp16", {"Half": 95, "Float": 5}, True),
        ("fp16", {"Half": 80, "Float": 20}, False),
        ("bf16", {"BFloat16": 100}, True),
        ("bf16", {"Half": 100}, False),
        ("int8", {"Int8": 60, "Float": 40}, True),
        ("int8", {"Int8": 40, "Half": 60}, False),
        ("fp32", {"Float": 100}, True),
        ("fp32", {"Float": 90, "Half": 10}, False),
    ],
)
def test_what_is_enough(asked: str, weights: dict[str, int], passes: bool) -> None:
    got = report(*(conv(kind, count, [1, 1]) for kind, count in weights.items()))
    if passes:
        require_precision(got, asked)
    else:
        with pytest.raises(CheckFailed, match=f"export that with --precision {asked}"):
            require_precision(got, asked)


def test_bytes_count_where_no_layer_names_weights() -> None:
    got = report(plain("Half", [40], "DataType"), plain("Float", [60], "DataType"))
    require_precision(got, "fp16")
    with pytest.raises(CheckFailed, match=r"FP32 has 75\.0% of its bytes, at least 99%"):
        require_precision(got, "fp32")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "gave no JSON"),
        ("{}", "gave no JSON with layers"),
        ("[]", "gave no JSON with layers"),
        ('{"Layers": ["conv_1 + relu_1", "conv_2"]}', "not built with detailed verbosity"),
    ],
)
def test_reports_without_detail(text: str, words: str) -> None:
    with pytest.raises(CheckFailed, match=words):
        read_report(text)


def test_an_engine_that_tells_nothing_is_an_error() -> None:
    got = report(plain("N/A due to dynamic shapes", [-1]))
    assert got.unknown_layers == 1
    with pytest.raises(CheckFailed, match="no layer reports its precision"):
        require_precision(got, "fp32")


def test_mutated_reports() -> None:
    """Whatever a library says, the answer is a report or one of our errors."""
    layers = [conv("Half", 900, [1, 10, 10], bias=100), plain("Float", [4, 2]), plain("Int8", [2, -1], "DataType")]

    @many
    @given(mutated_json(json.dumps({"Layers": layers, "Bindings": ["images"]}).encode()))
    def check(data: bytes) -> None:
        only_our_errors(lambda: read_report(data.decode(errors="replace")).describe())

    check()
