"""/v1: pictures in, boxes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import JSONResponse, Response

from aweigh.serve.http import schemas
from aweigh.serve.http.body import read_body, require_type, split_multipart
from aweigh.serve.http.connection import while_connected
from aweigh.serve.models.model import Filter, Found, ServedModel
from aweigh.serve.problem import Problem
from aweigh.serve.services import services_of

router = APIRouter(prefix="/v1", tags=["detection"], responses=schemas.PROBLEMS)

_FORM = "multipart/form-data"
# The bytes decide what a picture is; some clients know no type.
_PICTURE_TYPES = ("image/*", "application/octet-stream", "")


@router.get("/models", response_model=schemas.ModelList, summary="Models, their classes and thresholds")
async def models(request: Request) -> JSONResponse:
    return JSONResponse({"models": [model.describe() for model in services_of(request).store]})


@router.get("/models/{name}", response_model=schemas.ModelDescription, summary="One model")
async def model_description(request: Request, name: str) -> JSONResponse:
    return JSONResponse(services_of(request).store.get(name).describe())


@router.post(
    "/models/{name}/detect",
    response_model=schemas.DetectResult,
    openapi_extra=schemas.PICTURE_BODY,
    summary="Detect in one picture",
)
async def detect(request: Request) -> Response:
    """The body is a picture file (JPEG, PNG, WebP, BMP, GIF, TIFF), or a form with one part `file`."""
    with services_of(request).store.get(request.path_params["name"]).in_use() as model:
        wanted = _filter(model, request)
        found = await _detect(request, model, wanted, (*_PICTURE_TYPES, _FORM), 1)
    return _answer({"model": model.name, "version": model.version, **_result(found[0])})


@router.post(
    "/models/{name}/detect-batch",
    response_model=schemas.BatchResult,
    openapi_extra=schemas.PICTURES_BODY,
    summary="Detect in several pictures",
)
async def detect_batch(request: Request) -> Response:
    """The body is a form whose parts are all called `file`. One that cannot be read fails the request."""
    services = services_of(request)
    with services.store.get(request.path_params["name"]).in_use() as model:
        wanted = _filter(model, request)
        found = await _detect(request, model, wanted, (_FORM,), services.settings.limits.pictures)
    return _answer({"model": model.name, "version": model.version, "results": [_result(f) for f in found]})


async def _detect(
    request: Request, model: ServedModel, wanted: Filter, types: Sequence[str], most_pictures: int
) -> list[Found]:
    services = services_of(request)
    kind = require_type(request, types)
    with services.admission.ticket() as ticket:
        body = await read_body(request, services.settings.limits, ticket)
        ticket.enter()
        if kind == _FORM:
            header = request.headers["content-type"]
            pictures = await model.off_loop(split_multipart, body, header, most_pictures)
        else:
            pictures = [body]
        del body
        return await while_connected(request, model.detect(pictures, wanted, ticket))


def _filter(model: ServedModel, request: Request) -> Filter:
    """What the query asks for. Not among the handler's arguments: FastAPI looks for each one in every request."""
    if not request.scope["query_string"]:
        return Filter()
    query = request.query_params
    given = {name: query[name] for name in ("score", "max_detections") if name in query}
    try:
        wanted = schemas.DetectQuery.model_validate({**given, "class": query.getlist("class") or None})
    except ValidationError as error:
        raise RequestValidationError(
            [{**fault, "loc": ("query", *fault["loc"])} for fault in error.errors()]
        ) from error
    floor = model.spec.post.score_threshold
    if wanted.score is not None and wanted.score < floor:
        raise Problem(422, f"score {wanted.score:g}: what lies below {floor:g} is not computed by this file")
    class_ids = None if wanted.classes is None else _class_ids(model, wanted.classes)
    return Filter(wanted.score, class_ids, wanted.max_detections)


def _class_ids(model: ServedModel, classes: Sequence[str]) -> frozenset[int]:
    """Classes of one name have an id each; a name goes before an id of the same letters."""
    found: set[int] = set()
    for text in classes:
        ids = {c.id for c in model.spec.categories if c.name == text}
        ids = ids or {c.id for c in model.spec.categories if str(c.id) == text}
        if not ids:
            raise Problem(422, f"class {text[:80]!r}: {model.name} knows {', '.join(model.spec.names.values())[:400]}")
        found |= ids
    return frozenset(found)


def _result(found: Found) -> dict[str, Any]:
    if not np.isfinite(found.detections.xyxy).all():
        raise ValueError("the network gave a box that is not finite, which JSON cannot hold")
    entry = found.detections.to_dict()
    timing_ms = {stage: round(milliseconds, 3) for stage, milliseconds in found.timing_ms.items()}
    return {"image": entry["image"], "detections": entry["detections"], "timing_ms": timing_ms}


def _answer(content: dict[str, Any]) -> Response:
    """By pydantic's writer, which is faster than json."""
    return Response(to_json(content), media_type="application/json")
