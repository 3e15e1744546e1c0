"""Replicas of the same application under Ray Serve, on one machine or a cluster.

Ray distributes the requests and restarts replicas that die; each replica has its own limits and batches. gRPC is not
served this way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from starlette.applications import Starlette

from aweigh.runtime.errors import BadInput, CannotRun, install_advice
from aweigh.runtime.machine.facts import available_cores
from aweigh.serve.http.app import build_app
from aweigh.serve.models.opening import open_model
from aweigh.serve.settings import Settings

APPLICATION = "aweigh"
# Ray's own proxy is Python and adds 5 to 13 ms to a request; HAProxy comes with ray[serve]. Read when Ray is imported.
_HAPROXY = ("RAY_SERVE_ENABLE_HA_PROXY", "1")


@dataclass(frozen=True)
class Replicas:
    """The number of replicas: Ray chooses between the two by the load; equal numbers fix it."""

    least: int = 1
    most: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise BadInput(f"--replicas {self.least}-{self.most}: expected N or LEAST-MOST, from 1")


def deploy(
    settings: Settings, port: int, replicas: Replicas, build: Callable[[Settings], Starlette] = build_app
) -> str:
    """Start replicas behind one address and return its URL once the least number of them answers.

    Joins the cluster that ``RAY_ADDRESS`` names, or starts Ray on this machine only. Each node reads the model files by
    the same paths. A second call replaces the replicas.

    Args:
        build: builds the application, in each replica.

    Raises:
        BadInput, CannotRun, CheckFailed: a model cannot be served, tried here before anything is deployed.
        CannotRun: Ray is not installed, or a replica did not start.
    """
    for source in settings.models:
        open_model(source, settings).detector.close()
    os.environ.setdefault(*_HAPROXY)
    try:
        import ray
        from ray import serve
        from ray.serve.config import AutoscalingConfig, HTTPOptions
    except ModuleNotFoundError as error:
        raise CannotRun(f"--engine ray needs the module {error.name!r}: {install_advice('ray')}") from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    limits = settings.limits
    # A request to reload would reach one replica of several, which would differ from then on.
    replica_settings = dataclasses.replace(settings, reloadable=False)

    def factory() -> Starlette:  # a function: Ray would take a partial for the application itself
        return build(replica_settings)

    queue = limits.queue_items + 2 * limits.batch

    @serve.deployment(
        name=APPLICATION,
        autoscaling_config=AutoscalingConfig(
            min_replicas=replicas.least,
            max_replicas=replicas.most,
            initial_replicas=replicas.least,
            # A replica is busy when its batches are full and the next one is waiting.
            target_ongoing_requests=2 * limits.batch,
        ),
        # The application itself refuses requests when its queue is full.
        max_ongoing_requests=2 * queue,
        graceful_shutdown_timeout_s=limits.drain_s,
        ray_actor_options={"num_cpus": settings.threads or available_cores()},
    )
    @serve.ingress(factory)
    class Replica:
        """The application; Ray calls its factory in each replica."""

    try:
        serve.start(http_options=HTTPOptions(host=settings.host, port=port))
        serve.run(cast(Any, Replica).bind(), name=APPLICATION, route_prefix="/")
    except (RuntimeError, ray.exceptions.RayError) as error:
        stop()
        raise CannotRun(f"Ray Serve: the replicas did not start ({error}); see Ray's logs") from error
    return f"http://{settings.host}:{port}"


def serve_on_ray(
    settings: Settings, port: int, replicas: Replicas, on_listening: Callable[[str], None] = lambda url: None
) -> None:
    """Deploy, wait for SIGTERM or SIGINT, then stop the replicas, each once it has answered its requests.

    Raises as ``deploy``.
    """
    own = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints errors of its processes, from a thread, whatever is asked
        url = deploy(settings, port, replicas)
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):  # after Ray has installed its own
            signal.signal(number, lambda *_: stopping.set())
        with contextlib.redirect_stdout(own):
            on_listening(url)
        stopping.wait()
        stop()


def stop() -> None:
    """Stop the application and leave Ray."""
    import ray
    from ray import serve

    serve.shutdown()
    ray.shutdown()
