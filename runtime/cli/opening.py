"""How every verb opens a model file: where it comes from, and its flags.

The flags: --device, --threads, --backend, --precision, --ort-options, --no-self-test.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aweigh.runtime.precision import PRECISIONS

if TYPE_CHECKING:
    from aweigh.runtime.opening import OpenOptions

MODEL_HELP = "exported file: a path, https://...#sha256=DIGITS or hf:owner/name[/FILE]"
# The keys of backends.open, which imports numpy; every ``aweigh`` command loads this module.
_BACKENDS = ("auto", "onnxruntime", "onnxruntime-tensorrt", "onnxruntime-rtx", "openvino", "tensorrt")


def add_opening(parser: argparse.ArgumentParser, self_test: bool = True) -> None:
    """Add the flags that ``read_opening`` reads; without ``self_test`` the self-test cannot be turned off."""
    parser.add_argument(
        "--device", default="cpu", help="device to run on: cpu (default), cuda or cuda:N; with OpenVINO gpu or gpu:N"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of the network (default: all cores this process may use)"
    )
    parser.add_argument(
        "--backend",
        choices=_BACKENDS,
        default="auto",
        help="library that runs the file (default auto: TensorRT for an engine, ONNX Runtime for an ONNX file)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="precision to insist on; an error where the file or the device cannot give it (default: the file's)",
    )
    parser.add_argument(
        "--ort-options",
        default="",
        metavar="WORDS",
        help="of ONNX Runtime, joined by +: binding (buffers on the device are kept), and on CUDA graph, nhwc, and one "
        "of exhaustive, heuristic, default (default: none)",
    )
    if not self_test:
        return
    parser.add_argument(
        "--no-self-test",
        dest="self_test",
        action="store_false",
        help="skip the self-test, which runs the images stored in the file and compares their detections with those "
        "of the trained model",
    )


def model_file(source: str, flag: str = "--model") -> str:
    """The path of a model that may be an address or a repository, which is fetched with a bar.

    Raises:
        BadInput, CannotRun: as :func:`~aweigh.runtime.files.fetch.fetch`.
    """
    if not (source.startswith("hf:") or "://" in source):  # is_remote, without its imports
        return source
    from aweigh.runtime.cli.output import download_progress
    from aweigh.runtime.files.fetch import MODEL_FILES, fetch

    return str(fetch(source, flag, MODEL_FILES, download_progress))


def read_opening(arguments: argparse.Namespace) -> OpenOptions:
    """The flags' values."""
    from aweigh.runtime.opening import OpenOptions

    return OpenOptions(
        device=arguments.device,
        threads=arguments.threads,
        backend=arguments.backend,
        precision=arguments.precision,
        self_test=arguments.self_test,
        ort_options=arguments.ort_options,
    )
