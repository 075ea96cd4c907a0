"""Projective dependency trees: no arc crosses another, so dynamic programmes over spans are exact."""

from __future__ import annotations

import itertools
from functools import cache

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parser_vae.errors import InfeasibleError, InputError
from parser_vae.structures.base import Capability
from parser_vae.structures.kernels.eisner import FEASIBLE, INFEASIBLE, eisner_heads
from parser_vae.structures.trees import TreeStructure, full_lengths, heads_to_arcs

Heads = tuple[int, ...]


class ProjectiveTrees(TreeStructure):
    """Dependency trees without crossing arcs, one root or many; see ``TreeStructure``."""

    name = "projective"
    capabilities = frozenset({Capability.ARGMAX, Capability.ENUMERATE, Capability.COUNT})

    def argmax_heads(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the heads ``[batch, n + 1]`` (int64) of the best tree (Eisner, 1996); 0 at the root and at padding.

        Ties are broken towards the same tree whatever the batch. Beyond ties within rounding of the scores' dtype,
        the tree is optimal; it is a tree in any case.

        Raises:
            InfeasibleError: ``-inf`` forbids every tree of a sentence, or a score of it is NaN or ``+inf``.
        """
        lengths = _checked_lengths(scores, lengths)
        array = np.ascontiguousarray(scores.detach().cpu().numpy())
        heads, status = eisner_heads(array, lengths.cpu().numpy(), self.single_root, thread_count())
        raise_infeasible(status)
        return torch.from_numpy(heads).to(device=scores.device, dtype=torch.int64)

    def enumerate(self, shape: tuple[int, ...]) -> Tensor:
        """Return every tree ``[count, n + 1, n + 1]`` (float64) over ``n`` words; the count grows as 6.75 ** n."""
        size = shape[0] - 1
        subtrees = _single_subtrees(1, size) if self.single_root else _forests(1, size)
        return heads_to_arcs(torch.tensor([(0, *heads) for heads in subtrees])).to(torch.float64)

    def log_count(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the log of the number of trees ``[batch]``: C(3n-2, n-1) / n with one root, C(3n, n) / (2n+1) else."""
        words = full_lengths(scores, lengths).to(scores.dtype)
        if self.single_root:
            return _log_binomial(3 * words - 2, words - 1) - torch.log(words)
        return _log_binomial(3 * words, words) - torch.log(2 * words + 1)


def cost_augmented(scores: Tensor, gold_heads: Tensor, amount: float = 1.0) -> Tensor:
    """Return ``scores`` plus ``amount`` on every arc that is not gold, as structured hinge losses need.

    Args:
        scores: ``[batch, head, dependent]``.
        gold_heads: ``[batch, n + 1]``; the root's slot and padding are ignored, for their columns are never read.
        amount: The cost of one wrong head (Kiperwasser and Goldberg, 2016, use 1).
    """
    gold = torch.nn.functional.one_hot(gold_heads, scores.shape[-1]).transpose(-1, -2)
    return scores + amount * (1 - gold.to(scores.dtype))


def thread_count() -> int:
    """Return how many threads compiled kernels may use: the fewer of what torch and numba are set to."""
    return min(torch.get_num_threads(), int(numba.get_num_threads()))


def raise_infeasible(status: NDArray[np.int8]) -> None:
    """Raise ``InfeasibleError`` for the first sentence whose kernel status is not FEASIBLE."""
    if not status.any():
        return
    sentence = int(np.flatnonzero(status != FEASIBLE)[0])
    if status[sentence] == INFEASIBLE:
        what = "its -inf scores forbid every projective tree; allow at least one"
    else:
        what = "a score is NaN or +inf; check what computed it"
    raise InfeasibleError(f"sentence {sentence} of the batch: {what}")


def _checked_lengths(scores: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the lengths, or raise ``InputError``: kernels trust them."""
    if scores.dim() != 3 or scores.shape[1] != scores.shape[2]:
        raise InputError(f"arc scores must be [batch, n + 1, n + 1], not {list(scores.shape)}")
    lengths = full_lengths(scores, lengths)
    if lengths.shape != scores.shape[:1] or bool(((lengths < 1) | (lengths >= scores.shape[1])).any()):
        raise InputError(
            f"lengths must be {scores.shape[0]} numbers from 1 to {scores.shape[1] - 1}: {lengths.tolist()}"
        )
    return lengths


def _log_binomial(total: Tensor, chosen: Tensor) -> Tensor:
    return torch.lgamma(total + 1) - torch.lgamma(chosen + 1) - torch.lgamma(total - chosen + 1)


@cache
def _single_subtrees(first: int, last: int) -> tuple[Heads, ...]:
    """Return the heads of words ``first..last`` in every projective tree over them; 0 for its top word."""

    def below(top: int, forest: Heads) -> Heads:
        return tuple(head or top for head in forest)

    return tuple(
        (*below(top, left), 0, *below(top, right))
        for top in range(first, last + 1)
        for left, right in itertools.product(_forests(first, top - 1), _forests(top + 1, last))
    )


@cache
def _forests(first: int, last: int) -> tuple[Heads, ...]:
    """Return the heads of words ``first..last`` in every row of projective trees over them; 0 for top words."""
    if first > last:
        return ((),)
    return tuple(
        tree + rest
        for middle in range(first, last + 1)
        for tree, rest in itertools.product(_single_subtrees(first, middle), _forests(middle + 1, last))
    )
