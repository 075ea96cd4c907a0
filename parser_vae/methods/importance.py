"""Importance sampling: objects from another distribution than the encoder's, weighed by how much likelier they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from parser_vae.errors import ConfigError
from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.baselines import BaselineKind, baseline_state, require_samples, signal
from parser_vae.methods.differentiable import backpropagate
from parser_vae.methods.score_function import sampled_losses
from parser_vae.structures.base import Capability, Structure

Proposal = Literal["same", "tempered", "mixture", "uniform"]
Weights = Literal["plain", "self_normalised"]


@dataclass(eq=False)
class Importance(Method[BatchT]):
    """The gradient of the expected reconstruction by importance sampling, plus that of the divergence.

    Bartler et al. (2019): with ``z`` from a proposal q_I that is held fixed, ``E_q f = E_I[w f]`` for
    ``w = q(z) / q_I(z)``; differentiated, ``E_I[w f grad log q]``, and for the decoder ``E_I[w grad f]``.

    Attributes:
        samples: Objects drawn for each item (M).
        proposal: Where they come from. ``same``: the encoder's distribution, all weights 1 (REINFORCE; the choice of
            the paper's experiments). ``tempered``: its scores divided by ``temperature``. ``mixture``: the encoder's,
            or with probability ``share`` the uniform distribution over objects, so that weights stay below
            ``1 / (1 - share)``. ``uniform``: the prior.
        temperature: Of ``tempered``; above 1 is flatter.
        share: Of the uniform distribution in ``mixture``.
        weights: ``plain``: unbiased. ``self_normalised``: divided by their sum over an item's samples; biased by a term
            that falls as 1/M, with less variance where the proposal is far off; it is its own baseline.
        baseline: Subtracted from the losses in the encoder's gradient; see ``baselines.signal``.
        hidden: Hidden units of a learned baseline.
    """

    samples: int = 4
    proposal: Proposal = "mixture"
    temperature: float = 2.0
    share: float = 0.1
    weights: Weights = "plain"
    baseline: BaselineKind = "leave_one_out"
    hidden: int = 100

    name = "importance"
    requires = frozenset({Capability.SAMPLE, Capability.LOG_PARTITION})

    def __post_init__(self) -> None:
        require_samples(self.name, self.baseline, self.samples)
        if self.temperature <= 0:
            raise ConfigError(f"importance.temperature is {self.temperature}; it must be above 0")
        if not 0 < self.share < 1:
            raise ConfigError(
                f"importance.share is {self.share}; it must be between 0 and 1, or choose another proposal"
            )
        if self.weights == "self_normalised" and (self.samples < 2 or self.baseline not in ("none", "leave_one_out")):
            raise ConfigError(
                "importance.weights = self_normalised compares the samples of an item with their weighted mean: it "
                "needs importance.samples of at least 2, and leaves no place for another baseline"
            )
        self.state = baseline_state(self.baseline, self.hidden)

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the importance-sampled gradient of the mean objective over the batch; see the class."""
        structure, lengths = problem.structure, problem.lengths(batch)
        scores = problem.scores(batch)
        with torch.no_grad():
            latents, log_proposal = self._propose(structure, scores.detach(), lengths, generator)
        log_prob = structure.log_prob(scores, latents, lengths)
        with torch.no_grad():
            logarithms = log_prob - log_proposal
            held = logarithms.exp()
            shares = logarithms.softmax(0) if self.weights == "self_normalised" else held / self.samples
        losses = sampled_losses(problem, batch, latents).to(scores.dtype)
        fixed = losses.detach()
        if self.weights == "self_normalised":
            signals = fixed - (shares * fixed).sum(0)
        else:
            signals = signal(self.baseline, self.state, problem, batch, fixed, held)
        surrogate = (shares * signals * log_prob).sum(0)
        objective = backpropagate(problem, batch, scores, (shares * losses).sum(0), weight, surrogate)
        effective = self.samples * float(held.mean().square() / held.square().mean())
        return Estimate(
            objective,
            evaluations=losses.numel(),
            metrics={"effective_samples": effective, "largest_weight": float(held.max())},
        )

    def _propose(
        self, structure: Structure, scores: Tensor, lengths: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return ``latents [samples, batch, *shape]`` and their log probabilities under the proposal."""
        flat = scores.masked_fill(scores != -torch.inf, 0.0)
        proposed = {"same": scores, "tempered": scores / self.temperature, "mixture": scores, "uniform": flat}
        base = proposed[self.proposal]
        latents = structure.sample(base, lengths, generator=generator, count=self.samples)
        if self.proposal != "mixture":
            return latents, structure.log_prob(base, latents, lengths)
        others = structure.sample(flat, lengths, generator=generator, count=self.samples)
        coins = torch.rand(latents.shape[:2], generator=generator, dtype=torch.float64, device=generator.device)
        uniform = (coins < self.share).to(latents.device)
        latents = torch.where(uniform.view(*uniform.shape, *[1] * (scores.dim() - 1)), others, latents)
        log_base = structure.log_prob(base, latents, lengths) + math.log1p(-self.share)
        return latents, torch.logaddexp(log_base, structure.log_prob(flat, latents, lengths) + math.log(self.share))
