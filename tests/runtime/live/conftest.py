"""Small servers of live pictures: MJPEG over HTTP, and RTSP with JPEG frames (RFC 2326, RFC 2435) over TCP."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import pytest

Handle: TypeAlias = Callable[[socket.socket, threading.Event], None]
Serve: TypeAlias = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def serve_mjpeg() -> Serve:
    """Serves RGB frames, one each ``pause_s``; then the stream ends, or, if ``endless``, falls silent."""

    def serve(frames: list[Any], pause_s: float = 0.01, endless: bool = False) -> AbstractContextManager[str]:
        jpegs = [_encode_jpeg(frame) for frame in frames]
        return _serving("http", lambda connection, stop: _mjpeg(connection, stop, jpegs, pause_s, endless))

    return serve


@pytest.fixture
def serve_rtsp() -> Serve:
    """Serves RGB frames over and over, one each ``pause_s``."""

    def serve(frames: list[Any], pause_s: float = 0.01) -> AbstractContextManager[str]:
        jpegs = [_encode_jpeg(frame) for frame in frames]
        return _serving("rtsp", lambda connection, stop: _rtsp(connection, stop, jpegs, pause_s))

    return serve


@contextmanager
def _serving(scheme: str, handle: Handle) -> Iterator[str]:
    """One connection after the other in a thread; yields the address."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection, contextlib.suppress(OSError):  # the other side goes when it has enough
                connection.settimeout(2)
                handle(connection, stop)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/street"
    finally:
        stop.set()
        thread.join()
        listener.close()


def _encode_jpeg(image_rgb_u8: npt.NDArray[np.uint8]) -> bytes:
    """4:2:0, the sampling that RFC 2435 calls type 1, with the standard's Huffman tables."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image_rgb_u8, cv2.COLOR_RGB2BGR), options)
    assert done
    return bytes(data)


def _mjpeg(connection: socket.socket, stop: threading.Event, jpegs: list[bytes], pause_s: float, endless: bool) -> None:
    """``multipart/x-mixed-replace``, as cameras with a web page send it; then the end, or, if ``endless``, silence."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
    for data in jpegs:
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        connection.sendall(head + data + b"\r\n")
        if stop.wait(pause_s):
            return
    connection.settimeout(0.1)
    while endless and not stop.is_set():
        try:
            if not connection.recv(4096):
                return
        except TimeoutError:
            continue


def _rtsp(connection: socket.socket, stop: threading.Event, jpegs: list[bytes], pause_s: float) -> None:
    """Answers OPTIONS, DESCRIBE, SETUP and PLAY, then sends the frames as RTP inside the same connection, endlessly."""
    described = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track\r\n"
    while True:
        request = connection.recv(4096).decode()
        if not request:
            return
        verb, sequence = request.split()[0], request.lower().split("cseq:")[1].split()[0]
        head = f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\nSession: 1\r\n"
        body = ""
        if verb == "OPTIONS":
            head += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif verb == "DESCRIBE":
            body = described
            head += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif verb == "SETUP":
            head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        connection.sendall((head + "\r\n" + body).encode())
        if verb == "PLAY":
            break
    sequence_number, count = 0, 0
    while not stop.is_set():
        timestamp = int(count * pause_s * 90_000)
        for packet in _rtp_jpeg(jpegs[count % len(jpegs)], timestamp, sequence_number):
            connection.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
            sequence_number += 1
        count += 1
        stop.wait(pause_s)


def _rtp_jpeg(data: bytes, timestamp: int, sequence_number: int) -> Iterator[bytes]:
    """The coded part of a JPEG in packets, its quantisation tables in the first."""
    tables, position = b"", 2
    while True:
        marker, length = data[position + 1], struct.unpack_from(">H", data, position + 2)[0]
        segment = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == 0xDB:
            for i in range(0, len(segment), 65):
                tables += segment[i + 1 : i + 65]
        elif marker == 0xC0:
            height, width = struct.unpack_from(">HH", segment, 1)
        elif marker == 0xDA:
            break
    scan = data[position:-2]
    for offset in range(0, len(scan), 1400):
        part = scan[offset : offset + 1400]
        last = offset + 1400 >= len(scan)
        rtp = struct.pack(">BBHII", 0x80, 26 | (0x80 if last else 0), sequence_number & 0xFFFF, timestamp, 7)
        header = struct.pack(">I", offset) + bytes([1, 255, width // 8, height // 8])
        if offset == 0:
            header += struct.pack(">BBH", 0, 0, len(tables)) + tables
        sequence_number += 1
        yield rtp + header + part
