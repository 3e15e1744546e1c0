"""Write videos as MP4, by OpenCV's FFmpeg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2

from aweigh.runtime.atomic import PendingFile
from aweigh.runtime.errors import CannotRun
from aweigh.runtime.images.reading import ImageU8

# MPEG-4 part 2 is in every FFmpeg; H.264, better and played by browsers, only where its encoder is installed.
_CODECS = ("mp4v", "avc1")
_LIVE_FPS = 25.0


class VideoWriter:
    """An MP4 file that appears whole, at ``close``, or not at all.

    Args:
        path: ends in ``.mp4``.
        fps: frames per second, each frame written once; None for a source without a rate: the file then has 25 per
            second, and frames are repeated or left out so that it plays in real time.
    """

    def __init__(self, path: Path, fps: float | None) -> None:
        self._path = path
        self._fps = fps
        self._written = 0
        self._size_wh = (0, 0)
        self._codec: Any = None
        self._file = PendingFile(path)

    def write(self, image_rgb_u8: ImageU8, time_s: float) -> None:
        """Append a frame [H, W, 3]; one of another size than the first is resized to it.

        Raises CannotRun where OpenCV has no encoder or writes nothing.
        """
        frame = cv2.cvtColor(image_rgb_u8, cv2.COLOR_RGB2BGR)
        if self._codec is None:
            self._size_wh = (frame.shape[1], frame.shape[0])
            self._codec = self._open()
        if (frame.shape[1], frame.shape[0]) != self._size_wh:  # a camera that was set to another resolution
            frame = cv2.resize(frame, self._size_wh, interpolation=cv2.INTER_AREA)
        count = self._written + 1 if self._fps else int(time_s * _LIVE_FPS) + 1
        while self._written < count:
            self._codec.write(frame)
            self._written += 1

    def close(self) -> None:
        """Finish the file. Raises CannotRun where it does not hold what was written, on a full disk say."""
        try:
            self._release()
            if self._written:
                self._check()
            self._file.commit()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove what was written; after ``close`` this does nothing."""
        self._release()
        self._file.discard()

    def _open(self) -> Any:
        for code in _CODECS:
            fourcc = cv2.VideoWriter.fourcc(*code)
            codec = cv2.VideoWriter(
                str(self._file.temporary), cv2.CAP_FFMPEG, fourcc, self._fps or _LIVE_FPS, self._size_wh
            )
            if codec.isOpened():
                return codec
        width, height = self._size_wh
        raise CannotRun(
            f"{self._path}: OpenCV cannot write a video of {width}x{height} pixels here (codecs tried: "
            f"{', '.join(_CODECS)}); it needs FFmpeg, and room on the disk"
        )

    def _release(self) -> None:
        if self._codec is not None:
            self._codec.release()
            self._codec = None

    def _check(self) -> None:
        """OpenCV's writer reports no errors, neither of the disk nor of the encoder."""
        capture = cv2.VideoCapture(str(self._file.temporary), cv2.CAP_FFMPEG)
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if frames != self._written:
            raise CannotRun(f"{self._path}: {frames} of {self._written} frames were written; is the disk full?")
