"""The flags with which every verb opens a model file: --device, --threads, --backend, --precision, --no-self-test."""

from __future__ import annotations

import argparse
from typing import Any

from aweigh.runtime.precision import PRECISIONS

# As backends.open has them, which imports numpy; every ``aweigh`` command loads this module.
_BACKENDS = ("auto", "onnxruntime", "onnxruntime-tensorrt", "openvino", "tensorrt")


def add_opening(parser: argparse.ArgumentParser, self_test: bool = True) -> None:
    """Add the flags, which ``opening`` reads; without ``self_test`` there is no way around it."""
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N; with OpenVINO gpu or gpu:N")
    parser.add_argument("--threads", type=int, metavar="N", help="of the network (default: the cores at hand)")
    parser.add_argument(
        "--backend", choices=_BACKENDS, default="auto", help="default auto: by the file, engine or ONNX, alone"
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="insist on it (default: what the file says)")
    if not self_test:
        return
    parser.add_argument(
        "--no-self-test",
        dest="self_test",
        action="store_false",
        help="do not compare the file's golden pictures with the trained model's detections first",
    )


def opening(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of ``Detector``, all but the path."""
    return {name: getattr(arguments, name) for name in ("device", "threads", "backend", "precision", "self_test")}
