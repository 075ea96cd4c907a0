"""The exact gradient where the reconstruction is a sum of losses of parts.

By linearity ``E_z[<z, losses>] = <E[z], losses>``, and ``E[z]`` under ``p(z) = exp(<scores, z>) / Z`` are the
marginals, differentiable in the scores. No other method knows the expectation on structures too large to enumerate,
so this one is what they are measured against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from parser_vae.errors import IncompatibleError
from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.differentiable import backpropagate
from parser_vae.structures.base import Capability


@runtime_checkable
class Additive(Protocol):
    """What a problem says beyond ``Problem`` if its reconstruction may be additive over parts."""

    @property
    def reconstruction_is_additive(self) -> bool:
        """Return whether ``reconstruction`` is linear in the latent, up to a term that does not depend on it."""


@dataclass(frozen=True)
class Marginals(Method[BatchT]):
    """The exact gradient of ``E_z[reconstruction(z)] + divergence(scores)``, where reconstruction is additive."""

    name = "marginals"
    requires = frozenset({Capability.MARGINALS})

    def check(self, problem: Problem[BatchT]) -> None:
        """Raise ``IncompatibleError`` unless the reconstruction is additive and the structure gives marginals."""
        super().check(problem)
        if not (isinstance(problem, Additive) and problem.reconstruction_is_additive):
            raise IncompatibleError(
                "the method 'marginals' needs a reconstruction that is a sum of losses of parts, which this model's is "
                "not; for a parser, pretrain one with --set decoder.kind=arcs"
            )

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the exact gradient of the mean objective over the batch; nothing is drawn."""
        scores = problem.scores(batch)
        expected = problem.structure.marginals(scores, problem.lengths(batch))
        objective = backpropagate(problem, batch, scores, problem.reconstruction(batch, expected), weight)
        return Estimate(objective=objective, evaluations=len(scores))
