"""ModelStore: the models of one server by name, opened, replaced and closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from aweigh.runtime.errors import AweighError
from aweigh.runtime.machine.facts import available_cores
from aweigh.serve.decoding.pool import Decoders
from aweigh.serve.models.metrics import Metrics
from aweigh.serve.models.model import ServedModel
from aweigh.serve.models.opening import Opener
from aweigh.serve.problem import Problem
from aweigh.serve.settings import ModelSource, Settings

LOG = logging.getLogger("aweigh.serve")


class ModelStore:
    """All models of a server, each of which passed its self-test before it was added."""

    def __init__(self, settings: Settings, metrics: Metrics, opener: Opener, decoders: Decoders) -> None:
        """Open all models.

        Args:
            opener: opens the file of a model, and tests it.
            decoders: closed by their owner.

        Raises:
            BadInput, CannotRun, CheckFailed: the first model that cannot be served; those before it are closed.
        """
        self._settings = settings
        self._metrics = metrics
        self._opener = opener
        self._decoders = decoders
        self._threads = ThreadPoolExecutor(available_cores(), thread_name_prefix="parse")
        self._sources = {source.name: source for source in settings.models}
        self._models: dict[str, ServedModel] = {}
        self._reloading: set[str] = set()
        try:
            for source in settings.models:
                self._models[source.name] = self._open(source)
        except BaseException:
            for model in self._models.values():
                model.detector.close()
            self._threads.shutdown()
            raise
        for model in self:
            metrics.model(model.name, model.version, model.spec.precision)

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(list(self._models.values()))

    def get(self, name: str, version: str = "") -> ServedModel:
        """A model by its name and, unless it is empty, its version.

        Raises:
            Problem: 404 no such model, or it has another version by now.
        """
        model = self._models.get(name)
        if model is None:
            raise Problem(404, f"no model {name!r}; there are {', '.join(sorted(self._models))}")
        if version and version != model.version:
            raise Problem(404, f"model {name!r} has version {model.version} now, not {version!r}")
        return model

    async def reload(self, name: str) -> ServedModel:
        """Open the model's file again and put it in the old one's place.

        The old model answers until the new one has passed its self-test, and finishes the requests that it has begun.

        Raises:
            Problem: 404 no such model; 409 not reloadable; 503 it is being reloaded already; 422 the file on disk
                cannot be served, and the old model stays.
        """
        old = self.get(name)
        if not self._settings.reloadable:
            raise Problem(409, "this is one of several replicas; deploy them again instead")
        if name in self._reloading:
            raise Problem(503, f"model {name!r} is being reloaded already", retry_after_s=5)
        self._reloading.add(name)
        try:
            # Not in the threads that work for requests meanwhile.
            new = await asyncio.to_thread(self._open, self._sources[name])
        except (AweighError, OSError) as error:
            LOG.error("model %s: not reloaded, the old one stays: %s", name, error)
            raise Problem(422, f"model {name!r} was not reloaded, the old one stays: {error}") from error
        finally:
            self._reloading.discard(name)
        self._models[name] = new
        if new.version != old.version:
            self._metrics.model_gone(old.name, old.version, old.spec.precision)
        self._metrics.model(new.name, new.version, new.spec.precision)
        LOG.info("model %s: version %s replaces %s", name, new.version, old.version)
        await old.close()
        return new

    async def close(self) -> None:
        """Close all, each once no request uses it."""
        await asyncio.gather(*(model.close() for model in self))
        self._threads.shutdown()

    def _open(self, source: ModelSource) -> ServedModel:
        opened = self._opener(source, self._settings)
        limits = self._settings.limits
        return ServedModel(source.name, opened, limits, self._decoders, self._threads, self._metrics)
