"""The score function (REINFORCE): sampled losses, each weighing the gradient of its sample's log probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.baselines import BaselineKind, baseline_state, require_samples, signal
from parser_vae.methods.differentiable import backpropagate
from parser_vae.structures.base import Capability

Distribution = Literal["gibbs", "perturbation"]

NEEDS: dict[Distribution, frozenset[Capability]] = {
    "gibbs": frozenset({Capability.SAMPLE, Capability.LOG_PARTITION}),
    "perturbation": frozenset({Capability.ARGMAX, Capability.NOISE_SCORE}),
}


@dataclass(eq=False)
class ScoreFunction(Method[BatchT]):
    """The REINFORCE gradient of the expected reconstruction, plus that of the divergence; unbiased.

    Williams (1992): ``grad E f(z) = E[(f(z) - b) grad log p(z)]`` for any baseline b that does not depend on z. The
    decoder's gradient is that of the sampled reconstructions.

    Attributes:
        distribution: What is sampled. ``gibbs``: objects from ``exp(<scores, z>) / Z``, exactly. ``perturbation``:
            noise on the scores, and the best object under it; the score is then that of the noisy scores (for Gumbels,
            ``1 - exp(-noise)``; Berliner et al., 2022, eq. 3), which needs no log Z and varies more.
        samples: Objects drawn for each item.
        baseline: See ``baselines.signal``.
        hidden: Hidden units of a learned baseline.
    """

    distribution: Distribution = "gibbs"
    samples: int = 4
    baseline: BaselineKind = "leave_one_out"
    hidden: int = 100

    name = "score_function"
    requires = NEEDS["gibbs"]

    def __post_init__(self) -> None:
        require_samples(self.name, self.baseline, self.samples)
        self.requires = NEEDS[self.distribution]
        self.state = baseline_state(self.baseline, self.hidden)

    def check(self, problem: Problem[BatchT]) -> None:
        """Raise ``IncompatibleError`` naming what the structure lacks for the chosen distribution."""
        problem.structure.require(self.requires, f"score_function.distribution = {self.distribution}")

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add an unbiased estimate of the gradient of the mean objective over the batch."""
        structure, lengths = problem.structure, problem.lengths(batch)
        scores = problem.scores(batch)
        if self.distribution == "gibbs":
            latents = structure.sample(scores.detach(), lengths, generator=generator, count=self.samples)
        else:
            fixed = scores.detach()
            noise = torch.stack([structure.noise(fixed, generator) for _ in range(self.samples)])
            latents = torch.stack([structure.argmax(fixed + draw, lengths) for draw in noise])
        losses = sampled_losses(problem, batch, latents).to(scores.dtype)
        signals = signal(self.baseline, self.state, problem, batch, losses.detach())
        if self.distribution == "gibbs":
            surrogate = (signals * structure.log_prob(scores, latents, lengths)).mean(0)
        else:
            read = structure.readable(fixed, lengths)
            slopes = torch.where(read, structure.noise_score(noise), 0.0)
            along = signals.view(*signals.shape, *[1] * (scores.dim() - 1))
            surrogate = structure.score(scores, (along * slopes).mean(0))
        return Estimate(
            backpropagate(problem, batch, scores, losses.mean(0), weight, surrogate),
            evaluations=losses.numel(),
            metrics={"signal": float(signals.square().mean().sqrt())},
        )


def sampled_losses(problem: Problem[BatchT], batch: BatchT, latents: Tensor) -> Tensor:
    """Return the reconstruction ``[samples, batch]`` of ``latents [samples, batch, *shape]``, with graph if need be."""
    with torch.set_grad_enabled(not problem.reconstruction_is_shared(batch)):
        return problem.population_reconstruction(batch, list(latents))
