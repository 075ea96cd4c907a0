"""Perturbed optimisers: the mean of many perturbed searches, differentiated by the noise's own density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from parser_vae.errors import ConfigError
from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.differentiable import backpropagate, reconstruction_slope
from parser_vae.structures.base import Capability
from parser_vae.structures.noise import gumbel


@dataclass(frozen=True)
class PerturbedOptimiser(Method[BatchT]):
    """The gradient of ``reconstruction(E_noise[argmax(scores + sigma noise)]) + divergence`` (Berthet et al., 2020).

    With ``y(h) = E argmax(h + sigma Z)``, its Jacobian is ``E[argmax(h + sigma Z) grad nu(Z)^T] / sigma`` where the
    density of Z is ``exp(-nu)`` (their proposition 3.1). Both are means over the same draws; from each search the
    mean of the others is subtracted, which changes no expectation.

    Attributes:
        samples: Searches an item.
        sigma: Scale of the noise; the mean object becomes the best one as it falls, and the variance grows.
        density: Of the noise: ``gumbel`` or ``normal``.
    """

    samples: int = 8
    sigma: float = 1.0
    density: Literal["gumbel", "normal"] = "gumbel"

    name = "perturbed_optimiser"
    requires = frozenset({Capability.ARGMAX})

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ConfigError(f"perturbed_optimiser.samples is {self.samples}; it takes at least 2")
        if self.sigma <= 0:
            raise ConfigError(f"perturbed_optimiser.sigma is {self.sigma}; it must be above 0")

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the estimated gradient of the smoothed mean objective over the batch; see the class."""
        structure, lengths = problem.structure, problem.lengths(batch)
        scores = problem.scores(batch)
        centre = scores.detach()
        draws = [self._draw(centre, generator) for _ in range(self.samples)]
        best = torch.stack([structure.argmax(centre + self.sigma * draw, lengths) for draw, _ in draws])
        losses, slope = reconstruction_slope(problem, batch, best.mean(0), weight)
        centred = (best - best.mean(0)) * (self.samples / (self.samples - 1))
        gain = (centred * slope).flatten(2).sum(2)
        pulls = torch.stack([pull for _, pull in draws])
        direction = torch.einsum("sb,sb...->b...", gain, pulls) / (self.samples * self.sigma)
        surrogate = structure.score(scores, torch.where(structure.readable(centre, lengths), direction, 0.0))
        return Estimate(backpropagate(problem, batch, scores, losses, weight, surrogate), evaluations=len(losses))

    def _draw(self, like: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return standard noise and the gradient of its negative log density, both shaped ``like``."""
        if self.density == "normal":
            noise = torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
            return noise, noise
        noise = gumbel(like, generator)
        return noise, 1 - torch.exp(-noise)
