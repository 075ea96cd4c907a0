"""Times one gradient of each method against sentence length, after figure 2 of Berliner et al. (2022).

    OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 python benchmarks/figure2.py --json benchmarks/results/figure2.json \
        --markdown docs/benchmark-figure2.md --plot docs/images/figure2.svg

32 random sentences of each length over 10,000 words, the published sizes of encoder and language model, NES with N = 4.
A step is one forward and backward pass on one core. The clock is CPU time, the best of ``--rounds``. ``work`` divides
NES's seconds by its N members, which the paper spread over as many devices. The slope is that of the logarithms from 40
words on. Memory is how far the peak of a fresh process rose during the steps.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parser_vae.methods import METHODS, Method
from parser_vae.parsing.batches import Batch
from parser_vae.parsing.decoder import DecoderSettings
from parser_vae.parsing.encoder import EncoderSettings
from parser_vae.parsing.model import TREE_FAMILIES, ParserModel
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.parsing.vocabulary import Vocabulary

WORDS = 10_000
SENTENCES = 32
MEMBERS = 4
PANELS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "projective": {
        "NES (Eisner)": ("nes", {"population": MEMBERS}),
        "NES on scores (Eisner)": ("nes", {"population": MEMBERS, "perturb": "scores"}),
        "DPP": ("dpp", {}),
    },
    "spanning": {
        "NES (CLE)": ("nes", {"population": MEMBERS}),
        "NES on scores (CLE)": ("nes", {"population": MEMBERS, "perturb": "scores"}),
        "SparseMAP, 10 iterations": ("sparsemap", {"max_iter": 10}),
    },
}


def random_model(family: str) -> ParserModel:
    torch.manual_seed(0)
    settings = EncoderSettings.model_validate({"preset": "kg"})
    forms = [f"w{number}" for number in range(WORDS)]
    vocabulary = Vocabulary.build([(forms, ["X"] * WORDS, ["dep"] * WORDS)], settings.numbers, decoder_min_count=1)
    decoder = DecoderSettings(alignment="previous", predict_end=False)
    model = ParserModel(settings, decoder, vocabulary, [], None, family).eval()  # type: ignore[arg-type]
    for parameter in model.decoder.parameters():
        parameter.requires_grad = False
    return model


def random_batch(model: ParserModel, length: int) -> Batch:
    choose = np.random.default_rng(length)
    sentences = [[f"w{number}" for number in choose.integers(0, WORDS, length)] for _ in range(SENTENCES)]
    return model.indexer.batch([model.indexer.encode(words) for words in sentences])


def seconds(problem: ParsingProblem, method: Method[Batch], batch: Batch, rounds: int) -> list[float]:
    times = []
    for seed in range(rounds):
        problem.model.zero_grad()
        start = time.process_time()
        method.backward(problem, batch, torch.Generator().manual_seed(seed))
        times.append(time.process_time() - start)
    return times


def in_a_child(problem: ParsingProblem, method: Method[Batch], batch: Batch, rounds: int) -> dict[str, float]:
    """Return seconds and mebibytes of a step, done in a fork whose peak of memory is its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = seconds(problem, method, batch, rounds)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(writing, json.dumps({"seconds": min(times), "mebibytes": (after - before) / 1024}).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        result: dict[str, float] = json.loads(pipe.read())
    os.waitpid(child, 0)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", default="10,20,40,80,160,250")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [int(size) for size in options.n.split(",")]
    result: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/figure2.py", *sys.argv[1:]]),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": os.getloadavg()[0],
        "n": sizes,
        "panels": {},
    }
    for family, contestants in PANELS.items():
        model = random_model(family)
        problem = ParsingProblem(model, TREE_FAMILIES[family](single_root=False))  # type: ignore[index]
        rows: dict[str, Any] = {}
        for name, (method_name, settings) in contestants.items():
            if method_name not in METHODS:
                print(f"{name}: there is no method '{method_name}' here", file=sys.stderr)
                continue
            method = METHODS[method_name](**settings)
            seconds(problem, method, random_batch(model, 10), 1)  # compiles in the parent, for all children
            points = [in_a_child(problem, method, random_batch(model, size), options.rounds) for size in sizes]
            times = [point["seconds"] for point in points]
            long = [index for index, size in enumerate(sizes) if size >= 40]
            slope = np.polyfit(np.log([sizes[i] for i in long]), np.log([times[i] for i in long]), 1)[0]
            rows[name] = {
                "seconds": times,
                "work_seconds": [value / (MEMBERS if method_name == "nes" else 1) for value in times],
                "mebibytes": [point["mebibytes"] for point in points],
                "slope": float(slope),
            }
            print(name, times, file=sys.stderr, flush=True)
        result["panels"][family] = rows
    result["load_after"] = os.getloadavg()[0]
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(page(result))
    if options.plot:
        plot(result, options.plot)
    print(page(result))


def page(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    sizes = result["n"]
    lines = [
        "# A gradient's time against sentence length",
        "",
        f"`{result['command']}` at `{result['commit'][:9]}`. {SENTENCES} random sentences of n words, one core, NES "
        f"with N = {MEMBERS}. CPU seconds of a step; the machine's load was {result['load_before']:.1f} before and "
        f"{result['load_after']:.1f} after (other people's work).",
        "",
        "![Seconds of a step against n](images/figure2.svg)",
        "",
    ]
    for family, rows in result["panels"].items():
        lines += [
            f"## {family.capitalize()} trees",
            "",
            "| method | " + " | ".join(f"n = {size}" for size in sizes) + " | slope | work at the longest | peak MiB |",
            "| --- |" + " ---: |" * (len(sizes) + 3),
        ]
        for name, row in rows.items():
            cells = " | ".join(f"{value:.3f}" for value in row["seconds"])
            work, peak = row["work_seconds"][-1], row["mebibytes"][-1]
            lines.append(f"| {name} | {cells} | {row['slope']:.2f} | {work:.3f} | {peak:.0f} |")
        lines.append("")
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw one panel for each family of trees."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(result["panels"]), figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, (family, rows) in zip(axes, result["panels"].items(), strict=True):
        for name, row in rows.items():
            axis.loglog(result["n"], row["seconds"], "o-", label=f"{name}, slope {row['slope']:.1f}")
        axis.set(title=f"{family} trees", xlabel="words in a sentence")
        axis.legend(fontsize=8)
    axes[0].set_ylabel("CPU seconds of a step")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
