"""The Open Inference Protocol over gRPC: the same models, queue and limits as over HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError

from aweigh.runtime.errors import AweighError
from aweigh.runtime.network import ImagesU8
from aweigh.serve.problem import Problem, from_error
from aweigh.serve.rpc.messages import SERVICE, Messages
from aweigh.serve.services import Services
from aweigh.serve.settings import Limits
from aweigh.serve.tensors import DATATYPES, check_input, check_parameters, chosen, from_bytes, from_numbers

LOG = logging.getLogger("aweigh.serve")
Call: TypeAlias = Callable[[Any], Awaitable[Any]]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.FAILED_PRECONDITION,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.RESOURCE_EXHAUSTED,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Names and shapes around the tensor itself.
_MESSAGE_SLACK_BYTES = 64 << 10
# As over HTTP, these need no token: they reveal nothing of a model.
_OPEN = frozenset({"ServerLive", "ServerReady"})


class InferenceService:
    """The methods of the service, each named as in the .proto."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._messages = Messages()
        # Calls of each connection whose message is not there yet. Calls that have theirs are limited by the queue.
        self._waiting: Counter[str] = Counter()
        self._most_waiting = max(2, _most_calls(services.settings.limits) // 4)

    def handler(self) -> Any:
        """The handler of all methods, for a gRPC server."""
        handlers: dict[str, Any] = {}
        for name, (request, response) in self._messages.methods().items():
            # To a client a stream of one message is the same call. To the server it is one that begins before the
            # message is there: the token is checked first, and the message has a limited time to arrive.
            handlers[name] = grpc.stream_unary_rpc_method_handler(
                self._guarded(name, request, getattr(self, name)), response_serializer=response.SerializeToString
            )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _guarded(self, name: str, kind: Any, call: Call) -> Callable[[Any, Any], Awaitable[Any]]:
        access, metrics = self._services.access, self._services.metrics
        body_s = self._services.settings.limits.body_s

        async def guarded(messages: AsyncIterator[bytes], context: Context) -> Any:  # noqa: RET503, abort raises
            code, detail = grpc.StatusCode.OK, ""
            trailers: tuple[tuple[str, str], ...] = ()
            try:
                if name not in _OPEN:
                    header = dict(context.invocation_metadata() or ()).get("authorization")
                    access.require_token(_text(header), "metadata authorization:")
                with self._place(context.peer()):
                    message = await _read_message(messages, body_s)
                return await call(_parse(kind, message))
            except (Problem, AweighError) as error:
                problem = error if isinstance(error, Problem) else from_error(error)
                metrics.error(problem.kind)
                code, detail = _CODES.get(problem.status, grpc.StatusCode.INTERNAL), problem.detail
                if problem.retry_after_s is not None:
                    trailers = (("retry-after", str(problem.retry_after_s)),)
            except asyncio.CancelledError:  # the client hung up, or its own deadline has passed
                code = grpc.StatusCode.CANCELLED
                metrics.error("abandoned")
                raise
            except Exception:
                LOG.exception("gRPC %s", name)
                metrics.error("internal")
                code, detail = grpc.StatusCode.INTERNAL, "a defect of the server; see its log"
            finally:
                metrics.request("grpc", name, code.name)
            await context.abort(code, detail, trailers)

        return guarded

    @contextmanager
    def _place(self, connection: str) -> Iterator[None]:
        """One connection that opens calls and sends no messages does not take the places of others."""
        if self._waiting[connection] >= self._most_waiting:
            text = f"{self._most_waiting} calls of this connection wait for their message; send those first"
            raise Problem(503, text, retry_after_s=1)
        self._waiting[connection] += 1
        try:
            yield
        finally:
            self._waiting[connection] -= 1
            if not self._waiting[connection]:
                del self._waiting[connection]

    async def ServerLive(self, request: Any) -> Any:  # noqa: N802
        return self._messages.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any) -> Any:  # noqa: N802
        return self._messages.ServerReadyResponse(ready=self._services.ready)

    async def ModelReady(self, request: Any) -> Any:  # noqa: N802
        self._services.store.get(request.name, request.version)
        return self._messages.ModelReadyResponse(ready=self._services.ready)

    async def ServerMetadata(self, request: Any) -> Any:  # noqa: N802
        return self._messages.ServerMetadataResponse(**self._services.metadata().to_dict())

    async def ModelMetadata(self, request: Any) -> Any:  # noqa: N802
        metadata = self._services.store.get(request.name, request.version).metadata()
        return self._messages.ModelMetadataResponse(**metadata.to_dict())

    async def ModelInfer(self, request: Any) -> Any:  # noqa: N802
        services = self._services
        chosen_model = services.store.get(request.model_name, request.model_version)
        with chosen_model.in_use() as model, services.admission.ticket() as ticket:
            ticket.hold(request.ByteSize())
            ticket.enter()
            wanted = tuple(output.name for output in request.outputs) or None
            for output in request.outputs:
                check_parameters(output.parameters)
            images_u8 = await model.off_loop(_images, request, services.settings.limits.json_bytes)
            result = await model.infer(images_u8, ticket)
        response = self._messages.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
        for name, array in chosen(result.outputs, wanted).items():
            response.outputs.add(name=name, datatype=DATATYPES[array.dtype.name], shape=array.shape)
            response.raw_output_contents.append(np.ascontiguousarray(array).tobytes())
        return response

    async def RepositoryIndex(self, request: Any) -> Any:  # noqa: N802
        response = self._messages.RepositoryIndexResponse()
        for model in self._services.store:
            response.models.add(name=model.name, version=model.version, state="READY")
        return response

    async def RepositoryModelLoad(self, request: Any) -> Any:  # noqa: N802
        if request.parameters:
            raise Problem(400, "parameters: the server chooses a model's file and settings, not the client")
        with self._services.admission.ticket():
            await self._services.store.reload(request.model_name)
        return self._messages.RepositoryModelLoadResponse()


