"""Services: what the doors of one server share."""

from __future__ import annotations

from typing import cast

from starlette.requests import Request

from aweigh.serve.models.admission import Admission
from aweigh.serve.models.metrics import Metrics
from aweigh.serve.models.store import ModelStore
from aweigh.serve.settings import Settings


class Services:
    """Settings, counts and models of one server.

    Attributes:
        admission: the one queue of all models and transports.
    """

    def __init__(self, settings: Settings) -> None:
        """Opens all models. Raises BadInput, CannotRun or CheckFailed where one cannot be served."""
        self.settings = settings
        self.admission = Admission(settings.limits.queue_items, settings.limits.queue_bytes)
        self.metrics = Metrics(self.admission)
        self.store = ModelStore(settings, self.metrics)

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome; all models were tested before this object existed."""
        return not self.admission.leaving

    async def close(self) -> None:
        """Answer what was accepted, then close the models."""
        self.admission.leaving = self.admission.draining = True
        await self.store.close()


def services_of(request: Request) -> Services:
    """Those of the application that a request came to."""
    return cast(Services, request.app.state.services)
