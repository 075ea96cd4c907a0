"""Fitness to utility: what the members of a population weigh in a natural-evolution-strategies gradient."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Shaping = Literal["zscore", "rank", "raw"]


def shape(fitness: Tensor, how: Shaping) -> Tensor:
    """Return utilities ``[population]`` of fitness values (lower is better) in their order and dtype.

    A member whose fitness is not finite counts as the worst finite one, so it can never win. ``zscore`` centres and
    divides by the population's standard deviation; ``rank`` spreads the ranks evenly over [-1/2, 1/2] (ties share
    their mean rank); ``raw`` changes nothing else. Where all values are equal or none is finite, all utilities are 0.
    """
    finite = torch.isfinite(fitness)
    if not bool(finite.any()):
        return torch.zeros_like(fitness)
    fitness = torch.where(finite, fitness, fitness[finite].max())
    if bool((fitness == fitness[0]).all()):
        return torch.zeros_like(fitness)
    if how == "raw":
        return fitness
    if how == "zscore":
        return (fitness - fitness.mean()) / fitness.std(correction=0)
    _, inverse, counts = fitness.unique(return_inverse=True, return_counts=True)
    upper = counts.cumsum(0)
    mean_rank = (upper - counts + upper - 1).to(fitness.dtype) / 2
    return mean_rank[inverse] / (len(fitness) - 1) - 0.5
