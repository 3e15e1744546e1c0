"""Decoding processes that crash, hang, or take too much: each costs its own image."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from hostile import animated_png, encoded, lying_jpegs, many_scans, small_picture
from PIL import Image

from aweigh.runtime.errors import BadInput, CannotRun, NotAnImage, TooLarge, Undecodable
from aweigh.runtime.spec import InputSpec
from aweigh.serve.decoding.images import prepare_image
from aweigh.serve.decoding.messages import Order, Prepared, parse_answer, refusal
from aweigh.serve.decoding.pool import Decoders
from aweigh.serve.decoding.process import Bounds, Decoder
from aweigh.serve.problem import Problem

BOUNDS = Bounds(pixels=1_000_000, file_bytes=1 << 20, seconds=20.0)
SPEC = InputSpec((64, 96))
GOOD = encoded(small_picture(), "JPEG")


def with_decoders(
    work: Callable[[Decoders], Awaitable[None]], count: int = 1, bounds: Bounds = BOUNDS, replaced: int = 0
) -> None:
    """Run it, and see that the processes end, and how many were replaced meanwhile."""
    counted = []

    async def bounded() -> None:
        decoders = Decoders(count, bounds, lambda: counted.append(1))
        async with asyncio.timeout(120):
            try:
                await work(decoders)
            finally:
                await decoders.close()

    asyncio.run(bounded())
    assert len(counted) == replaced
    assert not [pid for pid in children() if "decoding.worker" in command_of(pid)]


def children() -> list[int]:
    text = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "pid="], capture_output=True, text=True).stdout
    return [int(pid) for pid in text.split()]


def command_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


def workers() -> list[int]:
    return [pid for pid in children() if "decoding.worker" in command_of(pid)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize(
    "spec",
    [SPEC, InputSpec((64, 96), "stretch", interpolation="area"), InputSpec((64, 512), "keep-ratio", dynamic_size=True)],
    ids=["letterbox", "stretch", "keep-ratio"],
)
def test_the_rows_are_those_of_this_process(kind: str, spec: InputSpec) -> None:
    async def test(decoders: Decoders) -> None:
        for image in (small_picture(), small_picture().convert("L"), small_picture().resize((700, 300))):
            data = encoded(image, kind)
            expected, got = prepare_image(data, spec, BOUNDS.pixels), await decoders.prepare(data, spec)
            assert np.array_equal(got.image_u8, expected.image_u8)
            assert got.where == expected.where
            assert got.decode_ms > 0

    with_decoders(test)


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"hello", NotAnImage, "not an image"),
        (GOOD[:-9], Undecodable, "truncated JPEG"),
        (encoded(Image.new("L", (1001, 1000)), "PNG"), TooLarge, "1001x1000 pixels, the limit is 1000000"),
        (many_scans(200), Undecodable, "more than 100 scans"),
        (animated_png(damage_first=True), Undecodable, "corrupt or unsupported PNG"),
        *((data, BadInput, "image: ") for data in lying_jpegs().values()),
    ],
)
def test_refusals_come_as_they_are(data: bytes, kind: type[BadInput], words: str) -> None:
    async def test(decoders: Decoders) -> None:
        with pytest.raises(kind, match=words):
            await decoders.prepare(data, SPEC)
        await decoders.prepare(GOOD, SPEC)

    with_decoders(test)


def test_the_decoder_has_the_limit_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that gets past the header's check is refused by OpenCV: it was imported with the limit set."""

    async def test(decoders: Decoders) -> None:
        await decoders.prepare(GOOD, SPEC)
        (pid,) = workers()
        with open(f"/proc/{pid}/environ") as file:
            environment = file.read().split("\0")
        assert "OPENCV_IO_MAX_IMAGE_PIXELS=1000000" in environment
        assert not [line for line in environment if line.startswith("AWEIGH_")]
        with open(f"/proc/{pid}/maps") as file:
            assert "torch" not in file.read()

    monkeypatch.setenv("AWEIGH_TOKEN", "secret")
    with_decoders(test)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGXCPU])
