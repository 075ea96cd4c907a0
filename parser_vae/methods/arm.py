"""ARM: two bit vectors from one uniform draw, one the mirror of the other; for independent bits."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from parser_vae.errors import ConfigError, IncompatibleError
from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.differentiable import backpropagate
from parser_vae.methods.score_function import sampled_losses
from parser_vae.structures.base import Capability
from parser_vae.structures.binary import Binary


@dataclass(eq=False)
class Arm(Method[BatchT]):
    """The augment-REINFORCE-merge gradient of the expected reconstruction, plus that of the divergence; unbiased.

    Yin and Zhou (2019): with u uniform and a the scores of the bits, the gradient in a is
    ``E[(f(1[u > sigmoid(-a)]) - f(1[u < sigmoid(a)])) (u - 1/2)]``. Both vectors are samples of the encoder's
    distribution; the decoder's gradient is the mean of theirs.

    Attributes:
        samples: Uniform draws for each item, two evaluations each.
    """

    samples: int = 1

    name = "arm"
    requires = frozenset({Capability.FACTORISED})

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"arm.samples is {self.samples}; at least 1 is needed")

    def check(self, problem: Problem[BatchT]) -> None:
        """Raise ``IncompatibleError`` unless the latent is a vector of independent bits."""
        super().check(problem)
        if not isinstance(problem.structure, Binary):
            raise IncompatibleError(
                f"the method 'arm' mirrors independent bits, which the structure '{problem.structure.name}' does not "
                "have; its extension to one of k classes evaluates k(k-1)/2 latents, more than the k of enumeration"
            )

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the ARM gradient of the mean objective over the batch; see the class."""
        structure, lengths = problem.structure, problem.lengths(batch)
        scores = problem.scores(batch)
        with torch.no_grad():
            probability = structure.marginals(scores, lengths)
            shape = (self.samples, *scores.shape)
            uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
            uniform = uniform.to(scores.device)
            mirrored, plain = uniform > 1 - probability.double(), uniform < probability
            latents = torch.cat([mirrored, plain]).to(scores.dtype)
        losses = sampled_losses(problem, batch, latents).to(scores.dtype)
        first, second = losses.detach().chunk(2)
        gradient = ((first - second)[:, :, None] * (uniform - 0.5).to(scores.dtype)).mean(0)
        surrogate = structure.score(scores, gradient * structure.readable(scores, lengths))
        return Estimate(
            backpropagate(problem, batch, scores, losses.mean(0), weight, surrogate),
            evaluations=losses.numel(),
            metrics={"agreeing": float((mirrored == plain).flatten(2).all(2).double().mean())},
        )
