"""/v1: image files in, boxes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aweigh.serve.decoding.fair_queue import NOWHERE, Peer
from aweigh.serve.http.body import read_body
from aweigh.serve.http.connection import while_connected
from aweigh.serve.http.gate import RequireRoom
from aweigh.serve.http.multipart import split_multipart
from aweigh.serve.http.query import read_filter
from aweigh.serve.http.request import require_type, services_of
from aweigh.serve.models.model import ImageResult, ServedModel

_FORM = "multipart/form-data"
# The bytes decide what an image is; some clients know no type.
_IMAGE_TYPES = ("image/*", "application/octet-stream", "")


async def list_models(request: Request) -> Response:
    """Models, their classes and thresholds."""
    return JSONResponse({"models": [model.describe().to_dict() for model in services_of(request).store]})


async def describe_model(request: Request) -> Response:
    """One model."""
    return JSONResponse(services_of(request).store.get(request.path_params["name"]).describe().to_dict())


async def detect(request: Request) -> Response:
    """Detections in one image: the body, or the one file of a form."""
    with services_of(request).store.get(request.path_params["name"]).in_use() as model:
        results = await _detect(request, model, (*_IMAGE_TYPES, _FORM), 1)
    return _respond({"model": model.name, "version": model.version, **_to_dict(results[0])})


async def detect_batch(request: Request) -> Response:
    """Detections in each of the files of a form; one that cannot be read fails the request."""
    services = services_of(request)
    with services.store.get(request.path_params["name"]).in_use() as model:
        results = await _detect(request, model, (_FORM,), services.settings.limits.images)
    return _respond({"model": model.name, "version": model.version, "results": [_to_dict(r) for r in results]})


ROUTES = (
    Route("/v1/models", list_models),
    Route("/v1/models/{name}", describe_model),
    Route("/v1/models/{name}/detect", detect, methods=["POST"], middleware=[Middleware(RequireRoom)]),
    Route("/v1/models/{name}/detect-batch", detect_batch, methods=["POST"], middleware=[Middleware(RequireRoom)]),
)


async def _detect(request: Request, model: ServedModel, types: Sequence[str], max_images: int) -> list[ImageResult]:
    services = services_of(request)
    wanted = read_filter(request.scope["query_string"], model)
    media_type = require_type(request, types)
    with services.admission.ticket() as ticket:
        body = await read_body(request, services.settings.limits, ticket)
        ticket.enter()
        if media_type == _FORM:
            header = request.headers["content-type"]
            images = await model.off_loop(split_multipart, body, header, max_images)
        else:
            images = [body]
        del body
        return await while_connected(request, model.detect(images, wanted, ticket, _peer(request)))


def _peer(request: Request) -> Peer:
    return NOWHERE if request.client is None else Peer(*request.client)


def _to_dict(result: ImageResult) -> dict[str, Any]:
    entry = result.detections.to_dict()
    timing_ms = {stage: round(milliseconds, 3) for stage, milliseconds in result.timing_ms.items()}
    return {"image": entry["image"], "detections": entry["detections"], "timing_ms": timing_ms}


def _respond(content: dict[str, Any]) -> Response:
    # The writer of pydantic takes a sixth of the time of the standard library's: 0.13 instead of 0.80 ms for a hundred
    # detections, in the thread of the event loop.
    return Response(to_json(content), media_type="application/json")