def test_a_decoder_that_dies_costs_its_own_image(number: signal.Signals) -> None:
    async def test(decoders: Decoders) -> None:
        await decoders.start()
        first, second = workers()
        with stopped(first, second):
            tasks = [asyncio.create_task(decoders.prepare(GOOD, SPEC)) for _ in range(4)]
            await asyncio.sleep(0.1)
            os.kill(first, number)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        assert len(failed) == 1
        assert type(failed[0]) is Undecodable
        assert "its decoder ended on it" in str(failed[0])
        assert first not in workers()
        for _ in range(4):
            await decoders.prepare(GOOD, SPEC)

    with_decoders(test, count=2, replaced=1)


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_decoder_that_dies_while_idle_costs_nothing() -> None:
    async def test(decoders: Decoders) -> None:
        await decoders.start()
        for pid in workers():
            os.kill(pid, signal.SIGKILL)
        while any(os.path.exists(f"/proc/{pid}/maps") and command_of(pid) for pid in workers()):
            await asyncio.sleep(0.01)
        await decoders.prepare(GOOD, SPEC)

    with_decoders(test, replaced=1)


def test_a_decoder_that_hangs_is_replaced() -> None:
    async def test(decoders: Decoders) -> None:
        await decoders.start()
        os.kill(workers()[0], signal.SIGSTOP)
        with pytest.raises(Undecodable, match="not decoded within 1 s"):
            await decoders.prepare(GOOD, SPEC)
        assert (await decoders.prepare(GOOD, SPEC)).where.original_hw == (40, 60)

    with_decoders(test, bounds=Bounds(1_000_000, 1 << 20, 1.0), replaced=1)


def test_an_image_that_nobody_waits_for_keeps_no_decoder() -> None:
    """Its client hung up: the process finishes it and goes on, or is replaced when it hangs."""

    async def test(decoders: Decoders) -> None:
        await decoders.start()
        for hangs in (False, True):
            (pid,) = workers()
            os.kill(pid, signal.SIGSTOP)
            task = asyncio.create_task(decoders.prepare(GOOD, SPEC))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.wait([task])
            if not hangs:
                os.kill(pid, signal.SIGCONT)
            assert (await decoders.prepare(encoded(small_picture(), "PNG"), SPEC)).where.original_hw == (40, 60)
            assert workers() != [pid] if hangs else workers() == [pid]

    with_decoders(test, bounds=Bounds(1_000_000, 1 << 20, 2.0), replaced=1)


def test_the_event_loop_need_not_come_round() -> None:
    """Busy with refusals, it attends to the processes in between: three images, and one process."""

    async def test(decoders: Decoders) -> None:
        await decoders.start()
        tasks = [asyncio.create_task(decoders.prepare(GOOD, SPEC)) for _ in range(3)]
        await asyncio.sleep(0)
        end_s = time.monotonic() + 20
        while decoders._busy:
            assert time.monotonic() < end_s
            time.sleep(0.001)
            decoders.attend()
        await asyncio.sleep(0)
        assert all(task.done() for task in tasks)
        (decoder,) = decoders._idle
        decoders._take(decoder)  # the event loop had seen the answer too: the process is not taken for dead

    with_decoders(test)


def test_memory_is_limited() -> None:
    """Room for a small image; what a large one takes is refused, and the process goes on or is replaced."""
    bounds = Bounds(pixels=40_000_000, file_bytes=1 << 20, seconds=60.0)
    large = encoded(Image.new("RGB", (6000, 6000)), "JPEG", progressive=True, subsampling=0)

    async def test(decoders: Decoders) -> None:
        (await decoders.prepare(large, SPEC))
        await decoders.prepare(GOOD, SPEC)
        (pid,) = workers()
        with open(f"/proc/{pid}/limits") as file:
            line = next(line for line in file if line.startswith("Max address space"))
        assert bounds.memory_bytes < int(line.split()[3]) < bounds.memory_bytes + (1 << 31)
        os.system(f"prlimit --pid {pid} --as=$((1 << 28)):$((1 << 28))")
        with pytest.raises(Undecodable):
            await decoders.prepare(large, SPEC)
        await decoders.prepare(GOOD, SPEC)

    async def bounded() -> None:
        decoders = Decoders(1, bounds)
        try:
            await test(decoders)
        finally:
            await decoders.close()

    asyncio.run(bounded())


