"""Stopping a run between two steps instead of inside one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether the user (Ctrl-C) or the system (SIGTERM) has asked the run to stop.

    Attributes:
        requested: True from the first request on; a loop reads it after each step, saves its state and stops.
    """

    def __init__(self) -> None:
        self.requested = False

    def stop_if_requested(self) -> None:
        """Raise ``KeyboardInterrupt`` if a stop was asked for; called where everything worth keeping is saved."""
        if self.requested:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:  # asked twice: at once
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def deferred_interruption() -> Iterator[Interruption]:
    """Yield an ``Interruption``; within the block a first Ctrl-C or SIGTERM only sets it, a second one stops at once.

    Outside the main thread signals cannot be caught, so there it stays unset.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    former = {number: signal.signal(number, interruption._note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
