from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from aweigh.runtime.flow.channel import Channel, Closed


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Starts ``work``; the list gets its result or exception."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        except Closed as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def test_order_and_capacity() -> None:
    channel: Channel[int] = Channel(2)
    assert channel.peek() is None
    channel.put(1)
    channel.put(2)
    thread, _ = in_thread(lambda: channel.put(3))
    thread.join(0.1)
    assert thread.is_alive()  # full
    assert (channel.peek(), channel.get()) == (1, 1)
    thread.join(10)
    assert [channel.get(), channel.get()] == [2, 3]


def test_what_is_inside_survives_finish_and_not_close() -> None:
    for end, left in ((Channel.finish, [1, 2]), (Channel.close, [])):
        channel: Channel[int] = Channel(2)
        channel.put(1)
        channel.put(2)
        end(channel)
        assert list(channel) == left
        for use in (lambda c=channel: c.put(3), channel.get):
            with pytest.raises(Closed):
                use()


@pytest.mark.parametrize("end", [Channel.finish, Channel.close])
def test_the_end_wakes_who_waits(end: Callable[[Channel[int]], None]) -> None:
    empty: Channel[int] = Channel(1)
    full: Channel[int] = Channel(1)
    full.put(1)
    waiting = [in_thread(empty.get), in_thread(lambda: full.put(2))]
    for channel in (empty, full):
        end(channel)
    for thread, results in waiting:
        thread.join(10)
        assert [type(result) for result in results] == [Closed]
