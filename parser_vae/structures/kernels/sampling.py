"""Exact samples of projective trees, drawn from the top of the inside chart down, compiled."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from parser_vae.structures.kernels.eisner import LEFT, NOT_A_NUMBER, OPEN_LEFT, OPEN_RIGHT, RIGHT, append
from parser_vae.structures.kernels.inside_outside import (
    LONGEST_IN_LANES,
    OUT_OF_RANGE,
    elements_needed,
    in_range,
    inside,
    prepare,
)
from parser_vae.structures.kernels.layout import choose_layout, row, starts_layout
from parser_vae.structures.kernels.simd import lanes_of
from parser_vae.structures.kernels.threads import run_over_sentences, workspace

_TABLES = 9


def sample_heads(
    scores: NDArray[Any], lengths: NDArray[Any], uniforms: NDArray[np.float64], single_root: bool, threads: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Return heads ``[batch, count, n + 1]`` drawn from ``exp(score) / Z`` and the status of each sentence.

    Args:
        scores: ``[batch, head, dependent]``, float32 or float64, C-contiguous.
        lengths: Words of each sentence ``[batch]``, integers from 1 to n.
        uniforms: Independent numbers from [0, 1), ``[batch, count, 2 n + 1]``: one for each choice.
        single_root: Exactly one arc leaves the root; else at least one.
        threads: How many groups of sentences may run at a time.
    """
    heads = np.zeros((*uniforms.shape[:2], scores.shape[1]), np.int32)
    status = np.zeros(scores.shape[0], np.int8)
    lengths = np.asarray(lengths, np.int64)
    elements = elements_needed(scores.shape[1])

    def part(indices: NDArray[np.int64]) -> None:
        work = workspace(np.float64, elements)
        _sample(scores, lengths, indices, not single_root, uniforms, heads, status, work)

    run_over_sentences(part, lengths, 8, threads)
    return heads, status


