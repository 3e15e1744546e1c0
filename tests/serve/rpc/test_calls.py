"""Calls that are begun and not finished, and messages of strangers: neither shuts the server for other clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from server_process import TOKEN, Server

INFER = "/inference.GRPCInferenceService/ModelInfer"
Silence = Callable[[], Iterator[bytes]]
RIGHT = (("authorization", f"Bearer {TOKEN}"),)


@pytest.fixture(scope="module")
def guarded(start: Callable[..., Server], red_model: Path) -> Server:
    return start("--model", str(red_model), "--body-timeout", "1", token=TOKEN)


@pytest.fixture
def silence() -> Iterator[Silence]:
    """For each call, messages that do not come until the test is over."""
    over = threading.Event()

    def wait() -> Iterator[bytes]:
        over.wait(60)
        yield from ()

    yield wait
    over.set()


def infer(server: Server) -> list[int]:
    tensor = tritonclient.grpc.InferInput("images", [1, 64, 96, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 64, 96, 3), np.uint8))
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        result = client.infer("red", [tensor], headers=dict(RIGHT), client_timeout=20)
    return list(result.as_numpy("num_dets").tolist())


def test_calls_without_a_token_end_before_their_message(guarded: Server, silence: Silence) -> None:
    with grpc.insecure_channel(guarded.grpc) as channel:
        calls = [channel.stream_unary(INFER).future(silence(), timeout=60) for _ in range(85)]
        assert infer(guarded) == [0]
        begin_s = time.monotonic()
        for call in calls:
            assert call.code() == grpc.StatusCode.UNAUTHENTICATED
        assert time.monotonic() - begin_s < 10


def test_messages_without_a_token_are_not_kept_in_memory(guarded: Server) -> None:
    before = guarded.metric("process_resident_memory_bytes")
    message = bytes(16 << 20)
    options = (("grpc.max_send_message_length", -1),)
    with grpc.insecure_channel(guarded.grpc, options=options) as channel:
        calls = [channel.unary_unary(INFER).future(message, timeout=60) for _ in range(20)]
        codes = {call.code() for call in calls}
    assert codes == {grpc.StatusCode.UNAUTHENTICATED}
    assert guarded.metric("process_resident_memory_bytes") - before < 20 * len(message) / 2


def test_one_connection_does_not_take_the_calls_of_others(
    start: Callable[..., Server], red_model: Path, silence: Silence
) -> None:
    server = start("--model", str(red_model), token=TOKEN)
    own = (("grpc.use_local_subchannel_pool", 1),)  # else both channels are one connection
    with grpc.insecure_channel(server.grpc, own) as greedy, grpc.insecure_channel(server.grpc, own) as other:
        calls = [greedy.stream_unary(INFER).future(silence(), timeout=60, metadata=RIGHT) for _ in range(100)]
        time.sleep(1)  # the calls arrive; each may wait 10 s for its message
        live = other.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=20)
        assert live == b"\x08\x01"
        refused = [call for call in calls if call.done()]
        assert {call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert len(calls) - len(refused) == 20  # a quarter of the 64 that may wait in the queue and of two batches
        assert "calls of this connection wait for their message" in refused[0].details()
        for call in calls:
            call.cancel()


def test_a_message_that_does_not_come_ends_the_call(guarded: Server, silence: Silence) -> None:
    with grpc.insecure_channel(guarded.grpc) as channel:
        call = channel.stream_unary(INFER).future(silence(), timeout=60, metadata=RIGHT)
        assert call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert call.details() == "the message was not complete within 1 s"


def test_a_call_without_a_message_is_refused(guarded: Server) -> None:
    with grpc.insecure_channel(guarded.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.stream_unary(INFER)(iter(()), timeout=20, metadata=RIGHT)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
