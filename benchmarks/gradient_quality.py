"""Bias and variance of every method's gradient on real sentences, and a plot.

    PARSER_VAE_DATA=DIR python benchmarks/gradient_quality.py measure --model DIR [--seconds 0.6] [--seed 1]
    python benchmarks/gradient_quality.py table

The gradient is that of the mean objective over a fixed batch of sentences with respect to their arc scores, which are
the parameters here: what an encoder receives. Trees are projective with any number of roots, there is no divergence and
the decoder is frozen. Two reconstructions: the model's language model, and a random loss for each arc, added up. With
the language model a few methods, among them noise on the network's own parameters, are also judged by the gradient of
those parameters.

Two expectations exist, and a method is compared with the one that it estimates: over trees from ``exp(score) / Z``
(``gibbs``), and over best trees under Gumbel noise (``perturbation``). References: for arc losses under ``gibbs`` the
exact gradient, by marginals; else the mean of ``--long-run`` draws a sentence (under ``perturbation`` ten times as
many) of the score function with a leave-one-out baseline, whose error is subtracted from squared biases and reported.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from parser_vae.methods import (
    DifferentiablePerturbAndParse,
    Direct,
    ImplicitMLE,
    Importance,
    Method,
    NaturalEvolution,
    PerturbedOptimiser,
    Relaxed,
    ScoreFunction,
    SparseMAP,
    Touched,
)
from parser_vae.parser import Parser
from parser_vae.parsing.batches import Batch
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.parsing.storage import extend_with_target
from parser_vae.structures import ProjectiveTrees
from parser_vae.treebank.conllu import read_treebank

RESULT = Path(__file__).parent / "results" / "gradient-quality.json"
PLOT = Path(__file__).parents[1] / "docs" / "images" / "gradient-quality.svg"
Expectation = Literal["gibbs", "perturbation"]

# label: what it estimates, method
METHODS: dict[str, tuple[Expectation, Method[Batch]]] = {
    "score function, no baseline": ("gibbs", ScoreFunction(samples=4, baseline="none")),
    "score function, batch": ("gibbs", ScoreFunction(samples=4, baseline="batch")),
    "score function, leave one out": ("gibbs", ScoreFunction(samples=4)),
    "score function, leave one out, 32 samples": ("gibbs", ScoreFunction(samples=32)),
    "importance, mixture": ("gibbs", Importance(samples=4, proposal="mixture")),
    "perturbation score, no baseline": ("perturbation", ScoreFunction("perturbation", 4, "none")),
    "perturbation score, leave one out": ("perturbation", ScoreFunction("perturbation", 4)),
    "nes on scores, sigma 0.1, N 50": ("perturbation", NaturalEvolution(50, 0.1, "raw", perturb="scores")),
    "nes on scores, sigma 0.3, N 50": ("perturbation", NaturalEvolution(50, 0.3, "raw", perturb="scores")),
    "nes on scores, sigma 1, N 50": ("perturbation", NaturalEvolution(50, 1.0, "raw", perturb="scores")),
    "perturbed optimiser, 8 samples": ("perturbation", PerturbedOptimiser(samples=8)),
    "direct, epsilon 10": ("perturbation", Direct(epsilon=10.0)),
    "direct, epsilon 1": ("perturbation", Direct(epsilon=1.0)),
    "direct, epsilon 0.1": ("perturbation", Direct(epsilon=0.1)),
    "implicit mle, lambda 10": ("perturbation", ImplicitMLE(strength=10.0, noise="gumbel")),
    "dpp": ("perturbation", DifferentiablePerturbAndParse()),
    "sparsemap": ("perturbation", SparseMAP()),
    "relaxed, temperature 1": ("perturbation", Relaxed(temperature=1.0)),
    "relaxed, temperature 0.3": ("perturbation", Relaxed(temperature=0.3, floor=0.1)),
}
ON_PARAMETERS: dict[str, tuple[Expectation, Method[Batch]]] = {
    label: METHODS[label]
    for label in (
        "score function, leave one out",
        "perturbation score, leave one out",
        "nes on scores, sigma 1, N 50",
        "dpp",
    )
} | {
    "nes on parameters, sigma 0.03, N 50": ("perturbation", NaturalEvolution(50, 0.03, "raw")),
    "nes on parameters, sigma 0.03, N 50, rank 1": ("perturbation", NaturalEvolution(50, 0.03, "raw", rank=1)),
}
LABELS = list(METHODS | ON_PARAMETERS)
PART = 5000  # draws of a long run at a time


class ScoresProblem:
    """Fixed sentences whose arc scores are the parameters; judged by a language model, or by a loss for each arc."""

    def __init__(self, parsing: ParsingProblem, scores: Tensor, lengths: Tensor, losses: Tensor | None) -> None:
        self.parsing, self.structure, self.sizes, self.losses = parsing, parsing.structure, lengths, losses
        self.module = nn.Module()
        self.module.scores = nn.Parameter(scores.clone())

    def touched(self, batch: Batch) -> list[Touched]:
        return [Touched("scores", self.module.scores)]

    def lengths(self, batch: Batch) -> Tensor:
        return self.sizes

    def scores(self, batch: Batch) -> Tensor:
        return self.module.scores * 1.0

    def reconstruction(self, batch: Batch, latent: Tensor) -> Tensor:
        if self.losses is None:
            return self.parsing.reconstruction(batch, latent)
        return (self.losses * latent).flatten(1).sum(1) / self.sizes

    def population_reconstruction(self, batch: Batch, latents: Sequence[Tensor]) -> Tensor:
        if self.losses is None:
            return self.parsing.population_reconstruction(batch, latents)
        every = torch.stack(list(latents)).to(self.losses.dtype)
        return (self.losses * every).flatten(2).sum(2) / self.sizes

    def reconstruction_is_shared(self, batch: Batch) -> bool:
        return True

    def features(self, batch: Batch) -> Tensor:
        return self.parsing.features(batch)

    def divergence(self, batch: Batch, scores: Tensor) -> None:
        return None

    def replica(self) -> ScoresProblem:
        return ScoresProblem(self.parsing, self.module.scores.data, self.sizes, self.losses)

    def draw(self, method: Method[Batch], batch: Batch, seed: int) -> tuple[Tensor, int]:
        """Return one gradient ``[parts]`` and the evaluations that it took."""
        self.module.zero_grad()
        estimate = method.backward(self, batch, torch.Generator().manual_seed(seed))
        inside = self.structure.readable(self.module.scores.detach(), self.sizes)
        assert self.module.scores.grad is not None
        return self.module.scores.grad[inside].double().clone(), estimate.evaluations


class EncoderProblem(ScoresProblem):
    """The same sentences, judged by the language model, where the encoder's weights are the parameters."""

    def __init__(self, parsing: ParsingProblem, lengths: Tensor) -> None:
        super().__init__(parsing, torch.zeros(1), lengths, None)
        self.module = parsing.module.encoder

    def touched(self, batch: Batch) -> list[Touched]:
        prefix = "encoder."
        return [Touched(t.name.removeprefix(prefix), t.parameter, t.rows) for t in self.parsing.touched(batch)]

    def scores(self, batch: Batch) -> Tensor:
        return self.parsing.scores(batch)

    def draw(self, method: Method[Batch], batch: Batch, seed: int) -> tuple[Tensor, int]:
        """Return one gradient ``[values of touched]`` and the evaluations that it took."""
        self.module.zero_grad()
        estimate = method.backward(self, batch, torch.Generator().manual_seed(seed))
        found = []
        for item in self.touched(batch):
            assert item.parameter.grad is not None
            found.append(item.parameter.grad if item.rows is None else item.parameter.grad[item.rows])
        return torch.cat([values.double().flatten() for values in found]), estimate.evaluations


