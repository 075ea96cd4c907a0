"""Differentiable perturb-and-parse: back-propagation through a smoothed dynamic programme on perturbed scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from parser_vae.errors import ConfigError
from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.differentiable import Mode, Noise, backpropagate, forward_latent, perturb
from parser_vae.structures.base import Capability


@dataclass(frozen=True)
class DifferentiablePerturbAndParse(Method[BatchT]):
    """The gradient of ``E_noise[reconstruction(soft tree of scores + noise)] + divergence`` (Corro and Titov, 2019).

    Attributes:
        relaxation: The smoothing of the search: ``expected``, maxima become expected values (the paper's);
            ``marginals``, part probabilities under ``exp(score) / Z``.
        mode: What the reconstruction sees and how gradients pass: ``soft``, ``hard_forward`` or ``straight_through``.
        temperature: Divides the perturbed scores; the soft object becomes the best one as it falls.
        noise: On the scores, one draw an update.
    """

    relaxation: Literal["expected", "marginals"] = "expected"
    mode: Mode = "soft"
    temperature: float = 1.0
    noise: Noise = "gumbel"

    name = "dpp"
    requires = frozenset({Capability.SMOOTHED_ARGMAX, Capability.MARGINALS})

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(f"dpp.temperature is {self.temperature}; it must be above 0")

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the gradient of the relaxed mean objective over the batch; see the class."""
        structure, lengths = problem.structure, problem.lengths(batch)
        scores = problem.scores(batch)
        sharp = perturb(structure, scores, self.noise, generator) / self.temperature
        smooth = structure.smoothed_argmax if self.relaxation == "expected" else structure.marginals
        latent = forward_latent(structure, sharp, smooth(sharp, lengths), lengths, self.mode)
        losses = problem.reconstruction(batch, latent)
        return Estimate(backpropagate(problem, batch, scores, losses, weight), evaluations=len(losses))
