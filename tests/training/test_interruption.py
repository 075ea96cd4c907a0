"""Stopping between steps."""

import os
import signal
import threading

import pytest

from parser_vae.training.interruption import deferred_interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_request_is_noted_and_the_second_stops(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with deferred_interruption() as interruption:
        interruption.stop_if_requested()
        os.kill(os.getpid(), number)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            interruption.stop_if_requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_other_threads_leave_the_signals_alone() -> None:
    seen = []

    def work() -> None:
        with deferred_interruption() as interruption:
            seen.append((interruption.requested, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
