"""The best projective tree of each sentence: Eisner's algorithm (1996), compiled.

Four tables over spans: complete spans headed by their left end (``right``: all dependents lie to the right) or their
right end (``left``), and open spans whose two ends are joined by an arc (``open_right``, ``open_left``). No
back-pointers are kept: arg-maxes are found again on the best tree only. Layouts: see ``layout.py``.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from parser_vae.structures.kernels.layout import (
    choose_layout,
    row,
    spread_lanes,
    spread_starts,
    table_size,
)
from parser_vae.structures.kernels.simd import REGISTER_BYTES, lanes_of, load, maximum, spread, store
from parser_vae.structures.kernels.threads import run_over_sentences, workspace

FEASIBLE, INFEASIBLE, NOT_A_NUMBER = 0, 1, 2
RIGHT, LEFT, OPEN_RIGHT, OPEN_LEFT = 0, 1, 2, 3  # kinds of items

_LONGEST_IN_LANES = 80
_TABLES = 4


def eisner_heads(
    scores: NDArray[Any], lengths: NDArray[Any], single_root: bool, threads: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Return the heads ``[batch, n + 1]`` of the best projective trees and a status ``[batch]`` of each sentence.

    Args:
        scores: ``[batch, head, dependent]``, float32 or float64, C-contiguous; never written.
        lengths: Words of each sentence ``[batch]``, integers from 1 to n.
        single_root: Exactly one arc leaves the root; else at least one.
        threads: How many sentences' groups may run at a time.

    Returns:
        Heads, 0 at the root's slot and at padding; and FEASIBLE, INFEASIBLE (``-inf`` forbids every tree; the heads
        are 0) or NOT_A_NUMBER (a score is NaN or ``+inf``).
    """
    heads = np.zeros(scores.shape[:2], np.int32)
    status = np.zeros(scores.shape[0], np.int8)
    lengths = np.asarray(lengths, np.int64)
    elements = _TABLES * table_size(scores.shape[1], scores.itemsize) + 64

    def part(indices: NDArray[np.int64]) -> None:
        _eisner(scores, lengths, indices, not single_root, heads, status, workspace(scores.dtype, elements))

    run_over_sentences(part, lengths, REGISTER_BYTES // scores.itemsize, threads)
    return heads, status


@numba.njit(cache=True, nogil=True)
def _eisner(scores: Any, lengths: Any, indices: Any, with_root: Any, heads: Any, status: Any, work: Any) -> None:
    """Fill ``heads`` and ``status`` of the sentences of ``indices``, whose lengths descend.

    With one root the chart spans the words alone and the root's arc is chosen last; with many, node 0 is the root.
    """
    lanes = lanes_of(scores)
    first_node = 0 if with_root else 1
    stack = np.empty((2 * scores.shape[1] + 4, 3), np.int64)
    begin = 0
    while begin < len(indices):
        size = lengths[indices[begin]] + 1 - first_node
        count, layout = choose_layout(size, len(indices) - begin, lanes, _LONGEST_IN_LANES)
        elements = row(layout, size) + 4 * lanes
        tables = (
            work[0:elements],
            work[elements : 2 * elements],
            work[2 * elements : 3 * elements],
            work[3 * elements : 4 * elements],
        )
        check = work[4 * elements : 4 * elements + lanes]
        group = indices[begin : begin + count]
        if layout[3] == 1:
            spread_lanes(scores, lengths, group, first_node, size, layout, -np.inf, tables[2], tables[3])
        else:
            spread_starts(scores[group[0]], first_node, size, layout, -np.inf, tables[2], tables[3])
        _chart(tables, size, layout, check)
        for lane in range(count):
            sentence = group[lane]
            problem = check[lane]
            if layout[3] != 1:
                for other in range(1, lanes):
                    problem += check[other]
            status[sentence] = _best_tree(
                tables, layout, lane, lengths[sentence], scores[sentence], problem, with_root, stack,
                heads[sentence],
            )  # fmt: skip
        begin += count


@numba.njit(cache=True, nogil=True)
def _chart(tables: Any, size: Any, layout: Any, check: Any) -> None:
    """Fill the four tables, the scores of the arcs being in ``open_right`` and ``open_left``.

    ``check`` becomes NaN in the lanes that read a NaN or ``+inf`` score.
    """
    right, left, open_right, open_left = tables
    row_size, row_shrink, stride, step = layout
    lowest = spread(right, np.finfo(np.float32).min)
    forbidden = spread(right, -np.inf)
    zero = spread(right, 0.0)
    checked = zero
    for start in range(0, size, step):
        store(right, start * stride, zero)
        store(left, start * stride, zero)
    # by start, from the right: the items that begin here stay in the cache while their widths grow
    for start in range((size - 1) // step * step, -1, -step):
        for width in range(1, size - start):
            first = row_size + start * stride  # the item that begins here and has width `split`
            second = row(layout, width - 1) + (start + 1) * stride  # the item that ends where this one does
            between = load(left, second)
            best_right = forbidden
            best_left = forbidden
            for split in range(1, width):
                following = second + stride - row_size + (width - split - 1) * row_shrink
                between = maximum(between, load(right, first) + load(left, following))
                best_right = maximum(best_right, load(open_right, first) + load(right, second))
                best_left = maximum(best_left, load(left, first) + load(open_left, second))
                first += row_size - split * row_shrink
                second = following
            at = row(layout, width) + start * stride
            score_right = load(open_right, at)
            score_left = load(open_left, at)
            # maximum(lowest, NaN) is NaN, and 0 * NaN and 0 * inf are NaN: one test for both, -inf passes
            checked = checked + zero * maximum(lowest, score_right) + zero * maximum(lowest, score_left)
            arc_right = between + score_right
            arc_left = between + score_left
            store(open_right, at, arc_right)
            store(open_left, at, arc_left)
            store(right, at, maximum(best_right, arc_right))
            store(left, at, maximum(best_left, arc_left))
    store(check, 0, checked)


@numba.njit(cache=True, nogil=True)
def _best_tree(
    tables: Any, layout: Any, lane: Any, length: Any, scores: Any, problem: Any, with_root: Any,
    stack: Any, heads: Any,
) -> Any:  # fmt: skip
    """Write the best tree of one sentence and return its status."""
    right, left = tables[0], tables[1]
    waiting = 0
    if with_root:
        best = right[row(layout, length) + lane]
        waiting = push(stack, waiting, 0, length, RIGHT)
    else:
        best = right[0] - np.inf
        best_word = 0
        for word in range(length):
            root_score = scores[0, word + 1]
            if not root_score < np.inf:
                problem += np.nan
            value = (
                left[row(layout, word) + lane]
                + root_score
                + right[row(layout, length - 1 - word) + word * layout[2] + lane]
            )
            if value > best:
                best = value
                best_word = word
        waiting = push(stack, waiting, 0, best_word, LEFT)
        waiting = push(stack, waiting, best_word, length - 1 - best_word, RIGHT)
    if problem != problem:
        return NOT_A_NUMBER
    if not best > -np.inf:
        return INFEASIBLE
    _trace(tables, layout, lane, 0 if with_root else 1, scores, stack, waiting, heads)
    return FEASIBLE


@numba.njit(cache=True, inline="always")
def push(stack: Any, waiting: Any, start: Any, width: Any, kind: Any) -> Any:
    """Put an item on the stack and return how many wait there."""
    stack[waiting, 0] = start
    stack[waiting, 1] = width
    stack[waiting, 2] = kind
    return waiting + 1


@numba.njit(cache=True, nogil=True)
def _trace(
    tables: Any, layout: Any, lane: Any, first_node: Any, scores: Any, stack: Any, waiting: Any, heads: Any
) -> None:
    """Write the heads below the ``waiting`` items of ``stack``: (start, width, kind)."""
    right, left, open_right, open_left = tables
    stride = layout[2]
    while waiting > 0:
        waiting -= 1
        start, width, kind = stack[waiting, 0], stack[waiting, 1], stack[waiting, 2]
        if width == 0:
            continue
        first = start * stride + lane
        here = row(layout, width) + first
        if kind == RIGHT:
            target = right[here]
            second = row(layout, width - 1) + first + stride
            split = 1 + _first_reaching(
                open_right, right, layout[0] + first, second, layout, 1, width - 1, target, target - target
            )
            heads[first_node + start + split] = first_node + start
            waiting = push(stack, waiting, start + split, width - split, RIGHT)
            waiting = push(stack, waiting, start, split, OPEN_RIGHT)
        elif kind == LEFT:
            target = left[here]
            split = _first_reaching(left, open_left, first, here, layout, 0, width, target, target - target)
            heads[first_node + start + split] = first_node + start + width
            waiting = push(stack, waiting, start, split, LEFT)
            waiting = push(stack, waiting, start + split, width - split, OPEN_LEFT)
        else:
            target = open_right[here] if kind == OPEN_RIGHT else open_left[here]
            left_node, right_node = first_node + start, first_node + start + width
            arc = scores[left_node, right_node] if kind == OPEN_RIGHT else scores[right_node, left_node]
            second = row(layout, width - 1) + first + stride
            split = _first_reaching(right, left, first, second, layout, 0, width - 1, target, arc)
            waiting = push(stack, waiting, start, split, RIGHT)
            waiting = push(stack, waiting, start + split + 1, width - 1 - split, LEFT)


@numba.njit(cache=True, nogil=True)
def _first_reaching(
    begins: Any, ends: Any, first: Any, second: Any, layout: Any, width_first: Any, width_second: Any, target: Any,
    arc: Any,
) -> Any:  # fmt: skip
    """Return how many splits come before the first whose value is ``target``, the greatest of them.

    The chart computed its maximum by the same operations, so that one split is equal to the last bit.
    """
    row_size, row_shrink, stride, _ = layout
    skipped = 0
    while not begins[first] + ends[second] + arc >= target and skipped < width_second:
        first += row_size - (width_first + skipped) * row_shrink
        second += stride - row_size + (width_second - skipped - 1) * row_shrink
        skipped += 1
    return skipped
