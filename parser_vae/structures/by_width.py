"""Eisner's recursion in plain torch: all spans of one width, of all sentences, in a few operations.

Runs on any device and dtype, in the logarithmic domain, and autograd sees through it. It serves accelerators, and
those rare sentences whose partition function leaves the range in which the compiled kernels work. One recursion gives
everything: what changes is how candidates are reduced, and gradients with respect to arc scores are arcs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]
Rows = list[Tensor]


def best_total(scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
    """Return the score ``[batch]`` of the best tree, ``-inf`` if there is none; its gradient is that tree's arcs."""
    arcs = readable(scores, lengths, -torch.inf)
    return _total(arcs, lengths, single_root, -torch.inf, lambda candidates: candidates.max(-1).values)


def log_partition(scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
    """Return ``log Z [batch]``, ``-inf`` if there is no tree; as often differentiable as one likes."""
    low = torch.finfo(scores.dtype).min / (4 * scores.shape[-1])  # so that a sum of them is finite
    arcs = readable(scores, lengths, low)
    total = _total(arcs, lengths, single_root, low, lambda candidates: candidates.logsumexp(-1))
    return torch.where(total < low / 2, -torch.inf, total)


def soft_tree(scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
    """Return the expected-value relaxation of the best tree (Corro and Titov, 2019) ``[batch, head, dependent]``.

    The recursion runs twice: with expected values, and then, with the probabilities of the first run, as a linear
    function of the arcs. That function's gradient is the weight of each arc. ``scores`` must be finite.
    """
    probabilities: list[Tensor] = []

    def expected(candidates: Tensor) -> Tensor:
        probabilities.append(candidates.softmax(-1))
        return (probabilities[-1] * candidates).sum(-1)

    with torch.enable_grad():
        low = very_low(scores)
        _total(readable(scores, lengths, low), lengths, single_root, low, expected)
        known = iter(probabilities)
        arcs = torch.zeros_like(scores, requires_grad=True)
        total = _total(arcs, lengths, single_root, 0.0, lambda candidates: (next(known) * candidates).sum(-1))
        (tree,) = torch.autograd.grad(total.sum(), arcs, create_graph=True)
    return tree


def log_tables(scores: Tensor, single_root: bool) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return the logs of one sentence's inside values, as ``sample_from_logs`` takes them, and the root's scores."""
    lengths = torch.tensor([scores.shape[-1] - 1])
    arcs = readable(scores, lengths, torch.finfo(scores.dtype).min / (4 * scores.shape[-1]))
    nodes = arcs[:, 1:, 1:] if single_root else arcs
    tables = np.zeros((4, nodes.shape[1], nodes.shape[1]))
    for table, rows in enumerate(chart(nodes, lambda candidates: candidates.logsumexp(-1))):
        for width, row in enumerate(rows):
            tables[table, width, : row.shape[1]] = row[0].numpy()
    return tables, arcs[0, 0, 1:].numpy() if single_root else None


def very_low(scores: Tensor) -> float:
    """Return a number that stands for ``-inf`` where values are multiplied: its square is still finite."""
    return -math.sqrt(torch.finfo(scores.dtype).max)


def readable(scores: Tensor, lengths: Tensor, low: float) -> Tensor:
    """Return ``scores`` with 0 where nothing may be read, and ``low`` for ``-inf`` and arcs into the root.

    A number in place of ``-inf`` keeps gradients free of NaN.
    """
    nodes = scores.shape[-1]
    position = torch.arange(nodes, device=scores.device)
    inside = position <= lengths[:, None]
    arcs = inside[:, :, None] & inside[:, None, :] & (position[:, None] != position)
    forbidden = (position == 0) | (scores == -torch.inf)
    return scores.masked_fill(~arcs, 0.0).masked_fill(arcs & forbidden, low)


def chart(scores: Tensor, reduce: Reduce) -> tuple[Rows, Rows, Rows, Rows]:
    """Return the tables right, left, open_right, open_left of ``kernels/eisner.py`` in rows ``[batch, starts]``."""
    batch, size = scores.shape[:2]
    right, left = [scores.new_zeros(batch, size)], [scores.new_zeros(batch, size)]
    open_right, open_left = [scores.new_zeros(batch, size)], [scores.new_zeros(batch, size)]
    for width in range(1, size):

        def candidates(begins: Rows, ends: Rows, first: int, gap: int, width: int = width) -> Tensor:
            starts = begins[0].shape[1] - width
            splits = range(first, first + width)
            heads = [begins[split][:, :starts] for split in splits]
            tails = [ends[width - gap - split][:, split + gap : split + gap + starts] for split in splits]
            return torch.stack(heads, -1) + torch.stack(tails, -1)

        between = reduce(candidates(right, left, 0, 1))
        open_right.append(between + scores.diagonal(width, 1, 2))
        open_left.append(between + scores.diagonal(-width, 1, 2))
        right.append(reduce(candidates(open_right, right, 1, 0)))
        left.append(reduce(candidates(left, open_left, 0, 0)))
    return right, left, open_right, open_left


def _total(scores: Tensor, lengths: Tensor, single_root: bool, low: float, reduce: Reduce) -> Tensor:
    batch = torch.arange(len(scores), device=scores.device)
    if not single_root:
        right = chart(scores, reduce)[0]
        return torch.stack([row[:, 0] for row in right], -1)[batch, lengths]
    right, left = chart(scores[:, 1:, 1:], reduce)[:2]
    size = len(right)
    table = torch.stack([torch.nn.functional.pad(row, (0, size - row.shape[1])) for row in right], 1)
    before = torch.stack([row[:, 0] for row in left], -1)
    word = torch.arange(size, device=scores.device)
    after = table[batch[:, None], (lengths[:, None] - 1 - word).clamp_min(0), word]
    inside = word < lengths[:, None]
    # a word past the end must not win, nor weigh anything
    return reduce(torch.where(inside, before + scores[:, 0, 1:] + after, low))
