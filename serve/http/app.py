"""The application: every HTTP route of one server, as an ASGI app that any engine can run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from aweigh.serve.http import v1, v2
from aweigh.serve.http.gate import Gate, problem_response
from aweigh.serve.models import metrics
from aweigh.serve.problem import Problem
from aweigh.serve.services import Services, services_of
from aweigh.serve.settings import Settings

_PAGES = files("aweigh.serve").joinpath("demo")


def build_app(settings: Settings) -> FastAPI:
    """Open the models and put the routes before them.

    The same factory serves one process and each replica of an engine; ``app.state.services`` is what the gRPC door
    shares with it. The lifespan's end answers what is queued and closes the models.

    Raises BadInput, CannotRun or CheckFailed where a model cannot be served.
    """
    services = Services(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await services.close()

    app = FastAPI(
        title="aweigh",
        version=version("aweigh"),
        summary="Detectors over HTTP",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.services = services
    app.add_middleware(Gate, settings=settings, admission=services.admission, metrics=services.metrics)
    # Not by include_router, which has every request matched once more: the paths and what is documented are the same.
    for router in (v1.router, v2.router):
        app.router.routes.extend(router.routes)
    app.add_api_route("/metrics", _metrics, summary="Counts in Prometheus' form", response_class=Response)
    app.add_api_route("/", _demo, include_in_schema=False)
    app.add_api_route("/docs", _docs, include_in_schema=False)
    app.mount("/static/demo", StaticFiles(directory=str(_PAGES)))
    # Swagger UI from an installed package: the page asks no other host for anything.
    app.mount("/static/swagger", StaticFiles(packages=[("fastapi_offline", "static")]))
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_defect)
    return app


async def _metrics(request: Request) -> Response:
    return Response(services_of(request).metrics.text(), media_type=metrics.CONTENT_TYPE)


async def _demo() -> HTMLResponse:
    return HTMLResponse(_PAGES.joinpath("index.html").read_text(encoding="utf-8"))


async def _docs() -> HTMLResponse:
    return HTMLResponse(_PAGES.joinpath("docs.html").read_text(encoding="utf-8"))


def _answer(request: Request, problem: Problem) -> Response:
    services_of(request).metrics.error(problem.kind)
    return problem_response(problem)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _answer(request, error)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors()[:5]]
    return _answer(request, Problem(422, "; ".join(faults)))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _answer(request, Problem(error.status_code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _on_defect(request: Request, error: Exception) -> Response:
    """The traceback goes to the log, by the layers around this handler; the client learns nothing of it."""
    return _answer(request, Problem(500, "a defect of the server; its log tells more"))
