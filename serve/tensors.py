"""Tensors of the Open Inference Protocol over HTTP: JSON, and raw bytes behind a JSON header."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aweigh.runtime.backends.base import INPUT_NAME
from aweigh.runtime.errors import BadInput
from aweigh.runtime.json_text import parse_json
from aweigh.runtime.network import ImagesU8, Outputs
from aweigh.serve.problem import Problem

DATATYPES = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32", "bool": "BOOL"}
# By which a request would have the server read its memory or a file of its own.
_FOREIGN_MEMORY = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


@dataclass(frozen=True, eq=False)
class InferRequest:
    """One inference, whichever door it came through.

    Attributes:
        request_id: given back as it came; may be empty.
        images_u8: [n, H, W, 3].
        outputs: (name, as bytes) of those asked for, in order; None for all.
        binary: whether outputs go as bytes where the request does not say it for each.
    """

    request_id: str
    images_u8: ImagesU8
    outputs: tuple[tuple[str, bool], ...] | None
    binary: bool = False


def tensor_shape(shape: object) -> tuple[int, int, int, int]:
    """[n, H, W, 3] as integers. Raises Problem 400 for anything else."""
    if (
        not isinstance(shape, Sequence)
        or len(shape) != 4
        or not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 1 << 20 for n in shape)
        or shape[3] != 3
    ):
        raise Problem(400, f"{INPUT_NAME}: shape {_short(shape)}; expected [n, height, width, 3]")
    n, height, width, channels = shape
    return n, height, width, channels


def from_bytes(data: bytes | memoryview, shape: object) -> ImagesU8:
    """Raw uint8 as images; nothing is copied. Raises Problem 400 where the shape and the bytes disagree."""
    dims = tensor_shape(shape)
    if math.prod(dims) != len(data):
        raise Problem(400, f"{INPUT_NAME}: shape {list(dims)} takes {math.prod(dims)} bytes, got {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(dims)


def from_numbers(data: object, shape: object) -> ImagesU8:
    """Numbers of a JSON document, nested or flat. Raises Problem 400 for any that is no integer from 0 to 255."""
    dims = tensor_shape(shape)
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError) as error:  # ragged, or beyond 64 bits
        raise Problem(400, f"{INPUT_NAME}: data are no regular array of integers") from error
    if array.dtype.kind not in "iu" or array.size != math.prod(dims):
        raise Problem(
            400,
            f"{INPUT_NAME}: shape {list(dims)} takes {math.prod(dims)} integers, got {array.size} of {array.dtype}",
        )
    if array.min() < 0 or array.max() > 255:
        raise Problem(400, f"{INPUT_NAME}: values from {array.min()} to {array.max()}; expected 0 to 255")
    return array.astype(np.uint8).reshape(dims)


def parse_object(data: bytes) -> dict[str, Any]:
    """An object. Raises Problem 400 for what is none, NaN and infinity included."""
    try:
        content = parse_json(data, "body")
    except BadInput as error:
        raise Problem(400, str(error)[:200]) from error
    if not isinstance(content, dict):
        raise Problem(400, f"expected a JSON object, got {type(content).__name__}")
    return content


def parse_infer_request(body: bytes, header_length: int | None, json_limit: int) -> InferRequest:
    """Body of ``POST /v2/models/NAME/infer``.

    Args:
        header_length: bytes of the JSON part in front; None where the body is JSON alone.
        json_limit: most bytes of JSON.

    Raises:
        Problem: 400 not of the protocol or not what the model takes, 413 too much JSON.
    """
    length = len(body) if header_length is None else header_length
    if not 0 < length <= len(body):
        raise Problem(400, f"Inference-Header-Content-Length {length}: the body has {len(body)} bytes")
    if length > json_limit:
        raise Problem(
            413, f"{length} bytes of JSON; the limit is {json_limit}: send tensors as bytes (binary_data_size)"
        )
    content = parse_object(body[:length])
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Problem(400, f"inputs: expected one, {INPUT_NAME!r}")
    check_input(inputs[0].get("name"), inputs[0].get("datatype"), _parameters(inputs[0], "input"))
    size = _parameters(inputs[0], "input").get("binary_data_size")
    rest = memoryview(body)[length:]
    if size is None:
        if len(rest):
            raise Problem(400, f"{len(rest)} bytes behind the JSON that belong to no input")
        images_u8 = from_numbers(inputs[0].get("data"), inputs[0].get("shape"))
    else:
        if size != len(rest) or isinstance(size, bool):
            raise Problem(400, f"binary_data_size {_short(size)}: {len(rest)} bytes follow the JSON")
        images_u8 = from_bytes(rest, inputs[0].get("shape"))
    binary = _parameters(content, "request").get("binary_data_output", False) is True
    request_id = content.get("id", "")
    if not isinstance(request_id, str):
        raise Problem(400, "id: expected a string")
    return InferRequest(request_id, images_u8, _requested(content.get("outputs"), binary), binary)


def check_input(name: object, datatype: object, parameters: Mapping[str, Any]) -> None:
    """Raises Problem 400 for another input than the one that models have."""
    if name != INPUT_NAME or datatype != "UINT8":
        raise Problem(400, f"input {_short(name)} of {_short(datatype)}; expected {INPUT_NAME!r} of UINT8")
    check_parameters(parameters)


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Raises Problem 400 where a request points at memory of the server's machine."""
    if any(name in parameters for name in _FOREIGN_MEMORY):
        raise Problem(400, "shared memory is not served; send the bytes")


def chosen(outputs: Outputs, wanted: tuple[str, ...] | None) -> Outputs:
    """Those asked for. Raises Problem 400 for one that the model does not have."""
    if wanted is None:
        return outputs
    missing = [name for name in wanted if name not in outputs]
    if missing:
        raise Problem(400, f"output {_short(missing[0])}: there are {', '.join(outputs)}")
    return {name: outputs[name] for name in wanted}


def build_response(model: str, version: str, request: InferRequest, outputs: Outputs) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON part where bytes follow it. Raises as ``chosen``."""
    binary = dict.fromkeys(outputs, request.binary) if request.outputs is None else dict(request.outputs)
    entries, tail = [], []
    for name, array in chosen(outputs, None if request.outputs is None else tuple(binary)).items():
        entry: dict[str, Any] = {"name": name, "datatype": DATATYPES[array.dtype.name], "shape": list(array.shape)}
        if binary[name]:
            tail.append(np.ascontiguousarray(array).tobytes())
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            entry["data"] = array.reshape(-1).tolist()
        entries.append(entry)
    content = {"model_name": model, "model_version": version, "outputs": entries}
    if request.request_id:
        content["id"] = request.request_id
    head = json.dumps(content, allow_nan=False).encode()
    return b"".join([head, *tail]), len(head) if tail else None


def _requested(outputs: object, binary: bool) -> tuple[tuple[str, bool], ...] | None:
    if outputs is None or outputs == []:
        return None
    if not isinstance(outputs, list) or not all(
        isinstance(o, dict) and isinstance(o.get("name"), str) for o in outputs
    ):
        raise Problem(400, "outputs: expected a list of objects with a name")
    result = []
    for output in outputs:
        parameters = _parameters(output, "output")
        check_parameters(parameters)
        if parameters.get("classification"):
            raise Problem(400, "classification: this model detects; its outputs come as they are")
        result.append((output["name"], parameters.get("binary_data", binary) is True))
    return tuple(result)


def _parameters(owner: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    parameters = owner.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Problem(400, f"parameters of the {what}: expected an object")
    return parameters


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."
