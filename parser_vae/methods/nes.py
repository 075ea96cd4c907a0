"""Natural evolution strategies: perturb the parameters, run forward, follow the better perturbations.

Berliner et al. (2022), section 3. With ``k`` the objective and ``w ~ N(0, I)``, the smoothed objective
``g(mu) = E k(mu + sigma w)`` has the gradient ``E[(w / sigma) k(mu + sigma w)]`` (eq. 6), estimated without bias from
mirrored pairs as ``1/(N sigma) sum (u+ - u-) w`` over the N/2 noise vectors. Only values of ``k`` are used, so the
structured argmax inside it needs no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from parser_vae.errors import ConfigError
from parser_vae.methods.base import BatchT, Estimate, Method, Problem, Touched
from parser_vae.methods.shaping import Shaping, shape
from parser_vae.structures.base import Capability


@dataclass(frozen=True)
class NaturalEvolution(Method[BatchT]):
    """The NES gradient of ``E_noise[reconstruction(argmax(scores + noise))] + divergence(scores)``.

    Common random numbers: one draw of the score noise per batch is shared by the whole population.

    Attributes:
        population: Members N, an even number: N/2 noise vectors, each used with both signs.
        sigma: Standard deviation of the parameter noise.
        shaping: How fitness becomes utility; ``raw`` gives the unbiased estimate.
        score_samples: Draws of Gumbel noise on the scores per item; 0 searches the unperturbed scores.
        workers: Threads that evaluate members; the result does not depend on it.
    """

    population: int = 400
    sigma: float = 0.1
    shaping: Shaping = "zscore"
    score_samples: int = 1
    workers: int = 1

    name = "nes"
    requires = frozenset({Capability.ARGMAX})

    def __post_init__(self) -> None:
        if self.population < 2 or self.population % 2:
            raise ConfigError(f"nes.population is {self.population}; mirrored pairs need an even number of at least 2")
        if self.sigma <= 0:
            raise ConfigError(f"nes.sigma is {self.sigma}; it must be above 0")

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the NES gradient of the mean objective over the batch; see the class for what is estimated."""
        touched = problem.touched(batch)
        seeds = torch.randint(2**62, (self.population // 2,), generator=generator).tolist()
        with torch.no_grad():
            centre = problem.scores(batch)
            noise = [problem.structure.noise(centre, generator) for _ in range(self.score_samples)]
            fitness = self._fitness(problem, batch, seeds, noise or [torch.zeros_like(centre)])
            utility = shape(fitness, self.shaping).view(-1, 2)
            factors = (utility[:, 0] - utility[:, 1]) * (weight / (self.population * self.sigma))
            _accumulate(touched, seeds, factors.tolist())
        finite = fitness[torch.isfinite(fitness)]
        return Estimate(
            objective=float(finite.mean()) if len(finite) else float("nan"),
            evaluations=self.population * max(1, self.score_samples) * len(centre),
            metrics={
                "spread": float(finite.std(correction=0)) if len(finite) else float("nan"),
                "failed": float(len(fitness) - len(finite)),
            },
        )

    def _fitness(self, problem: Problem[BatchT], batch: BatchT, seeds: list[int], noise: list[Tensor]) -> Tensor:
        """Return the mean objective ``[2 * pairs]`` (float64) of every member, each pair's plus before its minus."""
        replicas = [problem.replica() for _ in range(self.workers)]
        with ThreadPoolExecutor(self.workers) as pool:
            shares = [seeds[worker :: self.workers] for worker in range(self.workers)]
            jobs = [
                pool.submit(self._members, replica, batch, share, noise)
                for replica, share in zip(replicas, shares, strict=True)
            ]
            parts = [job.result() for job in jobs]
        members = [
            member for i in range(len(seeds)) for member in parts[i % self.workers][2 * (i // self.workers) :][:2]
        ]
        fitness = torch.stack([member.fixed for member in members])
        if members[0].latents:
            latents = [latent for member in members for latent in member.latents]
            losses = problem.population_reconstruction(batch, latents).double()
            fitness = fitness + losses.view(len(members), len(noise), -1).mean((1, 2))
        return fitness

    def _members(self, problem: Problem[BatchT], batch: BatchT, seeds: list[int], noise: list[Tensor]) -> list[_Member]:
        """Return the members of some seeds, plus then minus, evaluated on a problem that this thread owns."""
        touched = problem.touched(batch)
        centres = [_values(item).clone() for item in touched]
        members: list[_Member] = []
        with torch.no_grad():
            for seed in seeds:
                directions = list(parameter_noise(touched, seed))
                for sign in (self.sigma, -self.sigma):
                    for item, centre, direction in zip(touched, centres, directions, strict=True):
                        _assign(item, centre + sign * direction)
                    members.append(self._member(problem, batch, noise))
            for item, centre in zip(touched, centres, strict=True):
                _assign(item, centre)
        return members

    def _member(self, problem: Problem[BatchT], batch: BatchT, noise: list[Tensor]) -> _Member:
        """Return the latents of the parameters as they stand, and what can be judged of them already."""
        scores = problem.scores(batch)
        fixed = torch.zeros((), dtype=torch.float64)
        divergence = problem.divergence(batch, scores)
        if divergence is not None:
            fixed = divergence.double().mean()
        if not bool(torch.isfinite(scores).all()):
            return _Member(
                torch.tensor(torch.nan, dtype=torch.float64),
                [scores.new_zeros(scores.shape, dtype=torch.bool) for _ in noise],
            )
        latents = [problem.structure.argmax(scores + draw, problem.lengths(batch)) for draw in noise]
        if problem.reconstruction_is_shared(batch):
            return _Member(fixed, [latent.bool() for latent in latents])
        losses = torch.stack([problem.reconstruction(batch, latent) for latent in latents])
        return _Member(fixed + losses.double().mean(), [])


@dataclass(frozen=True)
class _Member:
    """One member of the population: the part of its fitness that is known, and latents still to be judged."""

    fixed: Tensor
    latents: list[Tensor]


def parameter_noise(touched: list[Touched], seed: int) -> Iterator[Tensor]:
    """Yield the standard normal direction of each touched parameter (its rows only), rebuilt from the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    for item in touched:
        values = _values(item)
        yield torch.randn(values.shape, generator=generator, dtype=values.dtype).to(values.device)


def _accumulate(touched: list[Touched], seeds: list[int], factors: list[float]) -> None:
    """Add ``factor`` times the direction of each seed to the gradients."""
    for item in touched:
        if item.parameter.grad is None:
            item.parameter.grad = torch.zeros_like(item.parameter)
    for seed, factor in zip(seeds, factors, strict=True):
        if factor == 0.0:
            continue
        for item, direction in zip(touched, parameter_noise(touched, seed), strict=True):
            gradient = item.parameter.grad
            assert gradient is not None
            if item.rows is None:
                gradient.add_(direction, alpha=factor)
            else:
                gradient.index_add_(0, item.rows, direction, alpha=factor)


def _values(item: Touched) -> Tensor:
    return item.parameter.data if item.rows is None else item.parameter.data[item.rows]


def _assign(item: Touched, values: Tensor) -> None:
    if item.rows is None:
        item.parameter.data.copy_(values)
    else:
        item.parameter.data[item.rows] = values
