"""For all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from parsed_exports import exports_parsed


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive() -> Iterator[None]:
    """A shell starts its background jobs with SIGINT ignored, and tests of Ctrl-C would wait for it in vain."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def _exports_are_parsed() -> Iterator[None]:
    with exports_parsed():
        yield
