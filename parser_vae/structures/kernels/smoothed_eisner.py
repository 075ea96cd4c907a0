"""The smoothed argmax of Corro and Titov (2019) and its gradient, compiled.

Each maximum of Eisner's recursion becomes the expected value of its candidates under their softmax (not the log of
their sum), and back-tracking sends an item's weight to its pieces in those proportions. Two sweeps give the soft tree:
up (values), down (weights). Two sweeps give the gradient: the weights' gradient is gathered on the way up, beside the
values, and the values' gradient is sent down beside the weights.

No softmax is stored. An item keeps its largest candidate and the inverse of its normaliser, and a candidate's
probability is computed again where it is needed: 24 tables of the squared length, and no cubic one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parser_vae.structures.kernels.layout import (
    choose_layout,
    collect_parts,
    row,
    spread_parts,
    table_size,
)
from parser_vae.structures.kernels.simd import (
    REGISTER_BYTES,
    exponential,
    kernel,
    lanes_of,
    load,
    maximum,
    quotient,
    spread,
    store,
)
from parser_vae.structures.kernels.threads import run_over_sentences, workspace

_LONGEST_IN_LANES = 100
_TABLES = 24


def smoothed_eisner(
    scores: NDArray[Any],
    lengths: NDArray[Any],
    single_root: bool,
    threads: int = 1,
    gradient: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return soft trees ``[batch, head, dependent]``, or the gradient with respect to the scores.

    Args:
        scores: ``[batch, head, dependent]``, float32 or float64, C-contiguous, finite.
        lengths: Words of each sentence ``[batch]``, integers from 1 to n.
        single_root: Exactly one arc leaves the root; else at least one.
        threads: How many groups of sentences may run at a time.
        gradient: The gradient of a loss with respect to the soft trees, like ``scores``. If given, the result is the
            gradient with respect to the scores.
    """
    result = np.zeros(scores.shape, scores.dtype)  # not zeros_like, which writes the zeros instead of asking for them
    lengths = np.asarray(lengths, np.int64)
    lanes = REGISTER_BYTES // scores.itemsize
    elements = _TABLES * table_size(scores.shape[1], scores.itemsize) + lanes**2

    def part(indices: NDArray[np.int64]) -> None:
        _smoothed(scores, gradient, lengths, indices, not single_root, result, workspace(scores.dtype, elements))

    run_over_sentences(part, lengths, lanes, threads)
    return result


@kernel
def _smoothed(scores: Any, gradient: Any, lengths: Any, indices: Any, with_root: Any, result: Any, work: Any) -> None:
    """Fill ``result`` of the sentences of ``indices``, whose lengths descend."""
    lanes = lanes_of(scores)
    first_node = 0 if with_root else 1
    begin = 0
    while begin < len(indices):
        size = lengths[indices[begin]] + 1 - first_node
        count, layout = choose_layout(size, len(indices) - begin, lanes, _LONGEST_IN_LANES)
        elements = row(layout, size) + 4 * lanes
        group = indices[begin : begin + count]
        work[: _TABLES * elements] = 0  # weights start at 0, and what lies past a row's end must be finite
        _read(scores, lengths, group, first_node, size, layout, work, elements, 2 * elements)
        if gradient is not None:
            _read(gradient, lengths, group, first_node, size, layout, work, elements, 17 * elements)
        _sweep_up(work, elements, size, layout, gradient)
        for lane in range(count):
            sentence = group[lane]
            if with_root:
                work[11 * elements + row(layout, lengths[sentence]) + lane] = 1
            elif gradient is None:
                _choose_root(work, elements, layout, lane, lengths[sentence], scores[sentence], None, result[sentence])
            else:
                _choose_root(
                    work, elements, layout, lane, lengths[sentence], scores[sentence], gradient[sentence],
                    result[sentence],
                )  # fmt: skip
        _sweep_down(work, elements, size, layout, gradient)
        arcs = 13 if gradient is None else 22
        up = work[arcs * elements : (arcs + 1) * elements]
        down = work[(arcs + 1) * elements : (arcs + 2) * elements]
        collect_parts(up, down, layout, group, first_node, size, lengths, result, work[_TABLES * elements :])
        begin += count


