"""Answers as they stand in the OpenAPI document; they are written as plain dictionaries, which tests hold to these."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from aweigh.serve.problem import PROBLEM_JSON


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProblemDetails(BaseModel):
    """RFC 9457; `error` repeats `detail` for clients of the Open Inference Protocol."""

    type: str
    title: str
    status: int
    detail: str
    error: str


class DetectQuery(BaseModel):
    """What may stand in the query of a picture."""

    score: float | None = Field(
        None, ge=0, le=1, description="only scores above it; not below the file's score_threshold"
    )
    max_detections: int | None = Field(None, ge=1, le=100_000, description="only the best so many")
    classes: list[str] | None = Field(
        None, alias="class", max_length=1000, description="only these, by name or id; repeatable"
    )


class ImageSize(_Strict):
    width: int = Field(ge=1, description="pixels")
    height: int = Field(ge=1, description="pixels")


class Detection(_Strict):
    box: Annotated[list[float], Field(min_length=4, max_length=4)] = Field(
        description="x1, y1, x2, y2 in pixels of the picture as it was sent, turned as its EXIF says"
    )
    score: float = Field(ge=0, le=1)
    class_id: int = Field(description="the data set's own id")
    label: str


class Timing(_Strict):
    decode: float
    preprocess: float
    queue: float = Field(description="from the prepared picture to the start of its batch")
    network: float = Field(description="of the whole batch, post-processing in the graph included")
    postprocess: float


class PictureResult(_Strict):
    image: ImageSize
    detections: list[Detection] = Field(description="best first")
    timing_ms: Timing


class DetectResult(PictureResult):
    model: str
    version: str


class BatchResult(_Strict):
    model: str
    version: str
    results: list[PictureResult] = Field(description="in the order of the files")


class Category(_Strict):
    id: int
    name: str


class InputSize(_Strict):
    height: int
    width: int
    resize: str


class ModelDescription(_Strict):
    name: str
    version: str = Field(description="first digits of the file's sha256")
    precision: str
    device: str
    input: InputSize
    batch: Annotated[list[int], Field(min_length=2, max_length=2)]
    score_threshold: float = Field(description="what lies below it was never computed")
    max_detections: int
    classes: list[Category]


class ModelList(_Strict):
    models: list[ModelDescription]


class TensorMetadata(_Strict):
    name: str
    datatype: str
    shape: list[int] = Field(description="-1 for any")


class ModelMetadata(_Strict):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(_Strict):
    name: str
    version: str
    extensions: list[str]


class RepositoryModel(_Strict):
    name: str
    version: str
    state: str
    reason: str


class OutputTensor(TensorMetadata):
    data: list[Any] | None = None
    parameters: dict[str, int] | None = None


class InferResponse(_Strict):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


_PROBLEM = {"description": "Why not", "content": {PROBLEM_JSON: {"schema": ProblemDetails.model_json_schema()}}}
# FastAPI adds a 422 of its own form wherever there are parameters, unless it is named.
PROBLEMS: dict[int | str, dict[str, Any]] = {422: _PROBLEM, "default": _PROBLEM}

_BINARY = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "items": _BINARY, "minItems": 1}


def body(content: dict[str, Any]) -> dict[str, Any]:
    """``openapi_extra`` of an operation that reads its body itself."""
    return {
        "requestBody": {"required": True, "content": {kind: {"schema": schema} for kind, schema in content.items()}}
    }


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"file": schema}, "required": ["file"], "additionalProperties": False}


def query_parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    """A model's fields as they stand among the parameters of an operation."""
    fields = query.model_json_schema()["properties"]
    found = []
    for name, schema in fields.items():
        description = schema.pop("description", "")
        found.append({"name": name, "in": "query", "required": False, "description": description, "schema": schema})
    return found


_DETECT_PARAMETERS = {
    "parameters": [
        {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "title": "Name"}},
        *query_parameters(DetectQuery),
    ]
}
PICTURE_BODY = _DETECT_PARAMETERS | body(
    {
        **dict.fromkeys(("image/jpeg", "image/png", "image/webp", "application/octet-stream"), _BINARY),
        "multipart/form-data": form(_BINARY),
    }
)
PICTURES_BODY = _DETECT_PARAMETERS | body({"multipart/form-data": form(_FILES)})
_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
INFER_BODY = body(
    {
        "application/json": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "parameters": _PARAMETERS,
                "inputs": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["name", "shape", "datatype", "data"],
                        "properties": {
                            "name": {"const": "images"},
                            "datatype": {"const": "UINT8"},
                            "shape": {
                                "type": "array",
                                "minItems": 4,
                                "maxItems": 4,
                                "items": {"type": "integer", "minimum": 1},
                            },
                            "parameters": _PARAMETERS,
                            "data": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
                        },
                    },
                },
                "outputs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
                    },
                },
            },
        },
        "application/octet-stream": {
            **_BINARY,
            "description": "The JSON above, of the length in Inference-Header-Content-Length, with binary_data_size in "
            "the input's parameters in place of data; then the raw bytes.",
        },
    }
)
