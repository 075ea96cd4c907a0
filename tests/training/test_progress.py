"""Progress: the log without gaps and duplicates, and that all members hear everything."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parser_vae.training.progress import Advance, JsonLog, Quiet, Several, read_log


class Listener:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def event(self, kind: str, **fields: Any) -> None:
        self.heard.append((kind, fields))

    @contextmanager
    def track(self, total: int | None, description: str) -> Iterator[Advance]:
        self.heard.append((description, total))
        yield self.heard.append
        self.heard.append("end")


def test_each_event_is_one_line_that_is_on_the_disk_at_once(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "log.jsonl")
    log.event("epoch", number=1, uas=81.5, loss=float("nan"), parts=[1.0, float("inf")], path=tmp_path)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert event.pop("time").endswith("+00:00")
    assert event.pop("seconds") >= 0
    assert event == {
        "event": "epoch",
        "number": 1,
        "uas": 81.5,
        "loss": None,
        "parts": [1.0, None],
        "path": str(tmp_path),
    }
    log.close()


def test_a_resumed_log_has_no_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with JsonLog(path) as log:
        log.event("epoch", number=1)
        position = log.position
        log.event("epoch", number=2)
    with path.open("ab") as file:
        file.write(b'{"event": "ep')
    assert [event["number"] for event in read_log(path)] == [1, 2]
    with JsonLog(path, position) as log:
        assert log.position == position
        log.event("epoch", number=2)
        log.event("epoch", number=3)
    assert [event["number"] for event in read_log(path)] == [1, 2, 3]
    with JsonLog(path):
        assert read_log(path) == []


def test_several_pass_everything_on() -> None:
    one, two = Listener(), Listener()
    several = Several([one, Quiet(), two])
    several.event("note", text="x")
    with several.track(3, "epoch 1") as advance:
        advance(2)
    assert one.heard == two.heard == [("note", {"text": "x"}), ("epoch 1", 3), 2, "end"]
