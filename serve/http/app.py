"""The application: every HTTP route of one server, as an ASGI app that any engine can run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aweigh.runtime.errors import AweighError
from aweigh.serve.http import v1, v2
from aweigh.serve.http.gate import AnswerHeaders, Counting, Guard, problem_response
from aweigh.serve.http.pages import page_routes
from aweigh.serve.http.request import services_of
from aweigh.serve.models import metrics
from aweigh.serve.models.opening import Opener, open_model
from aweigh.serve.problem import Problem, from_error
from aweigh.serve.services import Services
from aweigh.serve.settings import Settings


def build_app(settings: Settings, opener: Opener = open_model) -> Starlette:
    """Open the models and build the HTTP application in front of them.

    One process and each replica of an engine run the same application. Its lifespan's end answers what is queued and
    closes the models. ``app.state.services`` holds the models; the gRPC side shares them.

    Args:
        settings: models, limits, token.
        opener: opens a model file; see ``Services``.

    Returns:
        An ASGI application.

    Raises:
        BadInput: a model file that is missing or was not written by aweigh export.
        CannotRun: the machine lacks the device, a library or the precision.
        CheckFailed: a model does not compute what its golden images demand.

    Example:
        >>> from starlette.testclient import TestClient
        >>> from aweigh.serve import Settings, build_app
        >>> app = build_app(Settings.of(model_path))
        >>> with TestClient(app, base_url="http://localhost") as client:
        ...     client.get("/v2/health/ready").status_code
        200
    """
    services = Services(settings, opener)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await services.start()
        yield
        await services.close()

    app = Starlette(
        routes=[*v1.ROUTES, *v2.ROUTES, Route("/metrics", _metrics), *page_routes()],
        middleware=[
            Middleware(Counting, metrics=services.metrics),
            Middleware(AnswerHeaders, admission=services.admission),
            Middleware(Guard, access=services.access, metrics=services.metrics),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.state.services = services
    return app


async def _metrics(request: Request) -> Response:
    return Response(services_of(request).metrics.text(), media_type=metrics.CONTENT_TYPE)


def _answer(request: Request, problem: Problem) -> Response:
    services_of(request).metrics.error(problem.kind)
    return problem_response(problem)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _answer(request, error)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AweighError)
    return _answer(request, from_error(error))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _answer(request, Problem(error.status_code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _on_defect(request: Request, error: Exception) -> Response:
    """The layers around this handler write the traceback to the log; the client learns nothing of it."""
    return _answer(request, Problem(500, "a defect of the server; see its log"))


EXCEPTION_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    Problem: _on_problem,
    AweighError: _on_error,
    HTTPException: _on_http,
    Exception: _on_defect,
}
