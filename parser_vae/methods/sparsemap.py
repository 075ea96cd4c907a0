"""SparseMAP: back-propagation through the sparse mixture of objects nearest to the perturbed scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from parser_vae.errors import ConfigError
from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.differentiable import Noise, backpropagate, perturb
from parser_vae.structures.base import Capability
from parser_vae.structures.sparsemap import sparsemap


@dataclass(frozen=True)
class SparseMAP(Method[BatchT]):
    """The gradient of ``E_noise[reconstruction(SparseMAP(scores + noise))] + divergence`` (Niculae et al., 2018).

    Attributes:
        max_iter: At most so many active-set iterations an item, a linear system or a search each. Beyond it the mixture
            is not optimal and the gradient, which assumes that it is, approximate; ``converged`` reports the share
            of items that are optimal. The code published with Berliner et al. (2022) stops at 10.
        temperature: Divides the perturbed scores; the mixture becomes the best object as it falls.
        noise: On the scores, one draw an update.
    """

    max_iter: int = 100
    temperature: float = 1.0
    noise: Noise = "gumbel"

    name = "sparsemap"
    requires = frozenset({Capability.ARGMAX})

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(f"sparsemap.temperature is {self.temperature}; it must be above 0")

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the gradient of the relaxed mean objective over the batch; see the class."""
        scores = problem.scores(batch)
        sharp = perturb(problem.structure, scores, self.noise, generator) / self.temperature
        mixture = sparsemap(problem.structure, sharp, problem.lengths(batch), max_iter=self.max_iter)
        losses = problem.reconstruction(batch, mixture.marginals)
        return Estimate(
            backpropagate(problem, batch, scores, losses, weight),
            evaluations=len(losses),
            metrics={
                "converged": float(mixture.converged.double().mean()),
                "support": float((mixture.weights.detach() > 0).sum(1).double().mean()),
            },
        )
