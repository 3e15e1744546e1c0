"""Metrics: what a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from aweigh.serve.models.admission import Admission

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32)


class Metrics:
    """One registry per server, so that several can live in one process.

    No label comes from what a client sent: models are those being served, kinds and routes are fixed lists.
    """

    def __init__(self, admission: Admission) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "aweigh_requests", "Requests answered.", ("transport", "route", "status"), registry=self._registry
        )
        self._errors = Counter("aweigh_errors", "Requests refused or failed.", ("kind",), registry=self._registry)
        self._stages = Histogram(
            "aweigh_stage_seconds",
            "Time of a request by stage; that of the network is of the whole batch.",
            ("model", "stage"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batch_rows = Histogram(
            "aweigh_batch_pictures", "Images per batch.", ("model",), buckets=_ROWS, registry=self._registry
        )
        self._dropped = Counter(
            "aweigh_abandoned",
            "Requests not computed because their client had hung up.",
            ("model",),
            registry=self._registry,
        )
        self._decoders_replaced = Counter(
            "aweigh_decoders_replaced", "Decoding processes that died or were killed.", registry=self._registry
        )
        self._models = Gauge(
            "aweigh_model", "Models being served.", ("model", "version", "precision"), registry=self._registry
        )
        waiting = Gauge("aweigh_queue_requests", "Requests that wait for a batch.", registry=self._registry)
        waiting.set_function(lambda: admission.waiting)
        held = Gauge("aweigh_queue_bytes", "Bodies and prepared images in memory.", registry=self._registry)
        held.set_function(lambda: admission.held_bytes)

    def request(self, transport: str, route: str, status: str) -> None:
        """One answer."""
        self._requests.labels(transport, route, status).inc()

    def error(self, kind: str) -> None:
        """One request that was refused or failed; ``kind`` as in ``Problem``."""
        self._errors.labels(kind).inc()

    def stages(self, model: str, stages_ms: Mapping[str, float]) -> None:
        """One request's milliseconds by stage."""
        for stage, milliseconds in stages_ms.items():
            self._stages.labels(model, stage).observe(milliseconds / 1e3)

    def batch(self, model: str, rows: int) -> None:
        """One batch of so many images."""
        self._batch_rows.labels(model).observe(rows)

    def dropped(self, model: str) -> None:
        """One request whose client had hung up before its batch began."""
        self._dropped.labels(model).inc()

    def decoder_replaced(self) -> None:
        """One decoding process that died or was killed."""
        self._decoders_replaced.inc()

    def model(self, model: str, version: str, precision: str) -> None:
        """A model is being served from now on."""
        self._models.labels(model, version, precision).set(1)

    def model_gone(self, model: str, version: str, precision: str) -> None:
        """A model has been replaced."""
        self._models.remove(model, version, precision)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, of ``CONTENT_TYPE``."""
        return generate_latest(self._registry)
