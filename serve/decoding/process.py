"""Decoder: the server's side of one decoding process."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from aweigh.runtime.errors import CannotRun
from aweigh.runtime.images.preprocess import placement
from aweigh.runtime.spec import InputSpec
from aweigh.serve.decoding.images import PreparedImage
from aweigh.serve.decoding.messages import LARGEST_MESSAGE, Order, parse_answer

_START_S = 60.0  # on a machine that is very busy
_BYTES_PER_PIXEL = 20  # 16 bits with transparency, of all formats the one that takes most: measured 18.8
_SLACK_BYTES = 64 << 20
# Threads of BLAS and arenas of malloc take address space, which is limited, and serve nothing here.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Bounds:
    """What one image may take.

    Attributes:
        pixels: width times height; the header is held against it, and OpenCV has it for a limit of its own.
        file_bytes: of the file.
        seconds: from the file to the rows.
    """

    pixels: int
    file_bytes: int
    seconds: float

    @property
    def memory_bytes(self) -> int:
        """Address space of a decoding process beyond what it takes for itself."""
        return _BYTES_PER_PIXEL * self.pixels + 4 * self.file_bytes + _SLACK_BYTES


class DecoderDied(Exception):
    """The process ended while it worked on an image (no text), or cannot go on (why)."""


class Decoder:
    """One process, which decodes one image at a time."""

    def __init__(self, bounds: Bounds) -> None:
        """Start the process; ``ready`` waits for it. Raises CannotRun where the system lets no process start."""
        self._memory = os.memfd_create("aweigh-decoder")
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self._watching: asyncio.AbstractEventLoop | None = None
        numbers = (theirs.fileno(), self._memory, bounds.pixels, bounds.memory_bytes, math.ceil(bounds.seconds))
        # Secrets in the environment are of no use to a decoder.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWEIGH_")}
        limits = {"OPENCV_IO_MAX_IMAGE_PIXELS": str(bounds.pixels)}  # read when OpenCV is imported
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "aweigh.serve.decoding.worker", *map(str, numbers)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # libpng, libjpeg and libtiff print a line for each damaged image
                    env={**inherited, **_ENVIRONMENT, **limits},
                    pass_fds=(theirs.fileno(), self._memory),
                    process_group=0,  # Ctrl-C in a terminal is for the server, which still has images to answer
                )
        except OSError as error:
            self._control.close()
            os.close(self._memory)
            raise CannotRun(f"a decoding process did not start ({error}); is memory short, or limited?") from error

    async def ready(self) -> Self:
        """Once the process can decode. Raises CannotRun where it ends before that."""
        try:
            async with asyncio.timeout(_START_S):
                if await self._first_message():
                    return self
        except TimeoutError:
            pass
        self.kill()
        ended = await self.how_it_ended()
        raise CannotRun(f"a decoding process did not start ({ended}); is memory short, or limited by ulimit?")

    def watch(self, on_answer: Callable[[], None]) -> None:
        """Have a function called in the running event loop whenever ``take`` has something, until ``kill``."""
        self._watching = asyncio.get_running_loop()
        self._watching.add_reader(self._control, on_answer)

    def give(self, data: bytes, spec: InputSpec) -> bool:
        """Begin ``prepare_image`` in the process, which has no other image.

        Returns:
            False where the process has ended, and so knows nothing of the image.

        Raises:
            DecoderDied: there is no memory for the image.
        """
        try:
            os.pwrite(self._memory, data, 0)
        except OSError as error:
            raise DecoderDied(str(error)) from error
        try:
            self._control.send(Order(len(data), spec).to_bytes())
        except OSError:
            return False
        return True

    def take(self, spec: InputSpec) -> PreparedImage | None:
        """What became of the image that was given for this input; None while the process is at it.

        Raises:
            BadInput: what ``prepare_image`` raised there.
            DecoderDied: the process ended, or answers nonsense.
        """
        try:
            answer = self._control.recv(LARGEST_MESSAGE)
        except BlockingIOError:
            return None
        except OSError:
            answer = b""
        if not answer:
            raise DecoderDied
        try:
            prepared = parse_answer(answer)
        except (ValueError, TypeError, RecursionError) as error:
            raise DecoderDied(f"its answer cannot be read: {error}") from error
        where = placement(prepared.original_hw, spec)
        image_u8 = np.empty((*where.input_hw, 3), np.uint8)
        if os.preadv(self._memory, [image_u8.data], 0) != image_u8.nbytes:
            raise DecoderDied("its answer has no rows")
        return PreparedImage(image_u8, where, prepared.decode_ms, prepared.preprocess_ms)

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to ``take``: no answer, and no end of the process."""
        try:
            self._control.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def how_it_ended(self) -> str:
        """Wait for the end of the process; how it ended, in words."""
        return _end_of(await asyncio.to_thread(self.process.wait))

    def kill(self) -> None:
        """End the process at once; it has nothing of its own to lose. Twice does nothing."""
        if self._memory < 0:
            return
        self.process.kill()
        if self._watching is not None:
            self._watching.remove_reader(self._control)
        self._control.close()
        os.close(self._memory)
        self._memory = -1

    async def _first_message(self) -> bytes:
        """Empty where the process has ended."""
        try:
            return await asyncio.get_running_loop().sock_recv(self._control, LARGEST_MESSAGE)
        except OSError:
            return b""


def _end_of(code: int) -> str:
    """How a process ended, in words."""
    if code == -signal.SIGXCPU:
        return "it used too much processor time"
    if code == -signal.SIGKILL:
        return "it was killed, as the system does where memory is short"
    return f"it crashed, {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
