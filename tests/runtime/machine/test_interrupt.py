from __future__ import annotations

import signal
import threading

import pytest

from aweigh.runtime.machine.interrupt import first_interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_second_does_what_the_first_did_before(number: signal.Signals) -> None:
    class Before(Exception):
        pass

    def handler(*_: object) -> None:
        raise Before

    outside = signal.signal(number, handler)
    try:
        with first_interrupt() as asked:
            assert not asked.is_set()
            signal.raise_signal(number)
            assert asked.is_set()
            with pytest.raises(Before):
                signal.raise_signal(number)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, outside)


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    outside = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with first_interrupt() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked.is_set()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, outside)


def test_other_threads_have_no_signals() -> None:
    entered = []

    def run() -> None:
        with first_interrupt() as asked:
            entered.append(asked.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert entered == [False]
