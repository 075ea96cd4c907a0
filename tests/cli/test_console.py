"""What is shown of a run, and where."""

import io

from parser_vae.cli.console import Lines, Terminal, console_progress, describe

from parser_vae.training.progress import Quiet


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_display_fits_the_stream() -> None:
    assert isinstance(console_progress(stream=io.StringIO()), Lines)
    assert isinstance(console_progress(stream=Screen()), Terminal)
    assert isinstance(console_progress(quiet=True, stream=Screen()), Quiet)


def test_an_event_is_one_line() -> None:
    assert describe("note", {"text": "as it [is]"}) == "as it [is]"
    assert describe("epoch", {"epoch": 3, "uas": 81.0}) == "epoch 3: uas 81"
    fields = {"number": 3, "uas": 81.23456, "loss": 0.00012346, "speed": 1234.5, "none": None}
    assert describe("epoch", fields) == "epoch: number 3  uas 81.23  loss 0.0001235  speed 1234"


def test_lines_say_now_and_then_how_far_it_is() -> None:
    stream = io.StringIO()
    lines = Lines(stream, interval=0.0)
    lines.event("epoch", number=1)
    with lines.track(200, "epoch 2") as advance:
        advance(50)
        advance(100)
    with lines.track(None, "reading") as advance:
        advance(7)
    assert stream.getvalue().splitlines() == [
        "epoch: number 1",
        "epoch 2: 50/200 (25 %)",
        "epoch 2: 150/200 (75 %)",
        "reading: 7",
    ]


def test_lines_are_rare_by_default() -> None:
    stream = io.StringIO()
    with Lines(stream).track(10, "x") as advance:
        advance(5)
    assert stream.getvalue() == ""


def test_a_terminal_keeps_events_above_nested_bars_and_removes_the_bars() -> None:
    screen = Screen()
    terminal = Terminal(screen)
    with terminal.track(2, "epochs [1]") as outer:
        with terminal.track(None, "batches") as inner:
            inner(1)
            terminal.event("epoch", number=1, name="[bold]x")
        outer(1)
    with terminal.track(1, "again") as outer:
        outer(1)
    shown = screen.getvalue()
    assert "epoch: number 1  name [bold]x" in shown
    assert "epochs [1]" in shown
