"""/v2: the Open Inference Protocol over HTTP, with its extensions for binary tensors and the model repository."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aweigh.serve.http.body import read_body
from aweigh.serve.http.connection import while_connected
from aweigh.serve.http.gate import RequireRoom
from aweigh.serve.http.request import json_length, require_type, services_of
from aweigh.serve.models.model import ServedModel
from aweigh.serve.problem import Problem, overloaded
from aweigh.serve.services import Services
from aweigh.serve.tensors import build_response, parse_infer_request, parse_object

LENGTH_HEADER = "Inference-Header-Content-Length"
_TYPES = ("application/json", "application/octet-stream", "")


async def server_metadata(request: Request) -> Response:
    """Name, version and protocol extensions of the server."""
    return JSONResponse(services_of(request).metadata().to_dict())


async def live(request: Request) -> Response:
    """Whether the process answers."""
    return Response()


async def ready(request: Request) -> Response:
    """Whether new requests are welcome; 503 while the server stops, and while decoding or a network hangs."""
    _require_ready(services_of(request))
    return Response()


async def model_metadata(request: Request) -> Response:
    """Inputs and outputs of a model."""
    return JSONResponse(_model(request).metadata().to_dict())


async def model_ready(request: Request) -> Response:
    """Whether a model answers."""
    _model(request)
    _require_ready(services_of(request))
    return Response()


async def infer(request: Request) -> Response:
    """The graph's outputs for prepared images."""
    services = services_of(request)
    limits = services.settings.limits
    length = json_length(request, LENGTH_HEADER)
    require_type(request, _TYPES)
    with _model(request).in_use() as model, services.admission.ticket() as ticket:
        body = await read_body(request, limits, ticket, limits.json_bytes if length is None else limits.body_bytes)
        ticket.enter()
        asked = await model.off_loop(parse_infer_request, body, length, limits.json_bytes)
        result = await while_connected(request, model.infer(asked.images_u8, ticket))
    content, content_length = build_response(model.name, model.version, asked, result.outputs)
    if content_length is None:
        return Response(content, media_type="application/json")
    headers = {LENGTH_HEADER: str(content_length)}
    return Response(content, media_type="application/octet-stream", headers=headers)


async def repository_index(request: Request) -> Response:
    """Models and their state."""
    models = services_of(request).store
    return JSONResponse([{"name": m.name, "version": m.version, "state": "READY", "reason": ""} for m in models])


async def repository_load(request: Request) -> Response:
    """Open a model's file again: the file that the server was started with; nothing of it comes from the client."""
    services = services_of(request)
    with services.admission.ticket() as ticket:
        body = await read_body(request, services.settings.limits, ticket, services.settings.limits.json_bytes)
        if body and parse_object(body).get("parameters"):
            raise Problem(400, "parameters: the server chooses a model's file and settings, not the client")
        await services.store.reload(request.path_params["name"])
    return JSONResponse({})


_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{model_version}"
ROUTES = (
    Route("/v2", server_metadata),
    Route("/v2/health/live", live),
    Route("/v2/health/ready", ready),
    *(Route(model, model_metadata) for model in (_MODEL, _VERSION)),
    *(Route(f"{model}/ready", model_ready) for model in (_MODEL, _VERSION)),
    *(
        Route(f"{model}/infer", infer, methods=["POST"], middleware=[Middleware(RequireRoom)])
        for model in (_MODEL, _VERSION)
    ),
    Route("/v2/repository/index", repository_index, methods=["POST"]),
    Route("/v2/repository/models/{name}/load", repository_load, methods=["POST"]),
)


def _model(request: Request) -> ServedModel:
    parameters = request.path_params
    return services_of(request).store.get(parameters["name"], parameters.get("model_version", ""))


def _require_ready(services: Services) -> None:
    if services.obstacle:
        raise overloaded(services.obstacle)
