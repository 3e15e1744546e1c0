"""A folder for web servers, made from a small untrained detector; images of several sizes; what the runtime finds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_once import made_once, shared_folder
from npm import packed

from aweigh.export.jobs.ort_web import NEEDED, VERSION
from aweigh.export.jobs.web import write_web
from aweigh.runtime import Detector
from aweigh.runtime.results.detections import Detections

# Odd ones, twice the network input of 160x128, the input itself, and smaller ones that are enlarged.
SIZES_WH = (
    *((320, 256), (160, 128), (37, 41), (401, 97), (90, 260)),
    *((640, 480), (319, 255), (161, 128), (40, 32), (9, 7)),
)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def ort_web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is needed of the package onnxruntime-web."""
    return packed(f"onnxruntime-web@{VERSION}", shared_folder(tmp_path_factory, "npm"), *NEEDED) / "dist"


@pytest.fixture(scope="session")
def model(make_export: Callable[..., Path]) -> Path:
    return make_export("dw")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, model: Path, ort_web: Path) -> Path:
    """The folder, with the images in ``images``."""
    folder = shared_folder(tmp_path_factory, "web") / "site"
    return made_once(folder, lambda path: write_web(model, path, ort_web))


@pytest.fixture(scope="session")
def images(site: Path) -> list[Path]:
    """20 PNG files: blurred noise, on which the network finds much."""
    folder = site / "images"
    folder.mkdir(exist_ok=True)
    paths = []
    for number in range(2 * len(SIZES_WH)):
        rng = np.random.default_rng(number)
        width, height = SIZES_WH[number % len(SIZES_WH)]
        noise = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (0, 0), 1 + number % 3)
        noise = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)
        paths.append(made_once(folder / f"{number}.png", lambda path, noise=noise: cv2.imwrite(str(path), noise)))
    return paths


@pytest.fixture(scope="session")
def expected(model: Path, images: list[Path]) -> list[Detections]:
    with Detector(model, threads=1) as detector:
        return detector(images)


@pytest.fixture(scope="module")
def served() -> Iterator[Callable[[Path], str]]:
    """Serves a folder as ``python -m http.server`` does; returns its address."""
    servers = []

    def serve(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
