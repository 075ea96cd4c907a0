"""Projective dependency trees: no arc crosses another, so dynamic programmes over spans are exact."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parser_vae.structures import by_width
from parser_vae.structures.base import Capability
from parser_vae.structures.kernels.eisner import FEASIBLE, INFEASIBLE, NOT_A_NUMBER, eisner_heads
from parser_vae.structures.kernels.kbest import k_best_heads
from parser_vae.structures.projective_autograd import (
    apply_log_partition,
    apply_marginals,
    apply_soft_tree,
    as_array,
    checked_lengths,
    draw,
    raise_infeasible,
    thread_count,
)
from parser_vae.structures.trees import TreeStructure, arcs_to_heads, full_lengths, heads_to_arcs

Heads = tuple[int, ...]
Mode = Literal["soft", "straight_through", "hard_forward"]
Relaxation = Literal["expected", "marginals"]


class ProjectiveTrees(TreeStructure):
    """Dependency trees without crossing arcs, one root or many; see ``TreeStructure``.

    On the CPU compiled kernels do the work, in the dtype of the scores (float32 or float64) but for sums over trees,
    which are taken in float64. Elsewhere torch does, batched by the width of spans.
    """

    name = "projective"
    capabilities = frozenset(Capability) - {Capability.FACTORISED}

    def argmax_heads(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the heads ``[batch, n + 1]`` (int64) of the best tree (Eisner, 1996); 0 at the root and at padding.

        Ties are broken the same way whatever the batch. The tree is optimal within rounding of the scores' dtype, and
        it is a tree in any case.

        Raises:
            InfeasibleError: ``-inf`` forbids every tree of a sentence, or a score of it is NaN or ``+inf``.
        """
        lengths = checked_lengths(scores, lengths)
        if scores.device.type != "cpu":
            return arcs_to_heads(self._best_arcs(scores, lengths))
        heads, status = eisner_heads(as_array(scores), lengths.numpy(), self.single_root, thread_count())
        raise_infeasible(status)
        return torch.from_numpy(heads).to(torch.int64)

    def log_partition(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``log Z [batch]``, twice differentiable: its gradient is ``marginals``, whose own is exact.

        Raises:
            InfeasibleError: As ``argmax_heads``.
        """
        lengths = checked_lengths(scores, lengths)
        if scores.device.type != "cpu":
            total = by_width.log_partition(scores, lengths, self.single_root)
            raise_infeasible(_status_of(total))
            return total
        return apply_log_partition(scores, lengths, self.single_root)

    def marginals(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the probability of each arc ``[batch, head, dependent]``, differentiable once.

        Raises:
            InfeasibleError: As ``argmax_heads``.
        """
        lengths = checked_lengths(scores, lengths)
        if scores.device.type == "cpu":
            return apply_marginals(scores, lengths, self.single_root)
        needs_graph = torch.is_grad_enabled() and scores.requires_grad
        with torch.enable_grad():
            source = scores if needs_graph else scores.detach().requires_grad_()
            total = by_width.log_partition(source, lengths, self.single_root)
            raise_infeasible(_status_of(total))
            (arcs,) = torch.autograd.grad(total.sum(), source, create_graph=needs_graph)
        return arcs

    def sample(
        self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator, count: int = 1
    ) -> Tensor:
        """Return ``count`` independent trees ``[count, batch, head, dependent]`` from ``exp(score) / Z``.

        Drawn by the compiled kernels, on the CPU, wherever the scores are.

        Raises:
            InfeasibleError: As ``argmax_heads``.
        """
        lengths = checked_lengths(scores, lengths)
        shape = (len(scores), count, 2 * scores.shape[1] + 1)
        uniforms = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
        heads = draw(scores.detach().cpu(), lengths.cpu(), uniforms.cpu(), self.single_root)
        heads = heads.transpose(0, 1).to(scores.device)
        return heads_to_arcs(heads, lengths.expand(count, -1)).to(scores.dtype)

    def k_best(self, scores: Tensor, lengths: Tensor | None = None, *, k: int) -> tuple[Tensor, Tensor]:
        """Return heads ``[batch, k, n + 1]`` (int64), best first, and their scores ``[batch, k]``.

        The trees are distinct; where fewer than ``k`` exist the heads are 0 and the score is ``-inf``. Computed on
        the CPU in float64, wherever the scores are.

        Raises:
            InfeasibleError: As ``argmax_heads``.
        """
        lengths = checked_lengths(scores, lengths)
        array, sizes = as_array(scores), lengths.cpu().numpy()
        raise_infeasible(eisner_heads(array, sizes, self.single_root, thread_count())[1])
        heads, totals = k_best_heads(array, sizes, self.single_root, k, thread_count())
        return torch.from_numpy(heads).to(scores.device, torch.int64), torch.from_numpy(totals).to(scores)

    def smoothed_argmax(
        self,
        scores: Tensor,
        lengths: Tensor | None = None,
        *,
        mode: Mode = "soft",
        relaxation: Relaxation = "expected",
    ) -> Tensor:
        """Return a soft tree ``[batch, head, dependent]``: each word's heads weigh 1 in total (Corro and Titov, 2019).

        Divide the scores by a temperature to sharpen it.

        Args:
            scores: ``[batch, head, dependent]``.
            lengths: Words of each sentence ``[batch]``; None means all.
            mode: ``soft``: the soft tree and its exact gradient. ``hard_forward``: the best tree, with the soft tree's
                gradient. ``straight_through``: the best tree, with the gradient passed on to the scores as it is.
            relaxation: ``expected``: maxima become expected values of their candidates, the relaxation of the paper.
                ``marginals``: arc probabilities under ``exp(score) / Z`` (the entropy-regularised maximum).

        Raises:
            InfeasibleError: As ``argmax_heads``.
        """
        lengths = checked_lengths(scores, lengths)
        if mode == "straight_through":
            passed = by_width.readable(scores, lengths, 0.0)
        elif relaxation == "marginals":
            passed = self.marginals(scores, lengths)
        else:
            passed = self._soft_tree(scores, lengths)
        if mode == "soft":
            return passed
        return self.argmax(scores, lengths) + (passed - passed.detach())

    def _soft_tree(self, scores: Tensor, lengths: Tensor) -> Tensor:
        forbidden = scores == -torch.inf
        masked = bool(forbidden.any())
        finite = torch.where(forbidden, by_width.very_low(scores), scores) if masked else scores
        if scores.device.type == "cpu":
            tree = apply_soft_tree(finite, lengths, self.single_root)
        else:
            tree = by_width.soft_tree(finite, lengths, self.single_root)
        total = tree.detach().sum((1, 2))
        if masked:
            total = total.masked_fill((tree.detach() * forbidden).sum((1, 2)) > 0, -torch.inf)
        raise_infeasible(_status_of(total))
        return tree

    def _best_arcs(self, scores: Tensor, lengths: Tensor) -> Tensor:
        with torch.enable_grad():
            source = scores.detach().requires_grad_()
            total = by_width.best_total(source, lengths, self.single_root)
            raise_infeasible(_status_of(total))
            (arcs,) = torch.autograd.grad(total.sum(), source)
        return arcs

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


def _status_of(total: Tensor) -> NDArray[np.int8]:
    status = torch.where(total == -torch.inf, INFEASIBLE, torch.where(total.isfinite(), FEASIBLE, NOT_A_NUMBER))
    return status.cpu().numpy().astype(np.int8)


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
