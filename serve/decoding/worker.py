"""A decoding process: ``python -m aweigh.serve.decoding.worker``, started by the server, with limits of its own.

It ends when the server closes its end of the socket, and so with the server, however that ends.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence

import cv2
import numpy as np

from aweigh.runtime.errors import BadInput, Undecodable
from aweigh.runtime.spec import InputSpec
from aweigh.serve.decoding.images import prepare_image
from aweigh.serve.decoding.messages import LARGEST_MESSAGE, Order, Prepared, refusal

_PAGE_BYTES = resource.getpagesize()


def main(arguments: Sequence[str]) -> int:
    """Decode until the socket is closed.

    Args:
        arguments: file descriptors of the socket and of the shared memory; largest image in pixels; bytes of memory
            that decoding may take; whole seconds of processor time per image.
    """
    control, memory, max_pixels, memory_bytes, seconds = map(int, arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the server still has images to answer, and ends it
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cv2.setNumThreads(1)  # as many images at one time as there are processes
    _warm_up()
    used_bytes = int(open("/proc/self/statm").read().split()[0]) * _PAGE_BYTES  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + memory_bytes,) * 2)
    with socket.socket(fileno=control) as server:
        server.send(b"ready")
        while order := server.recv(LARGEST_MESSAGE):
            _limit_seconds(seconds)
            server.send(_answer(Order.from_bytes(order), memory, max_pixels))
    return 0


def _answer(order: Order, memory: int, max_pixels: int) -> bytes:
    try:
        data = os.pread(memory, order.file_bytes, 0)
        prepared = prepare_image(data, order.spec, max_pixels)
    except BadInput as error:
        return refusal(error)
    except MemoryError:
        return refusal(Undecodable("image: decoding takes more memory than an image of the largest size should"))
    os.pwrite(memory, np.ascontiguousarray(prepared.image_u8).data, 0)
    return Prepared(prepared.where.original_hw, prepared.decode_ms, prepared.preprocess_ms).to_bytes()


def _limit_seconds(seconds: int) -> None:
    """The process ends by SIGXCPU when it has used so many more, rounded up."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def _warm_up() -> None:
    """The first call of each codec takes longer."""
    for suffix in (".jpg", ".png"):
        data = cv2.imencode(suffix, np.zeros((64, 64, 3), np.uint8))[1].tobytes()
        prepare_image(data, InputSpec((32, 32)), 64 * 64)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
