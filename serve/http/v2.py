"""/v2: the Open Inference Protocol over HTTP, with its extensions for binary tensors and the model repository."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from starlette.responses import JSONResponse, Response

from aweigh.serve.http import schemas
from aweigh.serve.http.body import read_body, require_type
from aweigh.serve.http.connection import while_connected
from aweigh.serve.problem import Problem, overloaded
from aweigh.serve.services import services_of
from aweigh.serve.tensors import build_response, parse_infer_request, parse_json

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"], responses=schemas.PROBLEMS)

EXTENSIONS = ("binary_tensor_data", "model_repository")
LENGTH_HEADER = "Inference-Header-Content-Length"
HeaderLength = Annotated[int | None, Header(alias=LENGTH_HEADER, ge=1, le=1 << 31)]
_TYPES = ("application/json", "application/octet-stream", "")


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions, for both transports."""
    return {"name": "aweigh", "version": version("aweigh"), "extensions": list(EXTENSIONS)}


@router.get("", response_model=schemas.ServerMetadata, summary="The server")
async def metadata(request: Request) -> JSONResponse:
    return JSONResponse(server_metadata())


@router.get("/health/live", summary="Whether the process answers", response_class=Response)
async def live() -> Response:
    return Response()


@router.get("/health/ready", summary="Whether new requests are welcome", response_class=Response)
async def ready(request: Request) -> Response:
    """All models have passed their self-test before the server listens; 503 while it is stopping."""
    if not services_of(request).ready:
        raise overloaded("the server is stopping")
    return Response()


@router.get("/models/{name}", response_model=schemas.ModelMetadata, summary="Inputs and outputs of a model")
@router.get("/models/{name}/versions/{model_version}", response_model=schemas.ModelMetadata, include_in_schema=False)
async def model_metadata(request: Request, name: str, model_version: str = "") -> JSONResponse:
    return JSONResponse(services_of(request).store.get(name, model_version).metadata())


@router.get("/models/{name}/ready", summary="Whether a model answers", response_class=Response)
@router.get("/models/{name}/versions/{model_version}/ready", response_class=Response, include_in_schema=False)
async def model_ready(request: Request, name: str, model_version: str = "") -> Response:
    services = services_of(request)
    services.store.get(name, model_version)
    if not services.ready:
        raise overloaded("the server is stopping")
    return Response()


@router.post(
    "/models/{name}/infer",
    response_model=schemas.InferResponse,
    openapi_extra=schemas.INFER_BODY,
    summary="The graph's outputs for prepared pictures",
)
@router.post(
    "/models/{name}/versions/{model_version}/infer", response_model=schemas.InferResponse, include_in_schema=False
)
async def infer(request: Request, name: str, model_version: str = "", header_length: HeaderLength = None) -> Response:
    services = services_of(request)
    limits = services.settings.limits
    require_type(request, _TYPES)
    with services.store.get(name, model_version).in_use() as model, services.admission.ticket() as ticket:
        body = await read_body(
            request, limits, ticket, limits.json_bytes if header_length is None else limits.body_bytes
        )
        ticket.enter()
        asked = await model.off_loop(parse_infer_request, body, header_length, limits.json_bytes)
        result = await while_connected(request, model.infer(asked.images_u8, ticket))
    content, length = build_response(model.name, model.version, asked, result.outputs)
    if length is None:
        return Response(content, media_type="application/json")
    return Response(content, media_type="application/octet-stream", headers={LENGTH_HEADER: str(length)})


@router.post("/repository/index", response_model=list[schemas.RepositoryModel], summary="Models and their state")
async def repository_index(request: Request) -> JSONResponse:
    services = services_of(request)
    return JSONResponse(
        [{"name": m.name, "version": m.version, "state": "READY", "reason": ""} for m in services.store]
    )


@router.post("/repository/models/{name}/load", summary="Open a model's file again")
async def repository_load(request: Request, name: str) -> JSONResponse:
    """The file that the server was started with, wherever it stands now. The old model answers until the new one has
    passed its self-test; 422 where it does not. No file or setting is taken from the client.
    """
    services = services_of(request)
    with services.admission.ticket() as ticket:
        body = await read_body(request, services.settings.limits, ticket, services.settings.limits.json_bytes)
        if body and parse_json(body).get("parameters"):
            raise Problem(400, "parameters: a model's file and settings are the server's to choose")
        await services.store.reload(name)
    return JSONResponse({})
