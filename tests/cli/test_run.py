"""What every command has in common: exit codes, one-line errors, common options, quick answers."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from parser_vae.cli.options import Common, with_common_options

import parser_vae
from parser_vae import cli
from parser_vae.errors import InputError

COMMANDS = ("vectors", "pretrain", "adapt", "parse", "evaluate", "sweep", "check", "demo", "info", "methods")


def test_the_commands_are_those_in_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    assert {command.callback.__name__ for command in cli.app.registered_commands if command.callback} == set(COMMANDS)
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_the_common_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--config", "--set", "--device", "--threads", "--quiet", "--debug"):
        assert option in shown


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"parser-vae {parser_vae.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["parse"], ["parse", "m", "--nonsense"], ["pretrain", "--epochs", "x", "--out", "o"]]
)
def test_usage_errors_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: parser-vae" in captured.err


def run_with(monkeypatch: pytest.MonkeyPatch, function: Any, *arguments: str) -> int:
    """Return the exit code of a command line whose only command is ``function``."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    app.command("act")(with_common_options(function))
    monkeypatch.setattr(cli, "app", app)
    return cli.run(["act", *arguments])


def raising(error: BaseException) -> Any:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("x.conllu: wrong; mend it"), 1, "error: x.conllu: wrong; mend it\n"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 1, "error: x: No such file or directory\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: No space left on device\n"),
        (
            ValueError("two\nlines"),
            70,
            "error: unexpected ValueError: two lines; rerun with --debug for the traceback\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, raising(error)) == code
    assert capsys.readouterr() == ("", message)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_with(monkeypatch, raising(InputError("wrong")), "--debug") == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith("\nerror: wrong\n")


def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(out: Path = Path(), resume: bool = False) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "my run"
    assert run_with(monkeypatch, act, "--out", str(out)) == 130
    assert capsys.readouterr().err == "interrupted\n"
    out.mkdir()
    (out / "config.toml").touch()
    assert run_with(monkeypatch, act, "--out", str(out), "--threads", "2", "--device", "cuda") == 130
    assert capsys.readouterr().err == (
        f"interrupted; resume with: parser-vae act --out '{out}' --resume --device cuda --threads 2\n"
    )


def test_common_options_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Common] = []

    def act(common: Common) -> None:
        seen.append(common)

    assert run_with(monkeypatch, act) == 0
    assert run_with(monkeypatch, act, "--threads", "3", "--quiet", "--device", "cuda:1", "--debug") == 0
    assert seen == [
        Common(None, None, "cpu", None, False, False),
        Common(None, None, "cuda:1", 3, True, True),
    ]


def test_a_section_named_like_the_command_gives_defaults_to_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[object] = []

    def act(count: Annotated[int, typer.Option()], loud: bool = False, file: Path = Path("x")) -> None:
        seen.append((count, loud, file))

    toml = tmp_path / "act.toml"
    toml.write_text('[act]\ncount = 3\nfile = "y"\n')
    assert run_with(monkeypatch, act, "--config", str(toml), "--set", "act.loud=true", "--file", "z") == 0
    assert run_with(monkeypatch, act, "--set", "act.count=4") == 0
    assert seen == [(3, True, Path("z")), (4, False, Path("x"))]
    for wrong, message in {
        "act.cuont=3": "unknown key act.cuont; did you mean act.count?",
        "count=3": "unknown key count; did you mean act.count?",
        "act.debug=true": "unknown key act.debug; known in act: act.count, act.loud, act.file",
    }.items():
        assert run_with(monkeypatch, act, "--set", wrong) == 1
        assert capsys.readouterr().err == f"error: --set {wrong}: {message}\n"
    toml.write_text("[other]\ncount = 3\n")
    assert run_with(monkeypatch, act, "--config", str(toml)) == 1
    assert capsys.readouterr().err == f"error: {toml}: unknown key other; known at the top level: act\n"


def test_an_unknown_device_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"^--device abacus: not available here; use --device cpu$"):
        Common(None, None, "abacus", None, False, False).prepare_torch()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["vectors", "--text", "a", "b", "--out", "v"], ["vectors", "--text", "a", "--text", "b", "--out", "v"]),
        (
            ["adapt", "--target", "a", "--target", "b", "c"],
            ["adapt", *(["--target", "a", "--target", "b", "--target", "c"])],
        ),
        (["parse", "model", "file"], ["parse", "model", "file"]),
        (["pretrain", "--out", "a", "b"], ["pretrain", "--out", "a", "b"]),
    ],
)
def test_some_options_take_several_values_at_once(given: list[str], expected: list[str]) -> None:
    assert cli._repeated(given) == expected


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-X", "importtime", "-m", "parser_vae.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["pretrain", "--help"], ["pretrain"]])
def test_quick_answers_load_nothing_heavy(arguments: list[str]) -> None:
    _, errors = start(*arguments).communicate()
    loaded = {line.rpartition(b"|")[2].strip().decode() for line in errors.splitlines() if line.startswith(b"import")}
    assert "typer" in loaded
    assert not {"torch", "numpy", "numba", "safetensors", "sklearn", "fasttext"} & loaded


def test_a_reader_that_goes_away_ends_the_command_silently() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "parser_vae.cli", "methods"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 1
