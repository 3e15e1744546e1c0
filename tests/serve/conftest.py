"""Servers that tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from red import red_picture
from server_process import Server, servers, write_model


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    with servers(tmp_path_factory.mktemp("servers")) as begin:
        yield begin


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, red_model: Path) -> Iterator[Server]:
    """One for all tests that need no flags of their own."""
    with servers(tmp_path_factory.mktemp("server")) as begin:
        yield begin("--model", str(red_model))


@pytest.fixture(scope="session")
def red_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "red.onnx")


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some hundredths of a second per batch, whatever its size."""
    return write_model(tmp_path_factory.mktemp("models") / "slow.onnx", slow=12)


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def picture() -> npt.NDArray[np.uint8]:
    """192x128, one red box: detections in its left half and in the whole."""
    return red_picture()
