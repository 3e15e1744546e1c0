"""Frames of videos, cameras and network streams, through OpenCV's FFmpeg and camera drivers."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2

from aweigh.runtime.errors import BadInput
from aweigh.runtime.images.header import MAX_PIXELS
from aweigh.runtime.images.reading import ImageU8
from aweigh.runtime.machine.facts import available_cores

# FFmpeg would take a thread, and hold a decoded frame, for each core of the machine.
_MOST_DECODER_THREADS = 4
# How long opening an address, and each of its frames, may take; also what ends the threads of a stalled stream.
_TIMEOUT_MS = 5000
POLL_S = 0.1  # how soon a thread that waits for a live source notices that it shall end
# Containers that count their frames; the others' number is the length times a rate, and may be far off.
_COUNTED = frozenset({".mp4", ".m4v", ".mov", ".avi"})


@dataclass(frozen=True)
class FrameLimits:
    """How much of each video and live source is taken.

    Attributes:
        frames: at most so many; None for all.
        seconds: only those before this time; None for all.
        every_frame: of live sources too, which then lag behind where the network is slower than they are; otherwise
            the newest, and what came in between is dropped.
    """

    frames: int | None = None
    seconds: float | None = None
    every_frame: bool = False

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise BadInput(f"frames {self.frames}: expected at least 1")
        if self.seconds is not None and not self.seconds > 0:
            raise BadInput(f"seconds {self.seconds}: expected more than 0")


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        index: from 0; of a live source it counts the dropped ones too.
        time_s: in the video, or since the first frame of a live source.
    """

    index: int
    time_s: float
    image_rgb_u8: ImageU8


@dataclass(frozen=True)
class VideoFacts:
    """What the container says.

    Attributes:
        fps: frames per second, on average; None where the file does not say.
        frames: their number; None where the container does not count them.
    """

    fps: float | None
    frames: int | None


def video_facts(path: str | os.PathLike[str], name: str) -> VideoFacts:
    """Rate and length of a video. Raises BadInput as ``read_video``."""
    with _opened_video(path, name) as capture:
        return _facts(capture, path)


