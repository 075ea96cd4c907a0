"""Baselines: what a sampled loss is compared with, so that the score function's estimate varies less.

Any number that does not depend on the sample at hand leaves the estimate unbiased, as the expected score is 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from parser_vae.errors import ConfigError
from parser_vae.methods.base import BatchT, Problem
from parser_vae.methods.network import Network

BaselineKind = Literal["none", "batch", "leave_one_out", "ema", "learned", "nvil"]

DECAY = 0.99
"""Of running means (Williams, 1992; as in the graph experiments of Berliner et al., 2022)."""


class RunningMean(nn.Module):
    """``ema``: the mean loss of former updates, the latest counting most; 0 before the first."""

    mean: Tensor
    updates: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def value(self) -> Tensor:
        """Return the mean ``[]`` so far; the few first losses weigh more, so that it does not start from 0."""
        return self.mean / (1 - DECAY ** max(1, int(self.updates)))

    def update(self, losses: Tensor) -> None:
        """Take the losses of an update into the mean."""
        self.mean = self.mean.to(losses.device).lerp(losses.detach().double().mean(), 1 - DECAY)
        self.updates = self.updates + 1


class LearnedBaseline(nn.Module):
    """``learned`` and ``nvil``: a network predicts each item's loss, a running mean what it misses on average.

    Mnih and Gregor (2014), section 2.3. ``nvil`` also divides by the running deviation where that is above 1.
    """

    def __init__(self, hidden: int, normalise: bool) -> None:
        super().__init__()
        self.network = Network(hidden)
        self.normalise = normalise
        self.mean, self.square = RunningMean(), RunningMean()

    def signal(self, losses: Tensor, estimates: Tensor, features: Tensor) -> Tensor:
        """Return losses less their predictions ``[samples, batch]``; adds the prediction's gradient to ``.grad``."""
        with torch.enable_grad():
            predicted = self.network(features) + self.mean.value().to(features)
            ((estimates - predicted.to(estimates)) ** 2).mean().backward()
        predicted = predicted.detach().to(losses)
        deviation = 1.0
        if self.normalise:
            deviation = max(1.0, float((self.square.value()).clamp_min(0).sqrt()))
        left = estimates - predicted
        self.square.update(left**2)
        self.mean.update(left + self.mean.value().to(left))
        return (losses - predicted) / deviation


def baseline_state(kind: BaselineKind, hidden: int) -> nn.Module | None:
    """Return what a baseline remembers, None if nothing."""
    if kind == "ema":
        return RunningMean()
    return LearnedBaseline(hidden, kind == "nvil") if kind in ("learned", "nvil") else None


def require_samples(section: str, kind: BaselineKind, samples: int) -> None:
    """Raise ``ConfigError`` unless there are enough samples of each item for a baseline."""
    if samples < 1:
        raise ConfigError(f"{section}.samples is {samples}; at least 1 is needed")
    if kind == "leave_one_out" and samples < 2:
        raise ConfigError(
            f"{section}.baseline = leave_one_out compares samples of one item; it needs {section}.samples of at least "
            "2, or choose batch, ema, learned or nvil"
        )


def signal(
    kind: BaselineKind,
    state: nn.Module | None,
    problem: Problem[BatchT],
    batch: BatchT,
    losses: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the losses less their baseline ``[samples, batch]``, and teach the baseline what it remembers.

    Args:
        kind: ``none``; ``leave_one_out``: the mean over the other samples of the item; ``batch``: the mean over the
            other items (0 in a batch of one); ``ema``, ``learned``, ``nvil``: see their classes.
        state: What ``baseline_state`` returned.
        problem: Describes the items for the learned baselines.
        batch: The batch.
        losses: ``[samples, batch]``, without graph.
        weights: What each sample counts in means ``[samples, batch]``; None: all the same.
    """
    items = losses.shape[1]
    if kind == "none":
        return losses
    counts = torch.ones_like(losses) if weights is None else weights
    least = torch.finfo(losses.dtype).tiny
    total, count = (counts * losses).sum(0), counts.sum(0)
    if kind == "leave_one_out":
        return losses - (total - counts * losses) / (count - counts).clamp_min(least)
    means = total / count.clamp_min(least)
    if kind == "batch":
        return losses - (means.sum() - means) / max(1, items - 1)
    if isinstance(state, RunningMean):
        value = state.value().to(losses)
        state.update(means)
        return losses - value
    assert isinstance(state, LearnedBaseline)
    return state.signal(losses, losses if weights is None else means.expand_as(losses), problem.features(batch))
