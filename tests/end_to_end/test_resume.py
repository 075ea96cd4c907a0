"""A run that was killed or interrupted and then resumed ends as one that was not."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from parser_vae import cli
from tests.end_to_end.conftest import adapt_arguments, pretrain_arguments, self_training_arguments

# One process does a run of its own, which loads and compiles everything, and forks a child for each further run. A
# child saves its state after every step and is killed at a given call of a given function; None lets it end.
DRIVER = """
import json, os, signal, sys
from pathlib import Path
from parser_vae import cli
from parser_vae.training import loop

loop.SECONDS_BETWEEN_CHECKPOINTS = 0.0

def count(owner, name, moment, number=signal.SIGKILL):
    original, calls = getattr(owner, name), 0
    def counting(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), number)
        return original(*arguments, **options)
    setattr(owner, name, counting)

first, *runs = json.loads(sys.stdin.read())
assert cli.run(first) == 0
for where, moment, arguments in runs:
    child = os.fork()
    if child == 0:
        if where == "step":
            count(loop.Loop, "_step", moment)
        elif where == "rename":
            count(Path, "replace", moment)
        elif where == "Ctrl-C":
            count(loop.Loop, "_step", moment, signal.SIGINT)
        os._exit(cli.run(arguments))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def drive(first: list[str], runs: list[tuple[str | None, int, list[str]]]) -> tuple[list[int], str]:
    """Return the exit code of each of ``runs``, done after ``first``, and their standard error; a killed one has -9."""
    command = [sys.executable, "-W", "ignore", "-c", DRIVER]
    done = subprocess.run(command, input=json.dumps([first, *runs]), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()], done.stderr


MOMENTS = [("step", 1), ("step", 5), ("rename", 3), ("rename", 10), ("rename", 11)]


@pytest.mark.parametrize("what", ["pretrain", "adapt", "self-training"])
def test_a_killed_and_resumed_run_ends_with_the_same_weights(
    what: str, files: Path, source_model: Path, target_model: Path, self_trained_model: Path, tmp_path: Path
) -> None:
    expected = {"pretrain": source_model, "adapt": target_model, "self-training": self_trained_model}[what]
    command = "pretrain" if what == "pretrain" else "adapt"
    runs: list[tuple[str | None, int, list[str]]] = []

    def full(out: Path) -> list[str]:
        if what == "pretrain":
            return pretrain_arguments(files, out)
        arguments = adapt_arguments if what == "adapt" else self_training_arguments
        return arguments(files, source_model, out)

    for where, moment in MOMENTS:
        out = tmp_path / f"{where}-{moment}"
        resume = [command, "--out", str(out), "--resume", "--quiet", "--threads=1"]
        # Killed twice, the second time a step after it resumed; the flags are not repeated.
        runs += [(where, moment, full(out)), ("step", 2, resume), (None, 0, resume)]
    codes, _ = drive(full(tmp_path / "whole"), runs)
    for start, (where, moment) in zip(range(0, len(codes), 3), MOMENTS, strict=True):
        assert codes[start] == -signal.SIGKILL, (where, moment)
        assert codes[start + 2] == 0
        out = tmp_path / f"{where}-{moment}"
        assert (out / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
        assert steps(out) == steps(expected)
        assert not (out / "state.safetensors").exists()


def steps(folder: Path) -> list[dict[str, object]]:
    """Return the logged events without what is never the same: times."""
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in event.items() if "seconds" not in key and key != "time"} for event in events]


def test_ctrl_c_finishes_the_step_saves_the_state_and_says_how_to_go_on(
    files: Path, source_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    resume = ["pretrain", "--out", str(out), "--resume", "--threads", "1"]
    runs: list[tuple[str | None, int, list[str]]] = [("Ctrl-C", 3, pretrain_arguments(files, out))]
    codes, errors = drive(pretrain_arguments(files, tmp_path / "whole"), [*runs, (None, 0, [*resume, "--quiet"])])
    assert codes == [130, 0]
    assert errors == f"interrupted; resume with: parser-vae {' '.join(resume)}\n"
    assert (out / "model.safetensors").read_bytes() == (source_model / "model.safetensors").read_bytes()


def test_resuming_with_another_setting_is_refused_and_changes_nothing(
    files: Path, source_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in source_model.iterdir()}
    assert cli.run(["pretrain", "--out", str(source_model), "--resume", "--seed", "7"]) == 1
    assert capsys.readouterr().err == (
        f"error: --resume: training.seed is 1 in {source_model}/config.toml but 7 now; resume with the recorded "
        "settings (leave the flag out), or start anew with --overwrite\n"
    )
    assert {path.name: path.read_bytes() for path in source_model.iterdir()} == before


def test_a_run_that_has_ended_is_not_run_again(source_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in source_model.iterdir()}
    assert cli.run(["pretrain", "--out", str(source_model), "--resume"]) == 0
    assert capsys.readouterr().err == f"{source_model}: this run has ended; there is nothing to resume\n"
    assert {path.name: path.stat().st_mtime_ns for path in source_model.iterdir()} == before


def test_a_full_folder_is_not_written_to_unless_told(
    files: Path, source_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = pretrain_arguments(files, source_model)
    assert cli.run(arguments) == 1
    assert re.fullmatch(r"error: --out \S+: not empty; continue with --resume, .*\n", capsys.readouterr().err)
    out = tmp_path / "again"
    assert cli.run(pretrain_arguments(files, out)) == 0
    assert cli.run([*pretrain_arguments(files, out), "--overwrite", "--seed", "1"]) == 0
    assert (out / "model.safetensors").read_bytes() == (source_model / "model.safetensors").read_bytes()
