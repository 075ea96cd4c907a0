"""Several processes that share the work of NES: the weights of one, and what happens when one is lost."""

import json
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.conftest import adapt_arguments

# One process does a run of its own, which loads and compiles everything, and forks the processes of each further run as
# torchrun would start them. The last process of a run may be killed at a given step.
DRIVER = """
import json, os, signal, socket, sys
from parser_vae import cli
from parser_vae.parsing import problem
from parser_vae.training import loop

loop.SECONDS_BETWEEN_CHECKPOINTS = 0.0
problem.PART = 3  # sentences; so small that a batch has two parts or three

def be(rank, count, port, killed_at, arguments):
    os.environ.update(
        TORCHELASTIC_RUN_ID="test", RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=port
    )
    original, calls = loop.Loop._step, 0
    def step(self, indices):
        nonlocal calls
        calls += 1
        if rank == count - 1 and calls == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, indices)
    loop.Loop._step = step
    os._exit(cli.run(arguments))

first, *runs = json.loads(sys.stdin.read())
assert cli.run(first) == 0
for count, killed_at, arguments in runs:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in range(count):
        children.append(os.fork())
        if children[-1] == 0:
            be(rank, count, port, killed_at, arguments)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(json.dumps(codes), flush=True)
"""


def test_any_number_of_processes_gives_the_same_weights_and_one_that_is_lost_costs_only_time(
    files: Path, source_model: Path, tmp_path: Path
) -> None:
    def arguments(name: str, *more: str) -> list[str]:
        return [
            *adapt_arguments(files, source_model, tmp_path / name),
            "--set=nes.population=48",
            "--set=nes.memory=1",
            *more,
        ]

    scores = ["--set=nes.perturb=scores"]
    resume = ["adapt", "--out", str(tmp_path / "killed"), "--resume", "--quiet", "--threads=1"]
    runs: list[tuple[int, int, list[str]]] = [
        (2, 0, arguments("two")),
        (1, 0, arguments("scores-one", *scores)),
        (2, 0, arguments("scores-two", *scores)),
        (4, 0, arguments("scores-four", *scores)),
        (2, 3, arguments("killed")),
        (4, 0, resume),
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER],
        input=json.dumps([arguments("one"), *runs]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    codes = [json.loads(line) for line in done.stdout.splitlines()]
    assert codes == [[0, 0], [0], [0, 0], [0] * 4, [1, -9], [0] * 4], done.stderr
    assert (
        "error: process 0 of 2 lost touch with another one, which ended or was killed; its own message says why. "
        "Nothing that was saved is lost: start again with --resume, on any number of processes\n"
    ) in done.stderr

    def course(name: str) -> tuple[bytes, list[float]]:
        """Return the final weights, and the objective of each update, which tells weights apart that were not kept."""
        log = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        objectives = [event["objective"] for event in log if event["event"] == "update"]
        return (tmp_path / name / "model.safetensors").read_bytes(), objectives

    assert course("two") == course("killed") == course("one")
    assert course("scores-two") == course("scores-four") == course("scores-one")
    assert len(set(course("one")[1])) == len(set(course("scores-one")[1])) == 6