def test_how_long_no_decoder_has_come_free() -> None:
    async def test(decoders: Decoders) -> None:
        await decoders.start()
        assert decoders.stuck_s == 0
        with stopped(*workers()):
            tasks = [asyncio.create_task(decoders.prepare(GOOD, SPEC)) for _ in range(2)]
            await asyncio.sleep(0.2)
            assert decoders.stuck_s >= 0.1
        await asyncio.gather(*tasks)
        assert decoders.stuck_s == 0

    with_decoders(test)


def test_a_process_that_does_not_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    async def test() -> None:
        decoders = Decoders(1, BOUNDS)
        try:
            with pytest.raises(CannotRun, match=r"a decoding process did not start \(exit code 1\)"):
                await decoders.start()
        finally:
            await decoders.close()

    asyncio.run(test())


def test_a_replacement_that_does_not_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(decoders: Decoders) -> None:
        await decoders.start()
        executable = sys.executable
        monkeypatch.setattr(sys, "executable", "/no/such/file")
        os.kill(workers()[0], signal.SIGKILL)
        while command_of_all():
            await asyncio.sleep(0.01)
        task = asyncio.create_task(decoders.prepare(GOOD, SPEC))
        await asyncio.sleep(0.2)
        assert not task.done()
        monkeypatch.setattr(sys, "executable", executable)
        assert (await task).where.original_hw == (40, 60)

    def command_of_all() -> list[int]:
        return [pid for pid in workers() if command_of(pid)]

    with_decoders(test, replaced=1)


def test_after_closing_nothing_is_decoded() -> None:
    async def test(decoders: Decoders) -> None:
        await decoders.prepare(GOOD, SPEC)
        await decoders.close()
        with pytest.raises(Problem, match="stopping"):
            await decoders.prepare(GOOD, SPEC)

    with_decoders(test)


def test_a_process_ends_with_its_owner() -> None:
    """However that ends: the other end of the socket is closed."""

    async def test() -> int:
        decoder = await Decoder(BOUNDS).ready()
        decoder._control.close()
        code = await asyncio.to_thread(decoder.process.wait, 20)
        decoder.kill()
        return code

    assert asyncio.run(test()) == 0


def test_messages() -> None:
    order = Order(5, InputSpec((64, 96), mean=(1.0, 2.0, 3.5)))
    assert Order.from_bytes(order.to_bytes()) == order
    prepared = Prepared((3, 4), 0.1, 0.25)
    assert parse_answer(prepared.to_bytes()) == prepared
    with pytest.raises(TooLarge, match="big"):
        parse_answer(refusal(TooLarge("big")))


@pytest.mark.parametrize(
    "answer", [b"", b"[", b"3", b"null", b"[1, 2]", b'["1", 2, 3, 4]', b"[1, 2, {}, 4]", b"\xff", b"[" * 60_000]
)
def test_answers_of_a_decoder_that_was_taken_over(answer: bytes) -> None:
    with pytest.raises((ValueError, TypeError, RecursionError)):
        parse_answer(answer)


@pytest.mark.parametrize("answer", [b"{}", b'{"error": "SystemExit", "text": 3}', b'{"error": {}}'])
def test_errors_that_no_decoder_raises(answer: bytes) -> None:
    with pytest.raises(Undecodable):
        parse_answer(answer)


def test_opencv_here_is_that_of_the_processes() -> None:
    """The rows are compared with this process's above, whose threads make no difference."""
    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    many = cv2.resize(image, (320, 180))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        assert np.array_equal(cv2.resize(image, (320, 180)), many)
    finally:
        cv2.setNumThreads(threads)
