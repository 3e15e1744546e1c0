"""Who may ask: tokens, names, origins; and what the log tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc
import tritonclient.http
from server_process import TOKEN, Server, jpeg
from tritonclient.grpc.auth import BasicAuth
from tritonclient.utils import InferenceServerException

from aweigh.serve.access import host_name, is_right_token, origin_host
from aweigh.serve.rpc.messages import Messages

DETECT = "/v1/models/red/detect"
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def guarded(start: Callable[..., Server], red_model: Path) -> Server:
    return start("--model", str(red_model), "--host", "0.0.0.0", token=TOKEN)


@pytest.mark.parametrize(
    "header", [None, "", TOKEN, f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xe4"]
)
def test_a_wrong_token_opens_nothing(guarded: Server, picture: npt.NDArray[np.uint8], header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    with httpx.Client(base_url=guarded.http, headers=headers, trust_env=False, verify=False) as client:
        for answer in (
            client.post(DETECT, content=jpeg(picture), headers=JPEG),
            client.get("/v1/models"),
            client.get("/metrics"),
            client.get("/v2/models/red"),
            client.post("/v2/repository/models/red/load"),
            client.get("/nowhere"),
        ):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json()["error"] == "expected the header Authorization: Bearer TOKEN"


def test_the_right_token_and_what_needs_none(guarded: Server, picture: npt.NDArray[np.uint8]) -> None:
    with guarded.client() as client:
        assert client.post(DETECT, content=jpeg(picture), headers=JPEG).status_code == 200
        assert client.get("/v2", headers={"Host": "anything.example"}).status_code == 200
        del client.headers["Authorization"]
        for path in ("/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready", "/static/page/page.css"):
            assert client.get(path).status_code == 200


def test_grpc_asks_for_the_same_token(guarded: Server) -> None:
    address = guarded.grpc.replace("0.0.0.0", "127.0.0.1")
    tensor = tritonclient.grpc.InferInput("images", [1, 64, 96, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 64, 96, 3), np.uint8))
    with tritonclient.grpc.InferenceServerClient(address) as client:
        assert client.is_server_live()
        for headers in ({}, {"authorization": f"Bearer {TOKEN}x"}):
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                client.infer("red", [tensor], headers=headers)
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                client.load_model("red", headers=headers)
        result = client.infer("red", [tensor], headers={"authorization": f"Bearer {TOKEN}"})
        assert result.as_numpy("num_dets").tolist() == [0]
    with tritonclient.grpc.InferenceServerClient(address) as client:
        client.register_plugin(BasicAuth("user", TOKEN))
        with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
            client.get_server_metadata()


def test_the_log_holds_no_secret(guarded: Server) -> None:
    with guarded.client() as client:
        client.get("/v2/models/red", params={"password": "very-secret-7"})
        client.post(DETECT, content=b"very-secret-7", headers=JPEG)
    log = guarded.log.read_text()
    assert TOKEN not in log
    assert "very-secret-7" not in log


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "user@localhost", "[::1", "localhost/x"]
)
def test_other_names_are_not_answered(client: httpx.Client, host: str) -> None:
    """A page that has its own name resolve to this machine gets nothing."""
    answer = client.get("/v1/models", headers={"Host": host})
    assert answer.status_code == 400
    assert "Host header" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "127.0.0.1", "[::1]:80"])
def test_loopbacks_names_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/models", headers={"Host": host}).status_code == 200
    assert host_name(host) in ("localhost", "127.0.0.1", "::1")


def test_pages_of_other_sites_cannot_post_nor_read(client: httpx.Client, picture: npt.NDArray[np.uint8]) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:1", "http://[", ""):
        headers = {"Origin": origin, **JPEG}
        assert client.post(DETECT, content=jpeg(picture), headers=headers).status_code == 403
        assert client.post("/v2/repository/models/red/load", headers=headers).status_code == 403
    own = str(client.base_url).rstrip("/")
    answer = client.post(DETECT, content=jpeg(picture), headers={"Origin": own, **JPEG})
    assert answer.status_code == 200
    assert origin_host(own) == own.removeprefix("http://")
    preflight = client.options(
        DETECT, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert not [name for name in (*answer.headers, *preflight.headers) if name.startswith("access-control")]


def test_nothing_is_fetched_or_opened_on_a_clients_word(server: Server) -> None:
    with tritonclient.http.InferenceServerClient(server.http.removeprefix("http://")) as client:
        for call in (
            lambda: client.load_model("red", config="{}"),
            lambda: client.load_model("red", config="{}", files={"file:1/model.onnx": b"x"}),
            lambda: client.load_model("/etc/passwd"),
            lambda: client.register_system_shared_memory("x", "/x", 10),
            lambda: client.unload_model("red"),
        ):
            with pytest.raises(InferenceServerException):
                call()
        tensor = tritonclient.http.InferInput("images", [1, 64, 96, 3], "UINT8")
        tensor.set_shared_memory("region", 64 * 96 * 3)
        with pytest.raises(InferenceServerException, match="shared memory is not served"):
            client.infer("red", [tensor])
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        for call in (
            lambda: client.load_model("red", config="{}"),
            lambda: client.load_model("../red"),
            lambda: client.register_system_shared_memory("x", "/x", 10),
        ):
            with pytest.raises(InferenceServerException):
                call()


def test_grpc_messages_that_lie(server: Server) -> None:
    messages = Messages()
    with grpc.insecure_channel(server.grpc, options=(("grpc.max_send_message_length", -1),)) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=messages.ModelInferResponse.FromString,
        )

        def refusal(raw: list[bytes], shape: list[int], **changes: object) -> tuple[grpc.StatusCode, str]:
            tensor = {"name": "images", "datatype": "UINT8", "shape": shape, **changes}
            request = messages.ModelInferRequest(model_name="red", inputs=[tensor], raw_input_contents=raw)
            with pytest.raises(grpc.RpcError) as refused:
                call(request, timeout=20)
            return refused.value.code(), refused.value.details()

        shape = [1, 64, 96, 3]
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        assert refusal([b"x"], shape) == (invalid, "images: shape [1, 64, 96, 3] takes 18432 bytes, got 1")
        assert refusal([], [1, -1, -1, 3])[0] == invalid
        assert refusal([], [2**40, 2**40, 1, 3])[0] == invalid
        assert refusal([bytes(18432), b"x"], shape)[0] == invalid
        assert refusal([bytes(18432)], shape, contents={"uint_contents": [1]})[0] == invalid
        assert refusal([bytes(18432)], shape, datatype="FP32")[0] == invalid
        assert refusal([], shape, contents={"uint_contents": [256] * 18432})[0] == invalid
        assert refusal([bytes(17 << 20)], shape)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (
            refusal([], shape, contents={"uint_contents": [0] * (1 << 20 | 1)})[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        )
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff\xff no message", timeout=20)
        assert refused.value.details() == "not a message of this call"
        numbers = {"name": "images", "datatype": "UINT8", "shape": shape, "contents": {"uint_contents": [7] * 18432}}
        assert call(messages.ModelInferRequest(model_name="red", inputs=[numbers]), timeout=20).model_name == "red"


def test_the_comparison_of_tokens() -> None:
    assert is_right_token(f"bearer  {TOKEN} ", TOKEN)
    assert not is_right_token(None, TOKEN)
