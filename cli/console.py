"""How the command line shows a run, always on standard error: a live bar, plain lines, or nothing."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from parser_vae.training.progress import Advance, Progress, Quiet


def console_progress(quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """Return the fitting display: nothing if ``quiet``, a live bar on a terminal, plain lines in a log or a pipe."""
    stream = sys.stderr if stream is None else stream
    if quiet:
        return Quiet()
    return Terminal(stream) if stream.isatty() else Lines(stream)


def describe(kind: str, fields: dict[str, Any]) -> str:
    """Return one event as one line: the text of a note as it is, anything else as ``kind: key value  key value``."""
    if kind == "note":
        return str(fields["text"])
    start = f"{kind} {fields[kind]}: " if kind in fields else f"{kind}: "
    return start + "  ".join(
        f"{key} {_number(value)}" for key, value in fields.items() if value is not None and key != kind
    )


class Lines:
    """Plain lines for logs and pipes: each event, and how far a step has got every ``interval`` seconds."""

    def __init__(self, stream: TextIO, interval: float = 10.0) -> None:
        self._stream, self._interval = stream, interval

    def event(self, kind: str, **fields: Any) -> None:
        """Print the event."""
        print(describe(kind, fields), file=self._stream, flush=True)

    @contextmanager
    def track(self, total: int | None, description: str) -> Iterator[Advance]:
        """Yield a function that counts, and prints now and then."""
        done, shown = 0, time.monotonic()

        def advance(count: int) -> None:
            nonlocal done, shown
            done += count
            if (now := time.monotonic()) - shown >= self._interval:
                shown = now
                of = f"/{total} ({100 * done // max(total, 1)} %)" if total is not None else ""
                print(f"{description}: {done}{of}", file=self._stream, flush=True)

        yield advance


class Terminal:
    """A live bar for each step in progress, with the time left, and each event as a line above them."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._console = Console(file=stream, highlight=False)
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bars = Bars(*columns, console=self._console, transient=True, refresh_per_second=5)

    def event(self, kind: str, **fields: Any) -> None:
        """Print the event; the bars stay below it."""
        self._console.print(describe(kind, fields), markup=False, soft_wrap=True)

    @contextmanager
    def track(self, total: int | None, description: str) -> Iterator[Advance]:
        """Yield a function that moves the step's bar."""
        if not self._bars.tasks:
            self._bars.start()
        task = self._bars.add_task(description, total=total)
        try:
            yield lambda count: self._bars.advance(task, count)
        finally:
            self._bars.remove_task(task)
            if not self._bars.tasks:
                self._bars.stop()


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1000 <= abs(value) < math.inf else f"{value:.4g}"
