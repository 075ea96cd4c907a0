"""What training tells the outside: events, and how far a long step has got.

The library only emits; ``JsonLog`` keeps the events beside the model, and the command line shows them. An event is a
kind ("epoch", "note", ...) with fields that JSON can hold.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Something that is told what a run does."""

    def event(self, kind: str, **fields: Any) -> None:
        """Record that something happened."""

    def track(self, total: int | None, description: str) -> AbstractContextManager[Advance]:
        """Return a context of a function to call with the number of items just done; ``total`` None: unknown."""


class Quiet:
    """Hears everything and says nothing."""

    position = 0

    def event(self, kind: str, **fields: Any) -> None:
        """Do nothing."""

    @contextmanager
    def track(self, total: int | None, description: str) -> Iterator[Advance]:
        """Yield a function that does nothing."""
        yield lambda count: None

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Several:
    """Passes everything on to each of its members."""

    def __init__(self, members: Iterable[Progress]) -> None:
        self._members = tuple(members)

    def event(self, kind: str, **fields: Any) -> None:
        """Tell every member."""
        for member in self._members:
            member.event(kind, **fields)

    @contextmanager
    def track(self, total: int | None, description: str) -> Iterator[Advance]:
        """Yield a function that advances every member."""
        with ExitStack() as stack:
            advances = [stack.enter_context(member.track(total, description)) for member in self._members]

            def advance(count: int) -> None:
                for one in advances:
                    one(count)

            yield advance


class JsonLog:
    """Appends one JSON line per event: its kind, the UTC time, the seconds since the log was opened, and its fields.

    Each line is flushed, so a killed run loses none. A checkpoint stores ``position``; a resumed run opens the log
    there, which drops the lines written after the checkpoint, because it will write them again.

    Args:
        path: The log; made where it is missing.
        position: The length in bytes to continue from; 0 starts a new log.
    """

    def __init__(self, path: Path, position: int = 0) -> None:
        path.touch()
        self._file = path.open("r+b")
        self._file.truncate(min(position, path.stat().st_size))
        self._file.seek(0, 2)
        self._start = time.monotonic()

    @property
    def position(self) -> int:
        """The length of the log in bytes."""
        return self._file.tell()

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line; numbers that JSON lacks (nan, inf) become null."""
        seconds = round(time.monotonic() - self._start, 3)
        line = {"event": kind, "time": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": seconds} | fields
        self._file.write(json.dumps(_finite(line), ensure_ascii=False, default=str).encode("utf-8") + b"\n")
        self._file.flush()

    @contextmanager
    def track(self, total: int | None, description: str) -> Iterator[Advance]:
        """Yield a function that does nothing: single steps are not logged."""
        yield lambda count: None

    def close(self) -> None:
        """Close the file; no event may follow."""
        self._file.close()

    def __enter__(self) -> JsonLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the events of a log; a last line that a killed run left incomplete is left out."""
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
