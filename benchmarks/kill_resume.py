"""Kill training at random moments with SIGKILL, resume it, and compare the weights with an uninterrupted run.

    python benchmarks/kill_resume.py [--times 10] [--seed 1] [--folder DIR]

Both commands run on the bundled treebanks through the command line, each run a process of its own with one thread. The
moments are uniform over the training time of the uninterrupted run; one run in three is killed again after it resumed.
A run that ended before its moment does not count. The runs are short, so they save their state every half second
instead of every twenty.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import shutil
import signal
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


def run(arguments: list[str], out: Path, moment: float | None = None) -> bool:
    """Return whether a run was killed, ``moment`` seconds after its training began; None lets it end."""
    log, start = out / "log.jsonl", time.time()
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    while process.poll() is None and moment is not None:
        if log.exists() and log.stat().st_mtime >= start:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            break
        time.sleep(0.005)
    if process.poll() is None and moment is not None:
        process.kill()
    if process.wait() not in (0, -signal.SIGKILL):
        sys.exit(f"failed: {' '.join(arguments)}")
    return process.returncode != 0


def training_seconds(out: Path) -> float:
    """Return the time from the opening of the log to its last event."""
    return float(json.loads((out / "log.jsonl").read_text().splitlines()[-1])["seconds"])


def weights(folder: Path) -> str:
    """Return the hash of the weights."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def experiment(name: str, flags: list[object], folder: Path, times: int, choose: random.Random) -> bool:
    """Return whether every killed and resumed run equals the uninterrupted one, after printing a row for each."""
    whole = folder / f"{name}-whole"
    run(command(name, *flags, "--out", whole), whole)
    seconds = training_seconds(whole)
    print(f"\n{name}: {seconds:.1f} s of training\n\n| killed after (s) | had saved a state | weights |")
    print("| --- | --- | --- |")
    done = equal = 0
    while done < times:
        out = folder / f"{name}-{done}"
        kills = []
        arguments = command(name, *flags, "--out", out)
        for _ in range(choose.choice((1, 1, 2))):
            moment = choose.uniform(0, seconds)
            if run(arguments, out, moment):
                kills.append((moment, (out / "state.safetensors").exists()))
            arguments = command(name, "--out", out, "--resume")
        run(arguments, out)
        if kills:  # else the run was over before its moment, and is drawn again
            done += 1
            same = weights(out) == weights(whole)
            equal += same
            moments = ", ".join(f"{moment:.1f}" for moment, _ in kills)
            states = ", ".join("yes" if saved else "no" for _, saved in kills)
            print(f"| {moments} | {states} | {'equal' if same else 'DIFFERENT'} |", flush=True)
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
        improve: list[object] = ["--from", folder / "pretrain-whole", "--target", TARGET.unlabeled, "--epochs", 4]
        improve += ["--set", "nes.population=20", "--set", "training.batch_size=32"]
        done = [experiment("pretrain", learn, folder, options.times, choose)]
        done.append(experiment("adapt", improve, folder, options.times, choose))
    sys.exit(0 if all(done) else 1)


if __name__ == "__main__":
    main()
