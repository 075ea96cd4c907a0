"""Adapts a parser by NES and by gradient methods for equal CPU time, and draws what each reaches.

    PARSER_VAE_DATA=DIR OMP_NUM_THREADS=1 python benchmarks/equal_budget.py run --model runs/treegal [--seconds 60]
    python benchmarks/equal_budget.py table

All methods start from the same model and see the same batches of 128 raw target sentences; trees are projective, the
language model is frozen, there is no divergence, and Adam's rate is the default one. Every few seconds of training the
clock stops and two things are measured: the language model's loss on held-out target sentences (about a tenth, never
trained on), for the best tree and for the mean over best trees under four fixed draws of Gumbel noise, which is what
all but the score function mean to lower; and attachment on the target's dev file, which no choice here depends on. The
budget counts CPU seconds of gradients and optimiser steps; evaluations count trees (or soft trees) judged. A method
that is in the result already is not run again, so a run that was stopped continues with the next one.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from parser_vae.files import write_text_atomically
from parser_vae.methods import (
    DifferentiablePerturbAndParse,
    Direct,
    Method,
    NaturalEvolution,
    ScoreFunction,
    SparseMAP,
)
from parser_vae.parser import Parser
from parser_vae.parsing.batches import Batch, Encoded, shuffled_batches, token_batches
from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.parsing.storage import extend_with_target
from parser_vae.structures import ProjectiveTrees
from parser_vae.structures.noise import gumbel
from parser_vae.training.heldout import HeldOut, hold_out
from parser_vae.training.settings import AdaptTraining
from parser_vae.treebank.conllu import read_treebank

RESULT = Path(__file__).parent / "results" / "equal-budget.json"
PLOT = Path(__file__).parents[1] / "docs" / "images" / "equal-budget.svg"
METHODS: dict[str, Method[Batch]] = {
    "dpp": DifferentiablePerturbAndParse(),
    "sparsemap": SparseMAP(),
    "direct, epsilon 1": Direct(epsilon=1.0),
    "score function, leave one out": ScoreFunction(samples=4),
    "nes on scores, N = 400": NaturalEvolution(400, 1.0, perturb="scores"),
    "nes on scores, N = 20": NaturalEvolution(20, 1.0, perturb="scores"),
    "nes on parameters, rank 1, N = 400": NaturalEvolution(400, 0.03, rank=1),
}
DRAWS = 4
LOOKS = 6


class Watch:
    """What is measured while the clock stands: held-out loss and attachment on dev."""

    def __init__(self, model: ParserModel, held_out: list[Encoded], dev: HeldOut) -> None:
        groups = token_batches([one.length for one in held_out], 4000, 64)
        self.batches = [model.indexer.batch([held_out[i] for i in group]) for group in groups]
        self.dev = dev

    @torch.no_grad()
    def values(self, problem: ParsingProblem) -> dict[str, float]:
        """Return ``best``, ``perturbed`` (nats a word, mean over sentences) and ``dev_uas`` (percent)."""
        generator = torch.Generator().manual_seed(0)
        totals, sentences = torch.zeros(2, dtype=torch.float64), 0
        for batch in self.batches:
            scores = problem.scores(batch)
            noisy = [scores, *(scores + gumbel(scores, generator) for _ in range(DRAWS))]
            trees = [problem.structure.argmax(one, batch.lengths).bool() for one in noisy]
            losses = problem.population_reconstruction(batch, trees).double().sum(1)
            totals += torch.stack([losses[0], losses[1:].mean()])
            sentences += len(batch)
        best, perturbed = (totals / sentences).tolist()
        return {"best": best, "perturbed": perturbed, "dev_uas": self.dev.values(problem.model)["dev_uas"]}


def adapted(
    model: ParserModel, method: Method[Batch], target: list[Encoded], watch: Watch, seconds: float, seed: int
) -> list[dict[str, float]]:
    """Return the course of one adaptation: budget spent and values reached, from before the first update on."""
    problem = ParsingProblem(model, ProjectiveTrees(single_root=False))
    defaults = AdaptTraining.model_validate({})
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=defaults.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    method.backward(problem, model.indexer.batch(target[:2]), torch.Generator().manual_seed(0))  # compiles
    course: list[dict[str, float]] = []
    spent, evaluations, updates, next_look = 0.0, 0, 0, 0.0
    groups: list[list[int]] = []
    while True:
        if spent >= next_look or spent >= seconds:
            course.append(watch.values(problem) | {"seconds": spent, "evaluations": evaluations, "updates": updates})
            next_look = spent + seconds / LOOKS
            if spent >= seconds:
                return course
        if not groups:
            groups = shuffled_batches([one.length for one in target], defaults.batch_size, generator)
        batch = model.indexer.batch([target[i] for i in groups.pop()])
        start = time.process_time()
        optimiser.zero_grad()
        estimate = method.backward(problem, batch, generator)
        torch.nn.utils.clip_grad_norm_(list(model.parameters()), defaults.clip)
        optimiser.step()
        spent += time.process_time() - start
        evaluations += estimate.evaluations
        updates += 1


def run(arguments: argparse.Namespace) -> None:
    """Run the methods that the result lacks and write it after each."""
    torch.set_num_threads(1)
    data = Path(os.environ["PARSER_VAE_DATA"], "treebanks", arguments.treebank)
    train, held_out = hold_out(read_treebank(data / "unlabeled.conllu", trees="ignore").sentences)
    dev = read_treebank(data / "dev.conllu").sentences
    source = extend_with_target(Parser.load(arguments.model).model, [s.forms for s in [*train, *held_out]]).eval()
    for parameter in source.decoder.parameters():
        parameter.requires_grad = False
    target, watched = ([source.indexer.encode(s.forms) for s in some] for some in (train, held_out))
    watch = Watch(source, watched, HeldOut(source.indexer, dev))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    settings = {"model": arguments.model.name, "treebank": arguments.treebank, "seed": arguments.seed}
    settings |= {"held_out": len(watched), "train": len(target), "dev": len(dev)}
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else settings | {"courses": {}}
    if {key: result[key] for key in settings} != settings:
        sys.exit(f"{RESULT} was made with other settings; move it away")
    for label, method in METHODS.items():
        if label not in result["courses"]:
            course = adapted(copy.deepcopy(source), method, target, watch, arguments.seconds, arguments.seed)
            result["courses"][label] = {"commit": commit, "budget": arguments.seconds, "course": course}
            write_text_atomically(RESULT, json.dumps(result, indent=1) + "\n")
            print(label, course[0], course[-1], file=sys.stderr, flush=True)


def table() -> str:
    """Return the kept result as a Markdown table."""
    lines = [
        "| method | updates | CPU s | evaluations | held-out loss, best tree | under noise | UAS, dev |",
        "| --- |" + " ---: |" * 6,
    ]
    courses = {label: one["course"] for label, one in json.loads(RESULT.read_text())["courses"].items()}
    first = next(iter(courses.values()))[0]
    for label, last in {"before": first, **{label: course[-1] for label, course in courses.items()}}.items():
        lines.append(
            f"| {label} | {last['updates']} | {last['seconds']:.0f} | {last['evaluations']:,} | {last['best']:.3f} | "
            f"{last['perturbed']:.3f} | {last['dev_uas']:.2f} |"
        )
    return "\n".join(lines)


def plot() -> None:
    """Draw loss and attachment against CPU seconds and against evaluations."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "equal-budget"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), sharey="row", layout="constrained")
    for label, one in json.loads(RESULT.read_text())["courses"].items():
        for row, value in enumerate(("perturbed", "dev_uas")):
            heights = [point[value] for point in one["course"]]
            axes[row, 0].plot([point["seconds"] for point in one["course"]], heights, ".-", label=label)
            # the start has no place on a logarithmic axis
            axes[row, 1].plot([point["evaluations"] for point in one["course"][1:]], heights[1:], ".-", label=label)
    for row, title in enumerate(("held-out loss under noise, nats a word", "UAS on the target's dev file")):
        axes[row, 0].set_ylabel(title)
        axes[row, 0].set_xlabel("CPU seconds")
        axes[row, 1].set(xscale="log", xlabel="trees judged")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    """Run, or print the table and draw the plot of the kept result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--treebank", default="gl_ctg")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of training of each method")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.action == "table":
        print(table())
        plot()
        return
    if arguments.model is None or "PARSER_VAE_DATA" not in os.environ:
        parser.error("run needs --model, and PARSER_VAE_DATA must name the folder with treebanks/")
    run(arguments)


if __name__ == "__main__":
    main()