def sample_from_logs(
    tables: NDArray[np.float64], root: NDArray[np.float64] | None, uniforms: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Return heads ``[count, n + 1]`` of one sentence, given the logarithms of its inside values.

    Args:
        tables: right, left, open_right, open_left: ``[4, width, start]``.
        root: The scores ``[n]`` of the root's arcs if exactly one may be used, or None if the chart holds the root.
        uniforms: ``[count, 2 n + 1]``.
    """
    size = tables.shape[1]
    layout = starts_layout(size, 8)
    elements = size * layout[0]
    work = np.zeros(5 * elements)
    for number, table in enumerate(tables):
        work[number * elements : (number + 1) * elements].reshape(size, layout[0])[:, :size] = table
    length = size - 1 if root is None else size
    if root is not None:
        work[4 * elements : 4 * elements + size] = root
    heads = np.zeros((len(uniforms), length + 1), np.int32)
    _trace_all(work, elements, layout, 0, length, 4 * elements, root is None, True, uniforms, heads)
    return heads


@numba.njit(cache=True, nogil=True)
def _sample(
    scores: Any, lengths: Any, indices: Any, with_root: Any, uniforms: Any, heads: Any, status: Any, work: Any
) -> None:
    lanes = lanes_of(work)
    first_node = 0 if with_root else 1
    work[:lanes] = 0
    work = work[lanes:]
    begin = 0
    while begin < len(indices):
        size = lengths[indices[begin]] + 1 - first_node
        count, layout = choose_layout(size, len(indices) - begin, lanes, LONGEST_IN_LANES)
        elements = row(layout, size) + 4 * lanes
        group = indices[begin : begin + count]
        top = _TABLES * elements
        root = top + (size + 4) * lanes
        prepare(scores, None, lengths, group, first_node, size, layout, elements, work, top, root, None)
        inside(work, elements, size, layout, None)
        for lane in range(count):
            sentence = group[lane]
            length = lengths[sentence]
            if work[top + (1 - first_node) * layout[2] + lane] != work[top + (1 - first_node) * layout[2] + lane]:
                status[sentence] = NOT_A_NUMBER
                continue
            total = work[row(layout, length) + lane] if with_root else 0.0
            if not with_root:
                for word in range(length):
                    total += _root_weight(work, elements, layout, lane, length, root, word, False)
            if not in_range(math.log(total) if total > 0 else -np.inf, length):
                status[sentence] = OUT_OF_RANGE
                continue
            _trace_all(
                work, elements, layout, lane, length, root, with_root, False, uniforms[sentence], heads[sentence]
            )
        begin += count


@numba.njit(cache=True)
def _root_weight(work: Any, elements: Any, layout: Any, lane: Any, length: Any, root: Any, word: Any, logs: Any) -> Any:
    before = work[elements + row(layout, word) + lane]
    chosen = work[root + word * layout[2] + lane]
    after = work[row(layout, length - 1 - word) + word * layout[2] + lane]
    return before + chosen + after if logs else before * chosen * after


@numba.njit(cache=True, nogil=True)
def _trace_all(
    work: Any, elements: Any, layout: Any, lane: Any, length: Any, root: Any, with_root: Any, logs: Any, uniforms: Any,
    heads: Any,
) -> None:  # fmt: skip
    """Fill ``heads [count, n + 1]`` with one sample for each row of ``uniforms``; ``logs``: tables hold logarithms."""
    stride = layout[2]
    stack = np.empty((2 * length + 4, 4), np.int64)
    weights = np.empty(length + 1)
    for draw in range(len(uniforms)):
        used = 0
        waiting = 0
        if with_root:
            waiting = append(stack, waiting, lane, 0, length, RIGHT)
        else:
            for word in range(length):
                weights[word] = _root_weight(work, elements, layout, lane, length, root, word, logs)
            word = _choose(weights, length, uniforms[draw, used], logs)
            used += 1
            waiting = append(stack, waiting, lane, 0, word, LEFT)
            waiting = append(stack, waiting, lane, word, length - 1 - word, RIGHT)
        first_node = 0 if with_root else 1
        while waiting > 0:
            waiting -= 1
            start, width, kind = stack[waiting, 1], stack[waiting, 2], stack[waiting, 3]
            # table of the piece that begins here, table of the piece that ends there, the first split, the gap
            begins, ends, first, gap = 0, elements, 0, 1
            if kind == RIGHT:
                begins, ends, first, gap = 2 * elements, 0, 1, 0
            elif kind == LEFT:
                begins, ends, first, gap = elements, 3 * elements, 0, 0
            for choice in range(width):
                split = choice + first
                before = work[begins + row(layout, split) + start * stride + lane]
                after = work[ends + row(layout, width - gap - split) + (start + split + gap) * stride + lane]
                weights[choice] = before + after if logs else before * after
            split = first + _choose(weights, width, uniforms[draw, used], logs)
            used += 1
            if kind == RIGHT:
                heads[draw, first_node + start + split] = first_node + start
                waiting = append(stack, waiting, lane, start, split, OPEN_RIGHT)
                waiting = append(stack, waiting, lane, start + split, width - split, RIGHT)
            elif kind == LEFT:
                heads[draw, first_node + start + split] = first_node + start + width
                waiting = append(stack, waiting, lane, start, split, LEFT)
                waiting = append(stack, waiting, lane, start + split, width - split, OPEN_LEFT)
            else:
                waiting = append(stack, waiting, lane, start, split, RIGHT)
                waiting = append(stack, waiting, lane, start + split + 1, width - 1 - split, LEFT)


@numba.njit(cache=True)
def _choose(weights: Any, count: Any, uniform: Any, logs: Any) -> Any:
    """Return a choice drawn in proportion to its weight; one of weight 0 never is."""
    if logs:
        best = weights[:count].max()
        for choice in range(count):
            weights[choice] = math.exp(weights[choice] - best)
    rest = uniform * weights[:count].sum()
    chosen = 0
    for choice in range(count):
        if weights[choice] > 0:
            chosen = choice
            rest -= weights[choice]
            if rest < 0:
                break
    return chosen
