"""Seconds of one training step on moving points.

    python benchmarks/graph_steps.py plain        SST by the method's interface, and by plain torch with the same model
    python benchmarks/graph_steps.py population   NES of N = 600 by products over members, and one member at a time
    python benchmarks/graph_steps.py figure2      Figure 2 (left) of Berliner et al. (2022): seconds against points

Times are CPU seconds of this process, the best of interleaved rounds; use one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from parser_vae.graphs.model import GraphModel, ModelSettings
from parser_vae.graphs.problem import VARIANCE, GraphProblem, structure_of
from parser_vae.methods import METHODS, NaturalEvolution, Relaxed
from parser_vae.structures.noise import gumbel
from parser_vae.structures.undirected import UndirectedTrees

RESULTS = Path(__file__).parent / "results" / "graph-steps"


def main() -> None:
    """Measure what was asked for, print it, and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["plain", "population", "figure2"])
    parser.add_argument("--points", default="")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--population", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    default = {"plain": "10", "population": "5", "figure2": ",".join(map(str, range(10, 251, 20)))}[options.what]
    if options.what == "figure2":
        options.batch = 1
    points = [int(number) for number in (options.points or default).split(",")]
    measured = []
    for number in points:
        contestants = CONTESTANTS[options.what](options, number)
        seconds = best_of(contestants, options.rounds)
        row = {"points": number, "hidden": options.hidden, "batch": options.batch, "seconds": seconds}
        if options.what == "population":
            row["population"] = options.population
        measured.append(row)
        print(number, "  ".join(f"{name} {value:.3g} s" for name, value in seconds.items()), flush=True)
    if len(points) > 2:
        for name in measured[0]["seconds"]:
            print(f"{name}: time grows as points ^ {slope(points, [row['seconds'][name] for row in measured]):.2f}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"command": shlex.join(["python", *sys.argv]), "rows": measured}
    (RESULTS / f"{options.what}-{options.hidden}-{options.batch}.json").write_text(json.dumps(content, indent=1) + "\n")


def best_of(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least CPU seconds of each contestant over interleaved rounds, after one to warm up.

    Every other round runs backwards, because whoever comes after itself finds its data in the cache.
    """
    best = dict.fromkeys(contestants, math.inf)
    for round_ in range(rounds + 1):
        for name, step in list(contestants.items())[:: -1 if round_ % 2 else 1]:
            start = time.process_time()
            step()
            if round_:
                best[name] = min(best[name], time.process_time() - start)
    return best


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Return the least-squares slope of log seconds against log size."""
    x, y = torch.tensor(sizes).double().log(), torch.tensor(seconds).double().log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def made(options: argparse.Namespace, points: int, every: int) -> tuple[GraphProblem, torch.optim.Optimizer, Tensor]:
    """Return a problem, its optimiser and a batch of normal noise, as in Figure 2."""
    torch.manual_seed(0)
    model = GraphModel(ModelSettings(hidden=options.hidden), 10, 2)
    problem = GraphProblem(model, structure_of("tree", points), every)
    return problem, torch.optim.Adam(model.parameters(), lr=3e-4, fused=True), torch.randn(options.batch, 10, points, 2)


def plain(options: argparse.Namespace, points: int) -> dict[str, Callable[[], object]]:
    """Return an SST step by the interface, and one that uses nothing of it but encoder, marginals and decoder."""
    problem, optimiser, batch = made(options, points, 9)
    model, structure = problem.model, problem.structure
    method = Relaxed[Tensor](temperature=1.0)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]

    def ours() -> None:
        optimiser.zero_grad()
        method.backward(problem, batch, generators[0])
        model.keep_statistics()
        optimiser.step()

    def theirs() -> None:
        optimiser.zero_grad()
        scores = model.encoder(batch)
        soft = structure.marginals(scores + gumbel(scores, generators[1]))
        squares = (model.decoder(batch, soft, 9) - batch[:, 1:]).square().sum((1, 2, 3))
        divergence = 2 * (scores + (-scores).exp() - 1).sum(1)
        ((squares / (2 * VARIANCE) + divergence) / points).mean().backward()
        model.keep_statistics()
        optimiser.step()

    return {"interface": ours, "plain torch": theirs}


class OneByOne:
    """A problem whose population functions are hidden, so that members are evaluated one at a time."""

    def __init__(self, problem: GraphProblem) -> None:
        self.problem = problem

    def __getattr__(self, name: str) -> object:
        if name in ("population_scores", "population_losses"):
            raise AttributeError(name)
        return getattr(self.problem, name)


def population(options: argparse.Namespace, points: int) -> dict[str, Callable[[], object]]:
    """Return NES steps by products over members and member by member."""
    problem, optimiser, batch = made(options, points, 3)
    method = NaturalEvolution[Tensor](population=options.population, sigma=0.01, memory=64)

    def step(one: object) -> None:
        optimiser.zero_grad()
        method.backward(one, batch, torch.Generator().manual_seed(0))  # type: ignore[arg-type]

    return {"products": lambda: step(problem), "one by one": lambda: step(OneByOne(problem))}


def figure2(options: argparse.Namespace, points: int) -> dict[str, Callable[[], object]]:
    """Return steps of NES (N = 4, also for one member), SST and the score function (if there) on one sample."""
    problem, optimiser, batch = made(options, points, 9)
    methods = {
        "NES, N = 4": NaturalEvolution[Tensor](population=4, sigma=0.01),
        "SST": Relaxed[Tensor](temperature=1.0),
    }
    chained = problem.replica()
    chained.module = chained.model = problem.model
    chained.structure = Chains()
    problems = dict.fromkeys(methods, problem)
    if "score_function" in METHODS:
        for name, one in (("REINFORCE, Wilson", problem), ("REINFORCE, MCMC", chained)):
            methods[name] = METHODS["score_function"](distribution="gibbs", samples=1, baseline="none")
            problems[name] = one
    generator = torch.Generator().manual_seed(0)

    def step(name: str) -> Callable[[], None]:
        def run() -> None:
            optimiser.zero_grad()
            methods[name].backward(problems[name], batch, generator)
            optimiser.step()

        return run

    return {name: step(name) for name in methods}


class Chains(UndirectedTrees):
    """Trees sampled by edge exchange, ten exchanges a point, as the paper's REINFORCE samples in some such way."""

    def sample(self, scores, lengths=None, *, generator, count=1):  # type: ignore[no-untyped-def]
        """Return the ends of chains."""
        return self.sample_by_chain(scores, lengths, generator=generator, count=count)


CONTESTANTS = {"plain": plain, "population": population, "figure2": figure2}

if __name__ == "__main__":
    main()
