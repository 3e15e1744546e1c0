"""Services: what the HTTP and the gRPC side of one server share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from aweigh.serve.access import Access
from aweigh.serve.decoding.pool import Decoders
from aweigh.serve.decoding.process import Bounds
from aweigh.serve.models.admission import Admission
from aweigh.serve.models.metrics import Metrics
from aweigh.serve.models.opening import Opener, open_model
from aweigh.serve.models.store import ModelStore
from aweigh.serve.settings import Settings

_EXTENSIONS = ("binary_tensor_data", "model_repository")


@dataclass(frozen=True)
class ServerMetadata:
    """The server, as the Open Inference Protocol describes it.

    Attributes:
        version: of aweigh.
        extensions: of the protocol, that are served.
    """

    name: str
    version: str
    extensions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"extensions": list(self.extensions)}


class Services:
    """Settings, limits, metrics and models of one server.

    Attributes:
        access: who is answered.
        admission: the one queue of all models and both transports.
        metrics: what is counted.
        store: the models.
    """

    def __init__(self, settings: Settings, opener: Opener = open_model) -> None:
        """Open all models.

        Args:
            opener: opens a model file; another one than ``open_model`` may stand in for the network.

        Raises:
            BadInput, CannotRun, CheckFailed: a model cannot be served.
        """
        self.settings = settings
        self.access = Access(settings)
        self.admission = Admission(settings.limits.queue_items, settings.limits.queue_bytes)
        self.metrics = Metrics(self.admission)
        limits = settings.limits
        bounds = Bounds(limits.pixels, limits.body_bytes, min(limits.decode_s, limits.deadline_s))
        self._decoders = Decoders(limits.decoders, bounds, self.metrics.decoder_replaced)
        self.store = ModelStore(settings, self.metrics, opener, self._decoders)

    async def start(self) -> None:
        """Start the decoding processes. Twice does nothing. Raises CannotRun where it does not start."""
        await self._decoders.start()

    def require_room(self) -> None:
        """Raises Problem 503 where the queue is full or the server is stopping.

        Each call keeps the decoders at work too: most requests of a server in overload come here and no further.
        """
        self._decoders.attend()
        self.admission.require_room()

    @property
    def obstacle(self) -> str:
        """Why new requests are not welcome; empty where they are: all models passed their self-test at the start."""
        if self.admission.leaving:
            return "the server is stopping"
        patience_s = self.settings.limits.deadline_s
        if self._decoders.stuck_s > patience_s:
            return f"no decoder has come free for {self._decoders.stuck_s:.0f} s"
        for model in self.store:
            if model.batcher.running_s > patience_s:
                return f"model {model.name!r} has been computing a batch for {model.batcher.running_s:.0f} s"
        return ""

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return not self.obstacle

    def metadata(self) -> ServerMetadata:
        """Name, version and protocol extensions."""
        return ServerMetadata("aweigh", version("aweigh"), _EXTENSIONS)

    async def close(self) -> None:
        """Answer the requests that were accepted, then close the models."""
        self.admission.leaving = self.admission.draining = True
        await self.store.close()
        await self._decoders.close()
