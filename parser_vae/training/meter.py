"""Processor time of a piece of work, over interruptions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parser_vae.files import write_text_atomically
from parser_vae.training.progress import Advance, Progress

SECONDS_BETWEEN_WRITES = 5.0


class Meter:
    """A progress display that also counts the CPU seconds of this process, all threads, and keeps them in a file.

    A process that is killed loses at most the seconds since the last write; what it then does again after its last
    checkpoint is counted twice.

    Attributes:
        sessions: How many processes have worked on it.
    """

    def __init__(self, path: Path, inner: Progress) -> None:
        self._path, self._inner = path, inner
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cpu_seconds": 0.0, "sessions": 0}
        self._before, self.sessions = float(stored["cpu_seconds"]), int(stored["sessions"]) + 1
        self._start = time.process_time()
        self._written = time.monotonic()

    @property
    def seconds(self) -> float:
        """Return the CPU seconds so far, those of former processes included."""
        return self._before + time.process_time() - self._start

    def save(self) -> None:
        """Write what has been counted."""
        write_text_atomically(self._path, json.dumps({"cpu_seconds": self.seconds, "sessions": self.sessions}) + "\n")
        self._written = time.monotonic()

    def event(self, kind: str, **fields: Any) -> None:
        """Pass the event on."""
        self._inner.event(kind, **fields)
        self._save_now_and_then()

    @contextmanager
    def track(self, total: int | None, description: str) -> Iterator[Advance]:
        """Yield a function that advances the display."""
        with self._inner.track(total, description) as inner:

            def advance(count: int) -> None:
                inner(count)
                self._save_now_and_then()

            yield advance

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.save()
