# mypy: disable-error-code="no-untyped-call, untyped-decorator"
"""Compiled inner loops of the language model's judgement of trees, without gradients."""

from __future__ import annotations

import math
from typing import Any

import numba
import torch
from torch import Tensor

from parser_vae.structures.kernels.simd import exponential, lanes_of, load, maximum, spread, store


def mixed_states(
    own: Tensor,
    from_head: Tensor,
    from_dependent: Tensor,
    trees: Tensor,
    rows: tuple[Tensor, Tensor, Tensor],
    shift: int,
) -> Tensor:
    """Return a step's own state plus the messages that it receives ``[rows, hidden]``, before the tanh.

    A step receives from few words, so adding those up is much cheaper than a product with all.

    Args:
        own: States ``[batch, steps, hidden]``.
        from_head: The message of each word to its dependents, shaped like ``own``.
        from_dependent: The message of each word to its head, shaped like ``own``.
        trees: 0/1 trees ``[members, batch, head, dependent]``.
        rows: Which members, sentences and steps.
        shift: Step ``i`` receives along the arcs of word ``i + shift``, from words to its left.
    """
    result = own.new_empty(len(rows[0]), own.shape[2])
    states = tuple(tensor.detach().contiguous().numpy() for tensor in (own, from_head, from_dependent))
    places = tuple(index.contiguous().numpy() for index in rows)
    _mix(states, trees.to(torch.bool).contiguous().numpy(), places, result.numpy(), shift)
    return result


@numba.njit(cache=True, nogil=True)
def _mix(states: Any, trees: Any, places: Any, result: Any, shift: Any) -> None:
    own, from_head, from_dependent = states
    member, sentence, step = places
    for row in range(len(result)):
        tree, which = trees[member[row], sentence[row]], sentence[row]
        word = step[row] + shift
        result[row] = own[which, step[row]]
        if word < len(tree):
            for sender in range(word):
                if tree[sender, word]:
                    result[row] += from_head[which, sender]
                if tree[word, sender]:
                    result[row] += from_dependent[which, sender]


def log_sum_exp(scores: Tensor, bias: Tensor) -> Tensor:
    """Return ``log sum_k exp(scores[., k] + bias[k])`` ``[rows]``; the scores ``[rows, k]`` are overwritten."""
    result = scores.new_empty(len(scores))
    _log_sum_exp(scores.view(-1).numpy(), bias.detach().contiguous().numpy(), result.numpy())
    return result


@numba.njit(cache=True, nogil=True, boundscheck=False)
def _log_sum_exp(scores: Any, bias: Any, result: Any) -> None:
    size, lanes = len(bias), lanes_of(scores)
    whole = size - size % lanes
    spare = scores[:lanes].copy()
    for row in range(len(result)):
        start = row * size
        largest = -math.inf
        most = spread(scores, -math.inf)
        for k in range(0, whole, lanes):
            value = load(scores, start + k) + load(bias, k)
            store(scores, start + k, value)
            most = maximum(value, most)
        store(spare, 0, most)
        for k in range(lanes):
            largest = max(largest, spare[k])
        for k in range(whole, size):
            scores[start + k] += bias[k]
            largest = max(largest, scores[start + k])
        below = spread(scores, largest)
        sums = spread(scores, 0.0)
        for k in range(0, whole, lanes):
            sums = sums + exponential(scores, load(scores, start + k) - below)
        store(spare, 0, sums)
        total = 0.0
        for k in range(lanes):
            total += spare[k]
        for k in range(whole, size):
            total += math.exp(scores[start + k] - largest)
        result[row] = largest + math.log(total)
