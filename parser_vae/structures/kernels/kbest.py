"""The k best projective trees of each sentence, compiled.

Every item of Eisner's recursion keeps its k best derivations; those of a larger item are found by taking pairs of
ranks from a frontier, as Huang and Chiang (2005) do. A tree has one derivation, so the trees are distinct.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from parser_vae.structures.kernels.threads import run_over_sentences


def k_best_heads(
    scores: NDArray[Any], lengths: NDArray[Any], single_root: bool, k: int, threads: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return heads ``[batch, k, n + 1]``, best first, and scores ``[batch, k]``, ``-inf`` where no tree is left.

    Args:
        scores: ``[batch, head, dependent]``, float32 or float64, free of NaN and ``+inf``.
        lengths: Words of each sentence ``[batch]``, integers from 1 to n.
        single_root: Exactly one arc leaves the root; else at least one.
        k: How many trees.
        threads: How many sentences may run at a time.
    """
    heads = np.zeros((len(scores), k, scores.shape[1]), np.int32)
    totals = np.full((len(scores), k), -np.inf)
    lengths = np.asarray(lengths, np.int64)

    def part(indices: NDArray[np.int64]) -> None:
        _k_best(scores, lengths, indices, not single_root, heads, totals)

    run_over_sentences(part, lengths, 1, threads)
    return heads, totals


# Tables: 0 right, 1 left, 2 open_right, 3 open_left, as in eisner.py; [table, start, end, rank].


@numba.njit(cache=True, nogil=True)
def _k_best(scores: Any, lengths: Any, indices: Any, with_root: Any, heads: Any, totals: Any) -> None:
    first_node = 0 if with_root else 1
    k = heads.shape[1]
    for sentence in indices:
        length = lengths[sentence]
        size = length + 1 - first_node
        values = np.full((4, size, size, k), -np.inf)
        origins = np.zeros((4, size, size, k, 3), np.int64)  # split, rank of its left piece, rank of its right piece
        for node in range(size):
            values[0, node, node, 0] = 0
            values[1, node, node, 0] = 0
        for width in range(1, size):
            for start in range(size - width):
                end = start + width
                for table, begins, ends, first, gap in ((2, 0, 1, 0, 1), (0, 2, 0, 1, 0), (1, 1, 3, 0, 0)):
                    low, high = start + first, start + first + width
                    _merge(
                        values[begins, start, low:high],
                        values[ends, low + gap : high + gap, end],
                        low,
                        values[table, start, end],
                        origins[table, start, end],
                    )
                    if table == 2:  # what lies between the ends of an arc: add the two arcs
                        _close(values, origins, start, end, scores[sentence], first_node)
        if with_root:
            for rank in range(k):
                if values[0, 0, length, rank] > -np.inf:
                    totals[sentence, rank] = values[0, 0, length, rank]
                    _trace(origins, 0, 0, length, rank, 0, heads[sentence, rank])
        else:
            # the root's arc joins what is left and right of a word: fold its score into the former
            for word in range(size):
                for rank in range(k):
                    values[1, 0, word, rank] += scores[sentence, 0, word + 1]
            choices = np.zeros((k, 3), np.int64)
            _merge(values[1, 0, :], values[0, :, size - 1], 0, totals[sentence], choices)
            for rank in range(k):
                if totals[sentence, rank] > -np.inf:
                    word, before, after = choices[rank, 0], choices[rank, 1], choices[rank, 2]
                    _trace(origins, 1, 0, word, before, 1, heads[sentence, rank])
                    _trace(origins, 0, word, size - 1, after, 1, heads[sentence, rank])


@numba.njit(cache=True)
def _close(values: Any, origins: Any, start: Any, end: Any, scores: Any, first_node: Any) -> None:
    """Make of the derivations between two nodes, in table 2, those of the two arcs that join the nodes."""
    score_right = scores[start + first_node, end + first_node]
    score_left = scores[end + first_node, start + first_node] if start + first_node > 0 else -np.inf
    for rank in range(values.shape[3]):
        values[3, start, end, rank] = values[2, start, end, rank] + score_left
        values[2, start, end, rank] += score_right
        for part in range(3):
            origins[3, start, end, rank, part] = origins[2, start, end, rank, part]


@numba.njit(cache=True)
def _merge(before: Any, after: Any, first: Any, best: Any, origins: Any) -> None:
    """Fill ``best [k]`` with the greatest ``before[split, i] + after[split, j]``, and ``origins [k, 3]`` with those."""
    splits, k = before.shape
    frontier = np.empty((splits + k, 3), np.int64)
    frontier_values = np.empty(splits + k)
    count = splits
    for split in range(splits):
        frontier[split, 0] = split
        frontier[split, 1] = 0
        frontier[split, 2] = 0
        frontier_values[split] = before[split, 0] + after[split, 0]
    for rank in range(k):
        chosen = 0
        for index in range(1, count):
            if frontier_values[index] > frontier_values[chosen]:
                chosen = index
        value = frontier_values[chosen]
        best[rank] = value
        if not value > -np.inf:
            break
        split, left_rank, right_rank = frontier[chosen, 0], frontier[chosen, 1], frontier[chosen, 2]
        origins[rank, 0] = first + split
        origins[rank, 1] = left_rank
        origins[rank, 2] = right_rank
        # each pair is reached one way only: first its right rank grows, then its left rank
        frontier_values[chosen] = -np.inf
        if left_rank + 1 < k:
            frontier[chosen, 1] = left_rank + 1
            frontier_values[chosen] = before[split, left_rank + 1] + after[split, right_rank]
        if left_rank == 0 and right_rank + 1 < k:
            frontier[count, 0] = split
            frontier[count, 1] = 0
            frontier[count, 2] = right_rank + 1
            frontier_values[count] = before[split, 0] + after[split, right_rank + 1]
            count += 1


@numba.njit(cache=True)
def _trace(origins: Any, table: Any, start: Any, end: Any, rank: Any, first_node: Any, heads: Any) -> None:
    """Write the heads below one derivation of an item."""
    stack = np.empty((2 * origins.shape[1] + 4, 4), np.int64)
    waiting = _push(stack, 0, table, start, end, rank)
    while waiting > 0:
        waiting -= 1
        table, start, end, rank = stack[waiting, 0], stack[waiting, 1], stack[waiting, 2], stack[waiting, 3]
        if start == end:
            continue
        origin = origins[table, start, end, rank]
        split, before, after = origin[0], origin[1], origin[2]
        if table == 0:
            heads[first_node + split] = first_node + start
            waiting = _push(stack, waiting, 2, start, split, before)
            waiting = _push(stack, waiting, 0, split, end, after)
        elif table == 1:
            heads[first_node + split] = first_node + end
            waiting = _push(stack, waiting, 1, start, split, before)
            waiting = _push(stack, waiting, 3, split, end, after)
        else:
            waiting = _push(stack, waiting, 0, start, split, before)
            waiting = _push(stack, waiting, 1, split + 1, end, after)


@numba.njit(cache=True, inline="always")
def _push(stack: Any, waiting: Any, table: Any, start: Any, end: Any, rank: Any) -> Any:
    stack[waiting, 0] = table
    stack[waiting, 1] = start
    stack[waiting, 2] = end
    stack[waiting, 3] = rank
    return waiting + 1
