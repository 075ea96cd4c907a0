"""Natural evolution strategies: perturb, run forward, follow the better perturbations.

Berliner et al. (2022), section 3. With ``k`` the objective and ``w ~ N(0, I)``, the smoothed objective
``g(mu) = E k(mu + sigma w)`` has the gradient ``E[(w / sigma) k(mu + sigma w)]`` (eq. 6), estimated without bias from
mirrored pairs as ``1/(N sigma) sum (u+ - u-) w`` over the N/2 noise vectors. Only values of ``k`` are used, so the
structured argmax inside it needs no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from parser_vae.errors import ConfigError
from parser_vae.methods.base import BatchT, Estimate, Method, Problem, Touched
from parser_vae.methods.perturbation import (
    LearnedScales,
    Perturbation,
    SigmaScale,
    add_to_gradient,
    matching,
    values_of,
)
from parser_vae.methods.population import (
    Divisible,
    Group,
    ParameterGroup,
    ScoreDirections,
    ScoreGroup,
    evaluate,
    pairs_in_a_group,
)
from parser_vae.methods.ranks import ALONE, Processes, everyone, process_count
from parser_vae.methods.shaping import Shaping, shape
from parser_vae.structures.base import Capability

Target = Literal["parameters", "pattern", "scores"]
MEBIBYTE = 2**20


@dataclass(frozen=True)
class NaturalEvolution(Method[BatchT]):
    """The NES gradient of ``E_noise[reconstruction(argmax(scores + noise))] + divergence(scores)``.

    Common random numbers: one draw of the score noise per batch is shared by the whole population.

    Attributes:
        population: Members N, an even number: N/2 noise vectors, each used with both signs.
        sigma: Standard deviation of the perturbation.
        shaping: How fitness becomes utility; ``raw`` gives the unbiased estimate.
        score_samples: Draws of Gumbel noise on the scores per item; 0 searches the unperturbed scores.
        perturb: ``parameters``: all that the objective touches, judged by the mean over the batch. ``pattern``: those
            whose names fit ``pattern``. ``scores``: the scores, each item's judged by its own objective; the network
            gets its gradient from one backward pass through the scores, the divergence and the reconstruction (at the
            unperturbed scores) theirs directly.
        pattern: Shell-style patterns of parameter names, for ``perturb = pattern``.
        sigma_scale: What sigma is relative to; see ``Perturbation``.
        rank: Rank of the noise on matrices; 0 means full.
        memory: Mebibytes that each thread may use for members in work.
        workers: Threads that evaluate members; the result does not depend on it.
    """

    population: int = 400
    sigma: float = 0.03
    shaping: Shaping = "zscore"
    score_samples: int = 1
    perturb: Target = "parameters"
    pattern: Sequence[str] = ()
    sigma_scale: SigmaScale = "absolute"
    rank: int = 0
    memory: int = 512
    workers: int = 1
    state: nn.Module | None = field(default=None, init=False)

    name = "nes"
    requires = frozenset({Capability.ARGMAX})

    def __post_init__(self) -> None:
        if self.population < 2 or self.population % 2:
            raise ConfigError(f"nes.population is {self.population}; mirrored pairs need an even number of at least 2")
        if self.sigma <= 0:
            raise ConfigError(f"nes.sigma is {self.sigma}; it must be above 0")
        if (self.perturb == "pattern") != bool(self.pattern):
            raise ConfigError("nes.pattern names parameters if nes.perturb is pattern, and only then; set both or none")
        if self.perturb == "scores" and (self.sigma_scale != "absolute" or self.rank):
            raise ConfigError(
                "nes.sigma_scale and nes.rank are for parameters; leave them out for nes.perturb = scores"
            )
        if self.sigma_scale == "adapted":
            if self.rank:
                raise ConfigError("nes.sigma_scale = adapted scales every value by itself; it needs nes.rank = 0")
            object.__setattr__(self, "state", LearnedScales())

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the NES gradient of the mean objective over the batch; see the class for what is estimated."""
        step = self._step_scores if self.perturb == "scores" else self._step_parameters
        return step(problem, batch, generator, weight)

    def _step_parameters(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float
    ) -> Estimate:
        seeds = torch.randint(2**62, (self.population // 2,), generator=generator).tolist()
        touched = problem.touched(batch)
        if self.perturb == "pattern":
            touched = matching(touched, self.pattern)
        learned = self.state if isinstance(self.state, LearnedScales) else None
        with torch.no_grad():
            centre = problem.scores(batch)
            noise = self._score_noise(problem, centre, generator)
            perturbation = Perturbation(touched, self.sigma, self.sigma_scale, self.rank, learned)
            size = pairs_in_a_group(problem, batch, centre, touched, self.memory * MEBIBYTE)
            groups = [ParameterGroup[BatchT](perturbation, seeds[i : i + size]) for i in range(0, len(seeds), size)]
            own = self._losses(problem, batch, everyone().own_share(groups), noise, divergence=True)
            sizes = [(2 * len(group.seeds),) for group in groups]
            fitness = torch.cat(everyone().gathered([loss.mean(1) for loss in own], sizes))
            utility = shape(fitness, self.shaping).view(-1, 2)
            factors = (utility[:, 0] - utility[:, 1]) * (weight / self.population)
            perturbation.accumulate(seeds, factors.tolist())
            if learned is not None:
                normal = shape(fitness, "zscore").view(-1, 2).sum(1) / self.population
                learned.update(touched, perturbation.squares(seeds, normal.tolist()))
        return self._estimate(fitness, len(centre))

    def _step_scores(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float
    ) -> Estimate:
        parts: list[Any] = list(problem.divided(batch)) if isinstance(problem, Divisible) else [batch]
        seeds = torch.randint(2**62, (len(parts), self.population // 2 + 1), generator=generator).tolist()
        touched = problem.touched(batch)
        # processes share the parts or, where these are too few, the members of each: the numbers are the same
        outside, inside = (everyone(), ALONE) if len(parts) >= process_count() else (ALONE, everyone())
        own = [
            self._part_of_scores(problem, part, touched, some, inside)
            for part, some in outside.own_share(list(zip(parts, seeds, strict=True)))
        ]
        sizes = [(self.population, len(part)) for part in parts] if outside.count > 1 else []
        losses = torch.cat(outside.gathered([loss for loss, _ in own], sizes), 1)
        numbers = [values_of(item).numel() for item in touched]
        dtype = touched[0].parameter.dtype
        gradient, *more = outside.gathered([part for _, part in own], [(sum(numbers),)] * len(parts), dtype)
        for further in more:
            gradient = gradient + further
        gradient = gradient.to(touched[0].parameter.device) * (weight / losses.shape[1])
        for item, values in zip(touched, gradient.split(numbers), strict=True):
            add_to_gradient(item, values.view_as(values_of(item)))
        return self._estimate(losses.mean(1), losses.shape[1])

    def _part_of_scores(
        self,
        problem: Problem[BatchT],
        part: BatchT,
        touched: Sequence[Touched],
        seeds: Sequence[int],
        processes: Processes,
    ) -> tuple[Tensor, Tensor]:
        """Return losses ``[members, items]`` and the gradient of their sum ``[values of touched]``.

        Args:
            problem: The problem.
            part: Some or all items of a batch.
            touched: What the gradient is wanted of.
            seeds: One for the noise on the scores, and one for each pair.
            processes: Those that share the members.
        """
        first, *seeds = seeds
        scores = problem.scores(part)
        centre = scores.detach()
        noise = self._score_noise(problem, centre, torch.Generator().manual_seed(first))
        memory = self.memory * MEBIBYTE
        directions = ScoreDirections(centre, len(seeds), memory // 2)
        size = pairs_in_a_group(problem, part, centre, (), memory)
        groups = [ScoreGroup[BatchT](directions, self.sigma, seeds[i : i + size]) for i in range(0, len(seeds), size)]
        own = self._losses(problem, part, processes.own_share(groups), noise, divergence=False)
        sizes = [(2 * len(group.seeds), len(centre)) for group in groups]
        losses = torch.cat(processes.gathered(own, sizes))
        with torch.no_grad():
            utility = torch.stack([shape(item, self.shaping) for item in losses.t()], 1).view(-1, 2, len(centre))
            factors = (utility[:, 0] - utility[:, 1]) / (self.population * self.sigma)
            gradient = torch.zeros_like(centre)
            for seed, factor in zip(seeds, factors.to(centre.dtype), strict=True):
                gradient.addcmul_(directions.of(seed), factor.view(-1, *[1] * (centre.dim() - 1)))
        divergence = problem.divergence(part, scores)
        if divergence is not None:
            losses = losses + divergence.detach().double()
        direct = [] if divergence is None else [divergence.sum()]
        if not problem.reconstruction_is_shared(part):
            latents = [problem.structure.argmax(centre + draw, problem.lengths(part)).bool() for draw in noise]
            direct.append(problem.population_reconstruction(part, latents).mean(0).sum())
        found = torch.autograd.grad(
            [scores, *direct],
            [item.parameter for item in touched],
            [gradient, *[None] * len(direct)],
            materialize_grads=True,
        )
        kept = [whole if item.rows is None else whole[item.rows] for whole, item in zip(found, touched, strict=True)]
        return losses, torch.cat([values.flatten() for values in kept])

    def _score_noise(self, problem: Problem[BatchT], centre: Tensor, generator: torch.Generator) -> list[Tensor]:
        drawn = [problem.structure.noise(centre, generator) for _ in range(self.score_samples)]
        return drawn or [torch.zeros_like(centre)]

    def _losses(
        self,
        problem: Problem[BatchT],
        batch: BatchT,
        groups: Sequence[Group[BatchT]],
        noise: Sequence[Tensor],
        divergence: bool,
    ) -> list[Tensor]:
        """Return the objective of every member of each group ``[members, batch]`` (float64)."""
        memory = self.memory * MEBIBYTE
        return evaluate(problem, batch, groups, noise, divergence=divergence, workers=self.workers, memory=memory)

    def _estimate(self, fitness: Tensor, items: int) -> Estimate:
        finite = fitness[torch.isfinite(fitness)]
        return Estimate(
            objective=float(finite.mean()) if len(finite) else float("nan"),
            evaluations=self.population * max(1, self.score_samples) * items,
            metrics={
                "spread": float(finite.std(correction=0)) if len(finite) else float("nan"),
                "failed": float(len(fitness) - len(finite)),
            },
        )
