"""The best projective tree of each sentence: Eisner's algorithm (1996), compiled.

Four tables over spans: complete spans headed by their left end (``right``: all dependents lie to the right) or their
right end (``left``), and open spans whose two ends are joined by an arc (``open_right``, ``open_left``). With a
sentence in each lane, the chart notes where every best item is split: the trace would spend longer on finding that
again. With one long sentence it is the other way round. Layouts: see ``layout.py``.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from parser_vae.structures.kernels.layout import choose_layout, row, spread_parts, table_size
from parser_vae.structures.kernels.simd import (
    REGISTER_BYTES,
    kernel,
    lanes_of,
    load,
    maximum,
    spread,
    store,
    where_greater,
)
from parser_vae.structures.kernels.threads import run_over_sentences, workspace

FEASIBLE, INFEASIBLE, NOT_A_NUMBER = 0, 1, 2
RIGHT, LEFT, OPEN_RIGHT, OPEN_LEFT = 0, 1, 2, 3  # kinds of items, and numbers of their tables

_SPLIT, _SPLIT_OPEN = 4, 6  # tables: best splits of right, of left, and of what lies between the ends of an arc
_TABLES = 7
_MOST_LANES = 16
_LONGEST_IN_LANES = 80


def scratch_size(nodes: int, itemsize: int) -> int:
    """Return the elements of scratch memory that a search needs, for sentences of up to ``nodes - 1`` words."""
    return _TABLES * table_size(nodes, itemsize) + (REGISTER_BYTES // itemsize) ** 2


def queue_for(nodes: int) -> NDArray[np.int64]:
    """Return the queue that a search needs, for sentences of up to ``nodes - 1`` words."""
    return workspace(np.int64, _MOST_LANES * 4 * (2 * nodes + 4)).reshape(-1, 4)


def eisner_heads(
    scores: NDArray[Any], lengths: NDArray[Any], single_root: bool, threads: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
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
    heads = np.zeros(scores.shape[:2], np.int64)
    status = np.zeros(scores.shape[0], np.int8)
    lengths = np.asarray(lengths, np.int64)
    elements = scratch_size(scores.shape[1], scores.itemsize)

    def part(indices: NDArray[np.int64]) -> None:
        search(
            scores,
            lengths,
            indices,
            not single_root,
            heads,
            status,
            workspace(scores.dtype, elements),
            queue_for(scores.shape[1]),
        )

    run_over_sentences(part, lengths, REGISTER_BYTES // scores.itemsize, threads)
    return heads, status


@kernel
def search(
    scores: Any, lengths: Any, indices: Any, with_root: Any, heads: Any, status: Any, work: Any, queue: Any
) -> None:
    """Fill ``heads`` and ``status`` of the sentences of ``indices``, whose lengths descend.

    With one root the chart spans the words alone and the root's arc is chosen last; with many, node 0 is the root.
    """
    lanes = lanes_of(scores)
    first_node = 0 if with_root else 1
    begin = 0
    while begin < len(indices):
        size = lengths[indices[begin]] + 1 - first_node
        count, layout = choose_layout(size, len(indices) - begin, lanes, _LONGEST_IN_LANES)
        elements = row(layout, size) + 4 * lanes
        check = work[_TABLES * elements :]
        group = indices[begin : begin + count]
        up = work[OPEN_RIGHT * elements : (OPEN_RIGHT + 1) * elements]
        down = work[OPEN_LEFT * elements : (OPEN_LEFT + 1) * elements]
        spread_parts(scores, lengths, group, first_node, size, layout, -np.inf, up, down, check)
        noted = layout[3] == 1
        if noted:
            _chart(work, elements, size, layout, check, True)
        else:
            _chart(work, elements, size, layout, check, None)
        if layout[3] != 1:  # the lanes are one sentence: its problem is any lane's
            for lane in range(1, lanes):
                check[0] += check[lane]
        _best_trees(work, elements, layout, noted, group, lengths, scores, check, with_root, queue, heads, status)
        begin += count


@kernel
def _chart(work: Any, elements: Any, size: Any, layout: Any, check: Any, noting: Any) -> None:
    """Fill the tables, the scores of the arcs being in ``open_right`` and ``open_left``; splits if ``noting``.

    ``check`` becomes NaN in the lanes that read a NaN or ``+inf`` score. ``noting`` is True or None.
    """
    right, left, open_right, open_left = 0, elements, 2 * elements, 3 * elements
    row_size, row_shrink, stride, step = layout
    lowest = spread(work, np.finfo(np.float32).min)
    forbidden = spread(work, -np.inf)
    zero = spread(work, 0.0)
    one = spread(work, 1.0)
    checked = zero
    for start in range(0, size, step):
        store(work, right + start * stride, zero)
        store(work, left + start * stride, zero)
    # by start, from the right: the items that begin here stay in the cache while their widths grow
    for start in range((size - 1) // step * step, -1, -step):
        for width in range(1, size - start):
            first = row_size + start * stride  # the item that begins here and has width `split`
            second = row(layout, width - 1) + (start + 1) * stride  # the item that ends where this one does
            between = load(work, left + second)
            best_right = forbidden
            best_left = forbidden
            place = zero
            split_between, split_right, split_left = zero, zero, zero
            for split in range(1, width):
                following = second + stride - row_size + (width - split - 1) * row_shrink
                closed = load(work, right + first) + load(work, left + following)
                to_right = load(work, open_right + first) + load(work, right + second)
                to_left = load(work, left + first) + load(work, open_left + second)
                if noting is not None:
                    place = place + one
                    split_between = where_greater(closed, between, place, split_between)
                    split_right = where_greater(to_right, best_right, place, split_right)
                    split_left = where_greater(to_left, best_left, place, split_left)
                between = maximum(closed, between)
                best_right = maximum(to_right, best_right)
                best_left = maximum(to_left, best_left)
                first += row_size - split * row_shrink
                second = following
            at = row(layout, width) + start * stride
            score_right = load(work, open_right + at)
            score_left = load(work, open_left + at)
            # maximum(lowest, NaN) is NaN, and 0 * NaN and 0 * inf are NaN: one test for both, -inf passes
            checked = checked + zero * maximum(lowest, score_right) + zero * maximum(lowest, score_left)
            arc_right = between + score_right
            arc_left = between + score_left
            store(work, open_right + at, arc_right)
            store(work, open_left + at, arc_left)
            if noting is not None:  # the arc between the ends is the last choice to the right, the first to the left
                place = place + one
                store(work, _SPLIT_OPEN * elements + at, split_between)
                store(work, _SPLIT * elements + at, where_greater(arc_right, best_right, place, split_right))
                store(work, (_SPLIT + 1) * elements + at, where_greater(best_left, arc_left, split_left, zero))
            store(work, right + at, maximum(arc_right, best_right))
            store(work, left + at, maximum(arc_left, best_left))
    store(check, 0, checked)


@kernel
def _best_trees(
    work: Any, elements: Any, layout: Any, noted: Any, group: Any, lengths: Any, scores: Any, check: Any,
    with_root: Any, queue: Any, heads: Any, status: Any,
) -> None:  # fmt: skip
    """Write the best trees of a group and the status of each."""
    stride = layout[2]
    end = 0
    for lane in range(len(group)):
        sentence = group[lane]
        length = lengths[sentence]
        problem = check[lane]
        best_word = 0
        if with_root:
            best = work[row(layout, length) + lane]
        else:
            best = work[0] - np.inf
            for word in range(length):
                root_score = scores[sentence, 0, word + 1]
                if not root_score < np.inf:
                    problem += np.nan
                before = work[elements + row(layout, word) + lane]
                value = before + root_score + work[row(layout, length - 1 - word) + word * stride + lane]
                best_word = word if value > best else best_word
                best = max(best, value)
        if problem != problem:
            status[sentence] = NOT_A_NUMBER
        elif not best > -np.inf:
            status[sentence] = INFEASIBLE
        elif with_root:
            status[sentence] = FEASIBLE
            end = append(queue, end, lane, 0, length, RIGHT)
        else:
            status[sentence] = FEASIBLE
            heads[sentence, best_word + 1] = 0
            end = append(queue, end, lane, 0, best_word, LEFT)
            end = append(queue, end, lane, best_word, length - 1 - best_word, RIGHT)
    _trace(work, elements, layout, noted, group, 0 if with_root else 1, queue, end, heads)


@numba.njit(cache=True, inline="always")
def append(queue: Any, end: Any, lane: Any, start: Any, width: Any, kind: Any) -> Any:
    """Put an item at the end of the queue, unless it is a single node, and return the new end."""
    queue[end, 0] = lane
    queue[end, 1] = start
    queue[end, 2] = width
    queue[end, 3] = kind
    return end + (width > 0)


@kernel
def _trace(
    work: Any, elements: Any, layout: Any, noted: Any, group: Any, first_node: Any, queue: Any, end: Any, heads: Any
) -> None:
    """Write the heads below the items ``queue[:end]``: (lane, start, width, RIGHT or LEFT).

    A complete item is an open one, which holds its head's outermost arc, and a complete one on the far side of that; an
    open one is two complete ones that meet between the ends of the arc. First come, first served: the next item never
    has to wait for this one.
    """
    stride = layout[2]
    turn = 0
    while turn < end:
        lane, start, width, kind = queue[turn, 0], queue[turn, 1], queue[turn, 2], queue[turn, 3]
        turn += 1
        sentence = group[lane]
        first = start * stride + lane
        here = row(layout, width) + first
        if noted:
            split = np.int64(work[(_SPLIT + kind) * elements + here])
        elif kind == RIGHT:
            begins, ends = OPEN_RIGHT * elements + layout[0] + first, row(layout, width - 1) + first + stride
            split = 1 + _first_best(work, begins, ends, layout, 1, width - 1, width)
        else:
            split = _first_best(work, LEFT * elements + first, OPEN_LEFT * elements + here, layout, 0, width, width)
        middle = start + split
        head = start if kind == RIGHT else start + width
        rest = middle if kind == RIGHT else start
        inner = start if kind == RIGHT else middle
        rest_width = width - split if kind == RIGHT else split
        width -= rest_width
        heads[sentence, first_node + middle] = first_node + head
        end = append(queue, end, lane, rest, rest_width, kind)
        first = inner * stride + lane
        here = row(layout, width) + first
        if noted:
            split = np.int64(work[_SPLIT_OPEN * elements + here])
        else:
            ends = LEFT * elements + row(layout, width - 1) + first + stride
            split = _first_best(work, first, ends, layout, 0, width - 1, width)
        end = append(queue, end, lane, inner, split, RIGHT)
        end = append(queue, end, lane, inner + split + 1, width - 1 - split, LEFT)


@numba.njit(cache=True, inline="always")
def _first_best(
    work: Any, first: Any, second: Any, layout: Any, width_first: Any, width_second: Any, choices: Any
) -> Any:
    """Return how many of the ``choices`` to split an item come before the first of those with the greatest value.

    ``first`` and ``second`` are where the two pieces of the first choice are, which have ``width_first`` and
    ``width_second``.
    """
    row_size, row_shrink, stride, _ = layout
    best = work[first] + work[second]
    found = 0
    for skipped in range(1, choices):
        first += row_size - (width_first + skipped - 1) * row_shrink
        second += stride - row_size + (width_second - skipped) * row_shrink
        value = work[first] + work[second]
        found = skipped if value > best else found
        best = max(best, value)
    return found