@kernel
def _read(
    parts: Any, lengths: Any, group: Any, first_node: Any, size: Any, layout: Any, work: Any, elements: Any, table: Any
) -> None:
    """Copy the arcs of a group to the table at ``table`` (head on the left) and the next one (head on the right)."""
    up = work[table : table + elements]
    down = work[table + elements : table + 2 * elements]
    spread_parts(parts, lengths, group, first_node, size, layout, 0.0, up, down, work[_TABLES * elements :])


# Tables. Values: 0 right, 1 left, 2 open_right, 3 open_left, 4 between. Largest candidate and inverse normaliser:
# 5 and 6 of between, 7 and 8 of right, 9 and 10 of left. Weights: 11 right, 12 left, 13 open_right, 14 open_left.
# Gradient of the weights: 15 right, 16 left, 17 open_right, 18 open_left, 19 between. Gradient of the values:
# 20 right, 21 left, 22 open_right, 23 open_left.


@kernel
def _sweep_up(work: Any, elements: Any, size: Any, layout: Any, gradient: Any) -> None:
    """Fill tables 0 to 10, and 15 to 19 if there is a gradient; scores and gradient of the arcs are replaced."""
    right, left, open_right, open_left = 0, elements, 2 * elements, 3 * elements
    row_size, row_shrink, stride, step = layout
    zero = spread(work, 0.0)
    one = spread(work, 1.0)
    for start in range((size - 1) // step * step, -1, -step):
        for width in range(1, size - start):
            at = row(layout, width) + start * stride
            first = start * stride
            second = row(layout, width - 1) + (start + 1) * stride
            best = load(work, right + first) + load(work, left + second)
            for split in range(1, width):
                first += row_size - (split - 1) * row_shrink
                second += stride - row_size + (width - split - 1) * row_shrink
                best = maximum(best, load(work, right + first) + load(work, left + second))
            first = start * stride
            second = row(layout, width - 1) + (start + 1) * stride
            norm = zero
            value = zero
            slope = zero
            for split in range(width):
                candidate = load(work, right + first) + load(work, left + second) - best
                weight = exponential(work, candidate)
                norm = norm + weight
                value = value + weight * candidate
                if gradient is not None:
                    slope = slope + weight * (load(work, 15 * elements + first) + load(work, 16 * elements + second))
                first += row_size - split * row_shrink
                second += stride - row_size + (width - split - 2) * row_shrink
            inverse = quotient(one, norm)
            between = best + value * inverse
            store(work, 4 * elements + at, between)
            store(work, 5 * elements + at, best)
            store(work, 6 * elements + at, inverse)
            arc_right = between + load(work, open_right + at)
            arc_left = between + load(work, open_left + at)
            store(work, open_right + at, arc_right)
            store(work, open_left + at, arc_left)
            slope_right = zero
            slope_left = zero
            if gradient is not None:
                slope = slope * inverse
                slope_right = slope + load(work, 17 * elements + at)
                slope_left = slope + load(work, 18 * elements + at)
                store(work, 17 * elements + at, slope_right)
                store(work, 18 * elements + at, slope_left)
                store(work, 19 * elements + at, slope)

            best_right = arc_right
            best_left = arc_left
            first = row_size + start * stride
            second = row(layout, width - 1) + (start + 1) * stride
            for split in range(1, width):
                best_right = maximum(best_right, load(work, open_right + first) + load(work, right + second))
                best_left = maximum(best_left, load(work, left + first) + load(work, open_left + second))
                first += row_size - split * row_shrink
                second += stride - row_size + (width - split - 1) * row_shrink
            norm_right = exponential(work, arc_right - best_right)
            norm_left = exponential(work, arc_left - best_left)
            value_right = norm_right * (arc_right - best_right)
            value_left = norm_left * (arc_left - best_left)
            slope_right = slope_right * norm_right
            slope_left = slope_left * norm_left
            first = row_size + start * stride
            second = row(layout, width - 1) + (start + 1) * stride
            for split in range(1, width):
                candidate = load(work, open_right + first) + load(work, right + second) - best_right
                weight = exponential(work, candidate)
                norm_right = norm_right + weight
                value_right = value_right + weight * candidate
                if gradient is not None:
                    slope_right = slope_right + weight * (
                        load(work, 17 * elements + first) + load(work, 15 * elements + second)
                    )
                candidate = load(work, left + first) + load(work, open_left + second) - best_left
                weight = exponential(work, candidate)
                norm_left = norm_left + weight
                value_left = value_left + weight * candidate
                if gradient is not None:
                    slope_left = slope_left + weight * (
                        load(work, 16 * elements + first) + load(work, 18 * elements + second)
                    )
                first += row_size - split * row_shrink
                second += stride - row_size + (width - split - 1) * row_shrink
            inverse_right = quotient(one, norm_right)
            inverse_left = quotient(one, norm_left)
            store(work, right + at, best_right + value_right * inverse_right)
            store(work, left + at, best_left + value_left * inverse_left)
            store(work, 7 * elements + at, best_right)
            store(work, 8 * elements + at, inverse_right)
            store(work, 9 * elements + at, best_left)
            store(work, 10 * elements + at, inverse_left)
            if gradient is not None:
                store(work, 15 * elements + at, slope_right * inverse_right)
                store(work, 16 * elements + at, slope_left * inverse_left)


@kernel
def _choose_root(
    work: Any, elements: Any, layout: Any, lane: Any, length: Any, scores: Any, gradient: Any, result: Any
) -> None:
    """Share weight 1 among the choices of the single root; write the root's part of ``result``."""
    stride = layout[2]
    best = -np.inf
    for word in range(length):
        before = elements + row(layout, word) + lane
        after = row(layout, length - 1 - word) + word * stride + lane
        best = max(best, work[before] + scores[0, word + 1] + work[after])
    norm = 0.0
    mean = 0.0
    for word in range(length):
        before = row(layout, word) + lane
        after = row(layout, length - 1 - word) + word * stride + lane
        weight = math.exp(work[elements + before] + scores[0, word + 1] + work[after] - best)
        norm += weight
        work[12 * elements + before] = weight
        if gradient is not None:
            mean += weight * (gradient[0, word + 1] + work[16 * elements + before] + work[15 * elements + after])
    for word in range(length):
        before = row(layout, word) + lane
        after = row(layout, length - 1 - word) + word * stride + lane
        weight = work[12 * elements + before] / norm
        work[12 * elements + before] = weight
        work[11 * elements + after] = weight
        if gradient is None:
            result[0, word + 1] = weight
        else:
            reward = gradient[0, word + 1] + work[16 * elements + before] + work[15 * elements + after]
            slope = weight * (reward - mean / norm)
            work[21 * elements + before] = slope
            work[20 * elements + after] = slope
            result[0, word + 1] = slope


@kernel
def _send(work: Any, at: Any, amount: Any) -> None:
    store(work, at, load(work, at) + amount)


@kernel
def _sweep_down(work: Any, elements: Any, size: Any, layout: Any, gradient: Any) -> None:
    """Fill tables 11 to 14, and 20 to 23 if there is a gradient, from what the last step put there.

    With ``p`` the probability of a candidate of value ``c``, its item's value ``v`` and weight ``q``: the candidate's
    weight is ``p q``, and its value's gradient ``p (q (reward - mean reward) + slope (1 + c - v))``, where the reward
    is the gradient with respect to the candidate's weight and the slope that with respect to ``v``.
    """
    right, left, open_right, open_left = 0, elements, 2 * elements, 3 * elements
    row_size, row_shrink, stride, step = layout
    one = spread(work, 1.0)
    for start in range(0, size, step):
        for width in range(size - 1 - start, 0, -1):
            at = row(layout, width) + start * stride
            # complete items: each candidate is an open and a complete one
            weight_right = load(work, 11 * elements + at)
            weight_left = load(work, 12 * elements + at)
            best_right = load(work, 7 * elements + at)
            best_left = load(work, 9 * elements + at)
            inverse_right = load(work, 8 * elements + at)
            inverse_left = load(work, 10 * elements + at)
            chance_right = inverse_right * exponential(work, load(work, open_right + at) - best_right)
            chance_left = inverse_left * exponential(work, load(work, open_left + at) - best_left)
            _send(work, 13 * elements + at, weight_right * chance_right)
            _send(work, 14 * elements + at, weight_left * chance_left)
            slope_right = one
            slope_left = one
            base_right = one
            base_left = one
            if gradient is not None:
                slope_right = load(work, 20 * elements + at)
                slope_left = load(work, 21 * elements + at)
                # what does not depend on the candidate
                base_right = slope_right * (one - load(work, right + at)) - weight_right * load(
                    work, 15 * elements + at
                )
                base_left = slope_left * (one - load(work, left + at)) - weight_left * load(work, 16 * elements + at)
                amount = base_right + weight_right * load(work, 17 * elements + at)
                amount = amount + slope_right * load(work, open_right + at)
                _send(work, 22 * elements + at, chance_right * amount)
                amount = base_left + weight_left * load(work, 18 * elements + at)
                amount = amount + slope_left * load(work, open_left + at)
                _send(work, 23 * elements + at, chance_left * amount)
            first = row_size + start * stride
            second = row(layout, width - 1) + (start + 1) * stride
            for split in range(1, width):
                candidate = load(work, open_right + first) + load(work, right + second)
                chance = inverse_right * exponential(work, candidate - best_right)
                _send(work, 13 * elements + first, weight_right * chance)
                _send(work, 11 * elements + second, weight_right * chance)
                if gradient is not None:
                    reward = load(work, 17 * elements + first) + load(work, 15 * elements + second)
                    amount = chance * (base_right + weight_right * reward + slope_right * candidate)
                    _send(work, 22 * elements + first, amount)
                    _send(work, 20 * elements + second, amount)
                candidate = load(work, left + first) + load(work, open_left + second)
                chance = inverse_left * exponential(work, candidate - best_left)
                _send(work, 12 * elements + first, weight_left * chance)
                _send(work, 14 * elements + second, weight_left * chance)
                if gradient is not None:
                    reward = load(work, 16 * elements + first) + load(work, 18 * elements + second)
                    amount = chance * (base_left + weight_left * reward + slope_left * candidate)
                    _send(work, 21 * elements + first, amount)
                    _send(work, 23 * elements + second, amount)
                first += row_size - split * row_shrink
                second += stride - row_size + (width - split - 1) * row_shrink
            # between the ends of an arc: each candidate is two complete items
            weight = load(work, 13 * elements + at) + load(work, 14 * elements + at)
            best = load(work, 5 * elements + at)
            inverse = load(work, 6 * elements + at)
            slope = one
            base = one
            if gradient is not None:
                slope = load(work, 22 * elements + at) + load(work, 23 * elements + at)
                base = slope * (one - load(work, 4 * elements + at)) - weight * load(work, 19 * elements + at)
            first = start * stride
            second = row(layout, width - 1) + (start + 1) * stride
            for split in range(width):
                candidate = load(work, right + first) + load(work, left + second)
                chance = inverse * exponential(work, candidate - best)
                _send(work, 11 * elements + first, weight * chance)
                _send(work, 12 * elements + second, weight * chance)
                if gradient is not None:
                    reward = load(work, 15 * elements + first) + load(work, 16 * elements + second)
                    amount = chance * (base + weight * reward + slope * candidate)
                    _send(work, 20 * elements + first, amount)
                    _send(work, 21 * elements + second, amount)
                first += row_size - split * row_shrink
                second += stride - row_size + (width - split - 2) * row_shrink