def read_video(path: str | os.PathLike[str], name: str, limits: FrameLimits) -> Iterator[Frame]:
    """The frames of a video file, or of one at an http address, turned as its metadata say.

    Raises:
        BadInput: no such file, no video, too large, or, after the last readable frame, fewer frames than an MP4, MOV or
            AVI file announces. Damage within a frame goes unnoticed: FFmpeg repairs it.
    """
    index = -1
    with _opened_video(path, name) as capture:
        total = _facts(capture, path).frames
        while limits.frames is None or index + 1 < limits.frames:
            done, frame = capture.read()
            if not done:
                break
            index += 1
            time_s = max(0.0, capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
            if limits.seconds is not None and time_s >= limits.seconds:
                return
            yield Frame(index, time_s, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=frame))
        else:
            return
    count = index + 1
    # Edit lists and frames before the first whole one make some files announce a few more than they show.
    if count == 0 or (total is not None and count < total - max(3, total // 100)):
        raise BadInput(
            f"{name}: {count} of {total or 'an unknown number of'} frames could be read; "
            "the video is cut off or damaged there"
        )


def read_live(source: int | str, name: str, limits: FrameLimits, stop: threading.Event) -> Iterator[Frame]:
    """The frames of a camera or a network stream as they come.

    A thread of its own reads without pause; unless ``limits.every_frame``, each frame replaces the one before it that
    the caller has not fetched yet. The thread ends with the iterator, at the latest after the five seconds that it
    waits for a stalled stream.

    Raises:
        BadInput: it cannot be opened; or it ends, which only ``limits`` and ``stop`` let it do without an error.
    """
    with _opened_live(source, name) as capture:
        reader = _LiveReader(capture, limits.every_frame)
        count = 0
        try:
            while limits.frames is None or count < limits.frames:
                frame = reader.next(stop)
                if frame is None:
                    if stop.is_set():
                        return
                    raise BadInput(f"{name}: the stream ended, or gave nothing for {_TIMEOUT_MS / 1e3:g} s")
                if limits.seconds is not None and frame.time_s >= limits.seconds:
                    return
                count += 1
                yield Frame(frame.index, frame.time_s, cv2.cvtColor(frame.image_rgb_u8, cv2.COLOR_BGR2RGB))
        finally:
            reader.close()


class _LiveReader:
    """Reads in a thread and holds the newest frame; with ``every_frame`` the thread waits until each is fetched."""

    def __init__(self, capture: Any, every_frame: bool) -> None:
        self._capture = capture
        self._every_frame = every_frame
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._closed = False
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="aweigh-live", daemon=True)
        self._thread.start()

    def next(self, stop: threading.Event) -> Frame | None:
        """Wait for a frame not fetched before; its colours are still BGR. None at the end, or once ``stop`` is set."""
        with self._changed:
            while self._newest is None and not self._ended and not stop.is_set():
                self._changed.wait(POLL_S)
            frame, self._newest = self._newest, None
            self._changed.notify_all()
            return frame

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _read(self) -> None:
        index, start = 0, None
        while not self._closed:
            done, bgr = self._capture.read()
            now = time.monotonic()
            start = now if start is None else start
            with self._changed:
                if not done:
                    self._ended = True
                    self._changed.notify_all()
                    return
                if self._every_frame:
                    self._changed.wait_for(lambda: self._newest is None or self._closed)
                self._newest = Frame(index, now - start, bgr)
                self._changed.notify_all()
            index += 1


@contextmanager
def _opened_video(path: str | os.PathLike[str], name: str) -> Iterator[Any]:
    address = os.fspath(path)
    if "://" not in address or Path(path).exists():
        if not Path(path).exists():
            raise BadInput(f"{name}: no such file")
        if not Path(path).is_file():
            raise BadInput(f"{name}: expected a video file, this is a folder or a device")
        if not os.access(path, os.R_OK):
            raise BadInput(f"{name}: cannot be read (no permission)")
        address = os.path.abspath(path)  # FFmpeg would take "a:b.mp4" for a protocol called a
    threads = min(_MOST_DECODER_THREADS, available_cores())
    parameters = [cv2.CAP_PROP_N_THREADS, threads, *_timeouts()]
    with _released(cv2.VideoCapture(address, cv2.CAP_FFMPEG, parameters)) as capture:
        if not capture.isOpened():
            raise BadInput(
                f"{name}: no video, damaged at its start or end, or of a kind that FFmpeg cannot decode here"
            )
        width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_PIXELS:
            raise BadInput(f"{name}: {width}x{height} pixels, the limit is {MAX_PIXELS}")
        yield capture


@contextmanager
def _opened_live(source: int | str, name: str) -> Iterator[Any]:
    if isinstance(source, str):
        # Several threads would each hold a frame back.
        parameters = [cv2.CAP_PROP_N_THREADS, 1, *_timeouts()]
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, parameters)
        advice = "check the address, and that it answers from this machine"
    else:
        capture = cv2.VideoCapture(int(source))
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        advice = "check its number, and that no other program holds it"
    with _released(capture):
        if not capture.isOpened():
            raise BadInput(f"{name}: cannot be opened; {advice}")
        yield capture


@contextmanager
def _released(capture: Any) -> Iterator[Any]:
    try:
        yield capture
    finally:
        capture.release()


def _timeouts() -> list[int]:
    return [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]


def _facts(capture: Any, path: str | os.PathLike[str]) -> VideoFacts:
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    counted = os.path.splitext(urlsplit(os.fspath(path)).path)[1].lower() in _COUNTED
    frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if counted else 0
    return VideoFacts(fps if math.isfinite(fps) and fps > 0 else None, frames if frames > 0 else None)
