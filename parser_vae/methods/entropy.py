"""Entropy minimisation: make the distribution over objects more certain, without looking at the data again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.differentiable import backpropagate
from parser_vae.structures.base import Capability, Structure
from parser_vae.structures.categorical import Categorical
from parser_vae.structures.trees import TreeStructure


@dataclass(frozen=True)
class Entropy(Method[BatchT]):
    """The exact gradient of the entropy of ``exp(<scores, z>) / Z``, plus that of the divergence; no reconstruction.

    Grandvalet and Bengio (2005), with trees Smith and Eisner (2007). In nats per unit of length (per word), where items
    have lengths, as the reconstruction of sentences is.

    Attributes:
        of: ``object``: of the whole distribution. ``parts``: of the marginals, summed over the choices that make up an
            object (each word's head, the class, or for other structures each part); never less than the former.
    """

    of: Literal["object", "parts"] = "parts"

    name = "entropy"
    requires = frozenset({Capability.MARGINALS, Capability.LOG_PARTITION})

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the exact gradient of the mean entropy over the batch; see the class."""
        structure, lengths = problem.structure, problem.lengths(batch)
        scores = problem.scores(batch)
        if self.of == "object":
            found = structure.entropy(scores, lengths)
        else:
            found = parts_entropy(structure, structure.marginals(scores, lengths))
        per_unit = found if lengths is None else found / lengths.clamp_min(1)
        return Estimate(backpropagate(problem, batch, scores, per_unit, weight), evaluations=0)


def parts_entropy(structure: Structure, marginals: Tensor) -> Tensor:
    """Return the sum ``[batch]`` of the entropies of an object's choices: each word's head, the class, or each part."""
    least = torch.finfo(marginals.dtype).tiny  # at 0 the slope of the logarithm is infinite
    entropy = torch.special.entr(marginals.clamp_min(least)).flatten(1).sum(1)
    if isinstance(structure, TreeStructure | Categorical):
        return entropy
    return entropy + torch.special.entr((1 - marginals).clamp_min(least)).flatten(1).sum(1)