@dataclass(frozen=True)
class Reference:
    """A gradient and the expected square of its error."""

    gradient: Tensor
    error: float


def load(
    model: Path, file: Path, sentences: int, shortest: int, longest: int, seed: int
) -> tuple[ParsingProblem, Batch]:
    """Return the model's problem with frozen parameters, and a batch of sentences of the wanted lengths."""
    chosen = [s for s in read_treebank(file, trees="ignore").sentences if shortest <= len(s.forms) <= longest]
    random.Random(seed).shuffle(chosen)
    chosen = chosen[:sentences]
    parser = extend_with_target(Parser.load(model).model, [sentence.forms for sentence in chosen]).eval()
    parser.requires_grad_(False)
    batch = parser.indexer.batch([parser.indexer.encode(sentence.forms) for sentence in chosen])
    return ParsingProblem(parser, ProjectiveTrees(single_root=False)), batch


def long_run(problem: ScoresProblem, batch: Batch, kind: Expectation, draws: int) -> Reference:
    """Return the score function's mean over ``draws`` trees a sentence."""
    parts = max(10, draws // PART)
    method: ScoreFunction[Batch] = ScoreFunction(kind, samples=draws // parts)
    runs = torch.stack([problem.draw(method, batch, 10_000 + part)[0] for part in range(parts)])
    return Reference(runs.mean(0), float(runs.var(0).sum()) / parts)


def exact_by_marginals(problem: ScoresProblem, batch: Batch) -> Reference:
    """Return the exact gradient where losses add up over arcs."""
    problem.module.zero_grad()
    marginals = problem.structure.marginals(problem.scores(batch), problem.sizes)
    problem.reconstruction(batch, marginals).mean().backward()
    assert problem.module.scores.grad is not None
    inside = problem.structure.readable(problem.module.scores.detach(), problem.sizes)
    return Reference(problem.module.scores.grad[inside].double().clone(), 0.0)


def quality(
    problem: ScoresProblem,
    batch: Batch,
    method: Method[Batch],
    references: dict[Expectation, Reference],
    own: Expectation,
    seconds: float,
) -> dict[str, Any]:
    """Return bias, variance, cosines and cost of a method's gradient."""
    problem.draw(method, batch, 0)  # compiles
    start = time.process_time()
    found: list[tuple[Tensor, int]] = []
    while len(found) < 5 or time.process_time() - start < seconds:
        found.append(problem.draw(method, batch, 1 + len(found)))
    draws = len(found)
    spent = (time.process_time() - start) / draws
    gradients = torch.stack([gradient for gradient, _ in found])
    mean, variance = gradients.mean(0), float(gradients.var(0).sum())
    reference = references[own]
    norm = float(reference.gradient.norm())
    noise = variance / draws + reference.error
    squared = float((mean - reference.gradient).square().sum()) - noise
    cosines = torch.nn.functional.cosine_similarity(gradients, reference.gradient[None], dim=1)
    return {
        "expectation": own,
        "bias": max(0.0, squared) ** 0.5 / norm,
        # below this a bias cannot be told from the noise of the two means
        "resolution": noise**0.5 / norm,
        "variance": variance / norm**2,
        "cosine_of_mean": {
            kind: float(torch.nn.functional.cosine_similarity(mean, other.gradient, dim=0))
            for kind, other in references.items()
        },
        "cosine_of_one_draw": float(cosines.nan_to_num(0.0).mean()),
        "evaluations": found[0][1],
        "draws": draws,
        "cpu_seconds": spent,
    }


def measure(arguments: argparse.Namespace) -> None:
    """Measure every method under both reconstructions and write the result."""
    torch.set_num_threads(1)
    file = Path(os.environ["PARSER_VAE_DATA"], "treebanks", arguments.treebank, "dev.conllu")
    parsing, batch = load(arguments.model, file, arguments.sentences, 5, arguments.longest, arguments.seed)
    with torch.no_grad():
        scores = parsing.scores(batch)
    losses = torch.randn(scores.shape, generator=torch.Generator().manual_seed(arguments.seed))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    tables: dict[str, Any] = {}
    problems: dict[str, tuple[ScoresProblem, dict[str, tuple[Expectation, Method[Batch]]]]] = {
        "arc losses": (ScoresProblem(parsing, scores, batch.lengths, losses), METHODS),
        "language model": (ScoresProblem(parsing, scores, batch.lengths, None), METHODS),
        "language model, gradient of the parameters": (EncoderProblem(parsing, batch.lengths), ON_PARAMETERS),
    }
    for objective, (problem, methods) in problems.items():
        parsing.module.encoder.requires_grad_(isinstance(problem, EncoderProblem))
        gibbs = (
            long_run(problem, batch, "gibbs", arguments.long_run)
            if problem.losses is None
            else exact_by_marginals(problem, batch)
        )
        # searches under noise need a longer run
        references: dict[Expectation, Reference] = {
            "gibbs": gibbs,
            "perturbation": long_run(problem, batch, "perturbation", 10 * arguments.long_run),
        }
        between = torch.nn.functional.cosine_similarity(*(one.gradient for one in references.values()), dim=0)
        rows = {}
        for label, (own, method) in methods.items():
            rows[label] = quality(problem, batch, method, references, own, arguments.seconds)
            print(f"{time.process_time():.0f} s: {objective}, {label}", rows[label], file=sys.stderr, flush=True)
        tables[objective] = {
            "norms": {kind: float(one.gradient.norm()) for kind, one in references.items()},
            "relative_errors": {k: one.error**0.5 / float(one.gradient.norm()) for k, one in references.items()},
            "cosine_between_references": float(between),
            "methods": rows,
        }
        settings = {key: value for key, value in vars(arguments).items() if key not in ("action", "model")}
        result = settings | {
            "model": arguments.model.name,
            "commit": commit,
            "words": int(batch.lengths.sum()),
            "cpu_seconds": time.process_time(),
            "objectives": tables,
        }
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


def table() -> str:
    """Return the kept result as Markdown tables."""
    lines = []
    for objective, found in json.loads(RESULT.read_text())["objectives"].items():
        lines += [
            f"**{objective}** (cosine between the two references {found['cosine_between_references']:.2f}; their own "
            f"relative errors: gibbs {found['relative_errors']['gibbs']:.3f}, perturbation "
            f"{found['relative_errors']['perturbation']:.3f})",
            "",
            "| method | compared with | bias | variance | cosine, mean | one draw | evaluations | CPU ms | draws |",
            "| --- | --- |" + " ---: |" * 7,
        ]
        for label, row in found["methods"].items():
            seen = f"{row['bias']:.2f}" if row["bias"] > row["resolution"] else f"< {row['resolution']:.2f}"
            lines.append(
                f"| {label} | {row['expectation']} | {seen} | {row['variance']:.3g} | "
                f"{row['cosine_of_mean'][row['expectation']]:.2f} | {row['cosine_of_one_draw']:.2f} | "
                f"{row['evaluations']} | {1000 * row['cpu_seconds']:.0f} | {row['draws']} |"
            )
        lines.append("")
    return "\n".join(lines)


def plot() -> None:
    """Draw bias against variance of every method."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "gradient-quality"
    import matplotlib.pyplot as plt

    found = json.loads(RESULT.read_text())["objectives"]
    figure, axes = plt.subplots(1, len(found), figsize=(16, 6.2), sharey=True)
    for axis, (objective, one) in zip(axes, found.items(), strict=True):
        for label, row in one["methods"].items():
            number = 1 + LABELS.index(label)
            resolved = row["bias"] > row["resolution"]
            colour = "tab:blue" if row["expectation"] == "gibbs" else "tab:orange"
            height = row["bias"] if resolved else row["resolution"]
            axis.scatter(row["variance"], height, marker="o" if resolved else "v", color=colour, s=30)
            axis.annotate(str(number), (row["variance"], height), xytext=(4, 4), textcoords="offset points", fontsize=8)
        axis.set(
            xscale="log", yscale="log", title=objective, xlabel="trace of the variance / squared norm of the reference"
        )
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("norm of the bias / norm of the reference")
    for name, colour in (("gibbs", "tab:blue"), ("perturbation", "tab:orange")):
        axes[0].scatter([], [], color=colour, label=f"compared with: {name}")
    axes[0].scatter([], [], color="gray", marker="v", label="bias not resolved: at most about this")
    axes[0].legend(fontsize=8, loc="upper left")
    numbered = "\n".join(f"{number}  {label}" for number, label in enumerate(LABELS, start=1))
    figure.text(0.775, 0.5, numbered, fontsize=9, va="center")
    figure.subplots_adjust(left=0.05, right=0.76, wspace=0.06)
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    """Measure, or print the table and draw the plot of the kept result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["measure", "table"])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--treebank", default="gl_ctg")
    parser.add_argument("--sentences", type=int, default=10)
    parser.add_argument("--longest", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.6, help="CPU seconds of draws of each method")
    parser.add_argument("--long-run", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.action == "table":
        print(table())
        plot()
        return
    if arguments.model is None or "PARSER_VAE_DATA" not in os.environ:
        parser.error("measure needs --model, and PARSER_VAE_DATA must name the folder with treebanks/")
    measure(arguments)


if __name__ == "__main__":
    main()
