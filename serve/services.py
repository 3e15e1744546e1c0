"""Services: what the HTTP and the gRPC side of one server share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from aweigh.serve.access import Access
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
        self.store = ModelStore(settings, self.metrics, opener)

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome; all models passed their self-test before this object existed."""
        return not self.admission.leaving

    def metadata(self) -> ServerMetadata:
        """Name, version and protocol extensions."""
        return ServerMetadata("aweigh", version("aweigh"), _EXTENSIONS)

    async def close(self) -> None:
        """Answer the requests that were accepted, then close the models."""
        self.admission.leaving = self.admission.draining = True
        await self.store.close()
