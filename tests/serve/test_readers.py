"""Every reader of requests on mutated ones: refused with a reason, never a defect of the server."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from urllib.parse import quote

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import pytest
from fuzzing import many, mutated_bytes, mutated_json, only_our_errors
from hypothesis import given
from hypothesis import strategies as st
from red import red_picture
from server_process import Server, jpeg

from aweigh.serve.access import host_name, origin_host
from aweigh.serve.http.multipart import split_multipart
from aweigh.serve.problem import Problem
from aweigh.serve.rpc.messages import SERVICE, Messages
from aweigh.serve.tensors import parse_infer_request, parse_object

DETECT = "/v1/models/red/detect"
INFER = "/v2/models/red/infer"
FORM = (
    b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    b"\xff\xd8 some bytes \xff\xd9\r\n--cut\r\n"
    b"Content-Disposition: form-data; name=file\r\n\r\nmore\r\n--cut--\r\n"
)
FORM_TYPE = b"multipart/form-data; boundary=cut; charset=utf-8"
TENSOR = {"name": "images", "datatype": "UINT8", "shape": [1, 2, 1, 3], "data": [1, 2, 3, 4, 5, 6]}
DOCUMENT = {
    "id": "7",
    "parameters": {"binary_data_output": True},
    "inputs": [TENSOR],
    "outputs": [{"name": "boxes"}, {"name": "scores", "parameters": {"binary_data": False}}],
}
HEAD = {**DOCUMENT, "inputs": [{**TENSOR, "data": [], "parameters": {"binary_data_size": 6}}]}
refused_or_taken = partial(only_our_errors, ours=Problem)


def test_forms() -> None:
    @many
    @given(mutated_bytes(FORM), st.just(FORM_TYPE) | mutated_bytes(FORM_TYPE))
    def check(body: bytes, kind: bytes) -> None:
        refused_or_taken(lambda: split_multipart(body, kind.decode("latin-1"), 2))

    check()


def test_documents_of_tensors() -> None:
    @many
    @given(mutated_json(json.dumps(DOCUMENT).encode()))
    def check(data: bytes) -> None:
        refused_or_taken(lambda: parse_infer_request(data, None, 1 << 16))
        refused_or_taken(lambda: parse_object(data))

    check()


def test_tensors_behind_a_head() -> None:
    @many
    @given(mutated_json(json.dumps(HEAD).encode()), st.binary(max_size=12), st.integers(-1, 400) | st.none())
    def check(head: bytes, tail: bytes, length: int | None) -> None:
        refused_or_taken(lambda: parse_infer_request(head + tail, len(head) if length is None else length, 1 << 16))

    check()


def test_hosts_and_origins() -> None:
    @many
    @given(mutated_bytes(b"http://[::1]:8000/a?b#c"))
    def check(data: bytes) -> None:
        text = data.decode("latin-1")
        refused_or_taken(lambda: (host_name(text), origin_host(text)))

    check()


def answered(answer: httpx.Response) -> None:
    """By what a client may make of it."""
    assert answer.status_code in (200, 400, 404, 408, 413, 415, 422, 431), answer.text
    if answer.status_code != 200 and answer.headers["content-type"] == "application/problem+json":
        assert len(answer.json()["detail"]) < 2000


def test_queries(client: httpx.Client) -> None:
    image = jpeg(red_picture())

    @many
    @given(mutated_bytes(b"score=0.3&max_detections=2&class=whole&class=17").filter(lambda data: len(data) < 4000))
    def check(data: bytes) -> None:
        query = quote(data, safe="=&%+;")
        answered(client.post(f"{DETECT}?{query}", content=image, headers={"Content-Type": "image/jpeg"}))

    check()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".tif", ".bmp"])
def test_images(client: httpx.Client, suffix: str, picture: npt.NDArray[np.uint8]) -> None:
    import cv2

    done, encoded = cv2.imencode(suffix, picture)
    assert done

    @many
    @given(mutated_bytes(encoded.tobytes()))
    def check(data: bytes) -> None:
        answered(client.post(DETECT, content=data, headers={"Content-Type": "image/*"}))

    check()


def test_messages(server: Server) -> None:
    request = Messages().ModelInferRequest(model_name="red", id="7")
    request.inputs.add(name="images", datatype="UINT8", shape=[1, 64, 96, 3]).parameters["x"].int64_param = 3
    request.outputs.add(name="boxes")
    request.raw_input_contents.append(bytes(64 * 96 * 3))
    valid = request.SerializeToString()
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        assert call(valid)

        @many
        @given(mutated_bytes(valid) | mutated_bytes(valid[:60]))
        def check(data: bytes) -> None:
            code = call.future(data).code()
            assert code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), code

        check()


def test_files_of_tokens(tmp_path: Path) -> None:
    from aweigh.serve.cli.serve import read_token

    path = tmp_path / "token"

    @many
    @given(mutated_bytes(b"0123456789abcdef0123456789abcdef\n"))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        only_our_errors(lambda: read_token(path))

    check()
