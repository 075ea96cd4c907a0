"""Kill training at random moments with SIGKILL, resume it, and compare the weights with an uninterrupted run.

    python benchmarks/kill_resume.py [--times 10] [--seed 1] [--folder DIR]

Both commands run on the bundled treebanks through the command line, each run a process of its own with one thread. The
moments are uniform over the time of the uninterrupted run, its start and imports included; a resumed run is killed once
more with probability one half. The runs are short, so they save their state every half second instead of every twenty.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from parser_vae.treebank.catalog import bundled

PROGRAM = """
import sys
from parser_vae import cli
from parser_vae.training import loop
loop.SECONDS_BETWEEN_CHECKPOINTS = 0.5
sys.exit(cli.run(sys.argv[1:]))
"""
SOURCE, TARGET = bundled("tiny-source"), bundled("tiny-target")


def command(*words: object) -> list[str]:
    """Return a command line that runs in this Python."""
    return [sys.executable, "-c", PROGRAM, *map(str, words), "--quiet", "--threads", "1"]


def run(arguments: list[str], limit: float | None = None) -> float | None:
    """Return the seconds a process took, or None if it was killed after ``limit`` seconds."""
    start = time.monotonic()
    process = subprocess.Popen(arguments)
    try:
        if process.wait(limit) != 0:
            sys.exit(f"failed: {' '.join(arguments)}")
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
    return time.monotonic() - start


def weights(folder: Path) -> str:
    """Return the hash of the weights."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def experiment(name: str, flags: list[object], folder: Path, times: int, choose: random.Random) -> bool:
    """Return whether every killed and resumed run equals the uninterrupted one, after printing a row for each."""
    whole = folder / f"{name}-whole"
    seconds = run(command(name, *flags, "--out", whole))
    assert seconds is not None
    print(f"\n{name}: {seconds:.1f} s uninterrupted\n\n| killed after (s) | had saved a state | weights |")
    print("| --- | --- | --- |")
    equal = 0
    for number in range(times):
        out = folder / f"{name}-{number}"
        moments = [choose.uniform(0, seconds)] + [choose.uniform(0, seconds)] * (choose.random() < 0.5)
        states = []
        arguments = command(name, *flags, "--out", out)
        for moment in moments:
            # A run that was faster this time ends before its moment.
            ended = run(arguments, moment) is not None
            states.append("ended" if ended else "yes" if (out / "state.safetensors").exists() else "no")
            if (out / "config.toml").exists():
                arguments = command(name, "--out", out, "--resume")
        run(arguments)
        same = weights(out) == weights(whole)
        equal += same
        shown = ", ".join(f"{moment:.1f}" for moment in moments)
        print(f"| {shown} | {', '.join(states)} | {'equal' if same else 'DIFFERENT'} |", flush=True)
        shutil.rmtree(out)
    print(f"\n{name}: {equal} of {times} equal, bit for bit")
    return equal == times


def main() -> None:
    """Run both experiments; the exit code is 0 if all runs are equal."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--times", type=int, default=10)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    options = arguments.parse_args()
    choose = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        learn: list[object] = ["--train", SOURCE.train, "--dev", SOURCE.dev, "--epochs", 3]
        learn += ["--set", "encoder.hidden=50", "--set", "encoder.character_size=20"]
        improve: list[object] = ["--from", folder / "pretrain-whole", "--target", TARGET.unlabeled, "--epochs", 2]
        improve += ["--set", "nes.population=10", "--set", "training.batch_size=32"]
        done = [experiment("pretrain", learn, folder, options.times, choose)]
        done.append(experiment("adapt", improve, folder, options.times, choose))
    sys.exit(0 if all(done) else 1)


if __name__ == "__main__":
    main()