def _most_calls(limits: Limits) -> int:
    return limits.queue_items + 2 * limits.batch


def build_grpc_server(services: Services, address: str) -> tuple[grpc.aio.Server, int]:
    """A gRPC server that is not started yet.

    Args:
        address: ``host:port`` to listen on; port 0 for a free one.

    Returns:
        The server and its port.

    Raises:
        RuntimeError: the address is not available.
    """
    limits = services.settings.limits
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", limits.body_bytes + _MESSAGE_SLACK_BYTES),
            ("grpc.max_metadata_size", 16 << 10),
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not half of the requests
            # A client that neither sends nor answers pings for this long is gone.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ),
        maximum_concurrent_rpcs=_most_calls(limits),
    )
    server.add_generic_rpc_handlers((InferenceService(services).handler(),))
    return server, server.add_insecure_port(address)


async def _read_message(messages: AsyncIterator[bytes], seconds: float) -> bytes:
    """Raises Problem 400 where there is none, 408 where it is not complete in time."""
    try:
        async with asyncio.timeout(seconds):
            return await anext(messages)
    except StopAsyncIteration as end:
        raise Problem(400, "expected one message, got none") from end
    except TimeoutError as late:
        raise Problem(408, f"the message was not complete within {seconds:g} s") from late


def _parse(kind: Any, message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise Problem(400, "not a message of this call") from error


def _images(request: Any, most_numbers: int) -> ImagesU8:
    if len(request.inputs) != 1:
        raise Problem(400, f"{len(request.inputs)} inputs; expected one")
    tensor = request.inputs[0]
    check_input(tensor.name, tensor.datatype, tensor.parameters)
    check_parameters(request.parameters)
    shape = list(tensor.shape)
    if request.raw_input_contents:
        if len(request.raw_input_contents) != 1 or tensor.contents.ListFields():
            raise Problem(400, "raw_input_contents: expected one entry, and no contents")
        return from_bytes(request.raw_input_contents[0], shape)
    if len(tensor.contents.uint_contents) > most_numbers:
        raise Problem(413, f"more than {most_numbers} numbers in contents; send raw_input_contents")
    return from_numbers(np.array(tensor.contents.uint_contents, np.uint32), shape)


def _text(value: str | bytes | None) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else value
