"""Implicit maximum likelihood: two searches, the second with scores moved against the reconstruction's slope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from parser_vae.errors import ConfigError
from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.differentiable import backpropagate, reconstruction_slope
from parser_vae.structures.base import Capability
from parser_vae.structures.noise import gumbel, sum_of_gamma


@dataclass(frozen=True)
class ImplicitMLE(Method[BatchT]):
    """An approximate gradient of ``E_noise[reconstruction(argmax(scores + noise))]``, plus that of the divergence.

    Niepert et al. (2021): with ``z = argmax(h + noise)`` and the slope ``s`` of the reconstruction at ``z``, the target
    is ``z' = argmax(h + noise - strength * s)`` and the gradient in ``h`` is ``(z - z') / strength``. (The paper
    leaves out the division, which only rescales; with it, the size is that of a gradient.)

    Attributes:
        strength: How far the target's scores are moved, their lambda.
        samples: Draws of the noise an item.
        noise: On the scores: ``sum_of_gamma``, such that the sum over an object's parts is nearly one Gumbel (they
            vary in number, so the mean of the batch's best objects counts), or ``gumbel``, one for each part.
    """

    strength: float = 10.0
    samples: int = 1
    noise: Literal["sum_of_gamma", "gumbel"] = "sum_of_gamma"

    name = "implicit_mle"
    requires = frozenset({Capability.ARGMAX})

    def __post_init__(self) -> None:
        if self.strength <= 0 or self.samples < 1:
            raise ConfigError(
                f"implicit_mle.strength is {self.strength} and implicit_mle.samples {self.samples}; the one must be "
                "above 0, the other at least 1"
            )

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the approximate gradient of the mean objective over the batch; see the class."""
        structure, lengths = problem.structure, problem.lengths(batch)
        scores = problem.scores(batch)
        centre = scores.detach()
        total, direction, moved = centre.new_zeros(len(centre)), torch.zeros_like(centre), 0.0
        parts = 1
        if self.noise == "sum_of_gamma":
            parts = max(1, round(float(structure.argmax(centre, lengths).flatten(1).sum(1).mean())))
        for _ in range(self.samples):
            # one part's sum of gammas is a Gumbel
            draw = gumbel(centre, generator) if parts == 1 else sum_of_gamma(centre, generator, k=parts)
            noisy = centre + draw
            latent = structure.argmax(noisy, lengths)
            losses, slope = reconstruction_slope(problem, batch, latent, weight / self.samples)
            target = structure.argmax(noisy - self.strength * slope, lengths)
            total += losses / self.samples
            direction += (latent - target) / (self.strength * self.samples)
            moved += float((latent != target).flatten(1).any(1).double().mean()) / self.samples
        surrogate = structure.score(scores, direction)
        objective = backpropagate(problem, batch, scores, total, weight, surrogate)
        return Estimate(objective, evaluations=self.samples * len(scores), metrics={"moved": moved})
