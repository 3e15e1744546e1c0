"""A detector as a function of CVAT: what its serverless platform, nuclio, calls for every image to be annotated.

CVAT posts JSON with ``image`` (base64 of an image file) and ``threshold`` (left out where the user set none), and wants
a list with ``label``, ``points`` (left, top, right, bottom in pixels), ``type`` and ``confidence``: its lambda manager,
``cvat/apps/lambda_manager/views.py``, at commit 024777ef335b. nuclio calls ``init_context`` once for each worker,
``handler`` for each request, and gives the body of a JSON request as a dictionary.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
from typing import Any, Protocol

from aweigh.runtime.detector import Detector
from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.reading import ImageU8, read_image
from aweigh.runtime.results.detections import Detections

MODEL_VARIABLE = "AWEIGH_MODEL"
MODEL_PLACE = "/opt/nuclio/model.onnx"
_BAD_REQUEST, _OK = 400, 200


class Context(Protocol):
    """What nuclio gives to a function: ``user_data`` keeps what lasts, ``Response`` is the class of answers."""

    user_data: Any
    Response: Any
    logger: Any


class Event(Protocol):
    """A request."""

    body: Any


def init_context(context: Context) -> None:
    """Open the model, once for each worker: that of ``$AWEIGH_MODEL``, else ``/opt/nuclio/model.onnx``.

    Raises:
        BadInput, CannotRun, CheckFailed: as :class:`~aweigh.runtime.detector.Detector`; nuclio reports them as the
            reason why the function does not start.
    """
    context.user_data.detector = Detector(os.environ.get(MODEL_VARIABLE, MODEL_PLACE))
    context.logger.info("the model is open, and has passed its self-test")


def handler(context: Context, event: Event) -> Any:
    """Detect in one image. A request that cannot be used is answered with 400 and the reason."""
    try:
        image, threshold = _request(event.body)
        found = context.user_data.detector(image, conf=threshold)
    except BadInput as error:
        return context.Response(
            body=str(error), headers={}, content_type="text/plain; charset=utf-8", status_code=_BAD_REQUEST
        )
    shapes = _shapes(found.drawn() if threshold is None else found)
    return context.Response(body=json.dumps(shapes), headers={}, content_type="application/json", status_code=_OK)


def _request(body: Any) -> tuple[ImageU8, float | None]:
    if not isinstance(body, dict) or not isinstance(body.get("image"), str):
        raise BadInput("request: expected a JSON object with the base64 of an image file as image")
    threshold = body.get("threshold")
    if threshold is not None:
        try:
            threshold = float(threshold)
        except (TypeError, ValueError, OverflowError):
            threshold = math.nan
        if not 0 <= threshold <= 1:
            raise BadInput("request: threshold: expected a number from 0 to 1")
    try:
        content = base64.b64decode(body["image"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"request: image: expected base64 ({error})") from error
    return read_image(content, name="image"), threshold


def _shapes(found: Detections) -> list[dict[str, Any]]:
    rows = zip(found.xyxy.tolist(), found.conf.tolist(), found.cls.tolist(), strict=True)
    return [
        {"label": found.names[class_id], "points": box, "type": "rectangle", "confidence": f"{score:.6g}"}
        for box, score, class_id in rows
    ]
