"""Log-partition and marginals of projective trees, and the product of their Hessian with a direction, compiled.

Inside: the recursion of ``eisner.py`` with sums for maxima and products for sums, in float64, on ``exp(score - best
score into that word)``; no exponential is taken in the cubic loops. Outside: derivatives of the same, gathered
rather than scattered. Run on dual numbers, the two give the Hessian of the log-partition times a direction.

Every weight is at most 1 and there are fewer than ``6.75 ** n`` trees, so an outside value is below ``6.75 ** n / Z``:
when ``log Z > n log 6.75 - 650`` nothing that matters has left the range of float64. Otherwise the sentence is
reported OUT_OF_RANGE, and the caller takes the logarithmic recursion.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parser_vae.structures.kernels.duals import constant, get, plus, plus_times, put, times
from parser_vae.structures.kernels.eisner import NOT_A_NUMBER
from parser_vae.structures.kernels.layout import (
    choose_layout,
    collect_parts,
    row,
    spread_parts,
    table_size,
)
from parser_vae.structures.kernels.simd import exponential, kernel, lanes_of, load, maximum, spread, store
from parser_vae.structures.kernels.threads import run_over_sentences, workspace

OUT_OF_RANGE = 3

_LANES = 8  # float64
LONGEST_IN_LANES = 80
_TABLES = 9
_GROWTH = math.log(6.75)
_ROOM = 650.0


def inside_outside(
    scores: NDArray[Any],
    lengths: NDArray[Any],
    single_root: bool,
    threads: int = 1,
    with_marginals: bool = True,
    direction: NDArray[Any] | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.int8]]:
    """Return ``log Z [batch]``, the marginals ``[batch, head, dependent]`` and the status of each sentence.

    Args:
        scores: ``[batch, head, dependent]``, float32 or float64, C-contiguous.
        lengths: Words of each sentence ``[batch]``, integers from 1 to n.
        single_root: Exactly one arc leaves the root; else at least one.
        threads: How many groups of sentences may run at a time.
        with_marginals: Whether the second result is wanted; it is zeros if not.
        direction: Same shape and dtype as ``scores``. If given, the second result is the derivative of the marginals
            in this direction (the Hessian of ``log Z`` times it) in place of the marginals.
    """
    log_z = np.full(scores.shape[0], -np.inf)
    result = np.zeros(scores.shape, scores.dtype)  # not zeros_like, which writes the zeros instead of asking for them
    status = np.zeros(scores.shape[0], np.int8)
    lengths = np.asarray(lengths, np.int64)
    elements = elements_needed(scores.shape[1])
    tangent = None if direction is None else elements  # where the derivatives begin

    def part(indices: NDArray[np.int64]) -> None:
        work = workspace(np.float64, 2 * elements)
        _inside_outside(
            scores, direction, lengths, indices, not single_root, with_marginals, log_z, result, status, work, tangent
        )

    run_over_sentences(part, lengths, _LANES, threads)
    return log_z, result, status


def elements_needed(nodes: int) -> int:
    """Return the size of the scratch array, values only, for sentences of up to ``nodes - 1`` words."""
    return _TABLES * table_size(nodes, 8) + (2 * nodes + 24) * _LANES


@kernel
def _inside_outside(
    scores: Any, direction: Any, lengths: Any, indices: Any, with_root: Any, with_marginals: Any, log_z: Any,
    result: Any, status: Any, work: Any, tangent: Any,
) -> None:  # fmt: skip
    """Fill the results of the sentences of ``indices``, whose lengths descend."""
    lanes = lanes_of(work)
    first_node = 0 if with_root else 1
    work[:lanes] = 0  # read, times 0, as what precedes the first row
    work = work[lanes:]
    if tangent is not None:
        work[tangent - lanes : tangent] = 0
    begin = 0
    while begin < len(indices):
        size = lengths[indices[begin]] + 1 - first_node
        count, layout = choose_layout(size, len(indices) - begin, lanes, LONGEST_IN_LANES)
        elements = row(layout, size) + 4 * lanes
        group = indices[begin : begin + count]
        top = _TABLES * elements
        root = top + (size + 4) * lanes
        prepare(scores, direction, lengths, group, first_node, size, layout, elements, work, top, root, tangent)
        inside(work, elements, size, layout, tangent)
        work[6 * elements : 8 * elements] = 0
        if tangent is not None:
            work[tangent + 6 * elements : tangent + 8 * elements] = 0
        for lane in range(count):
            sentence = group[lane]
            log_z[sentence], status[sentence] = _seed(
                work, elements, layout, lane, lengths[sentence], top, root, first_node, tangent, result[sentence]
            )
        if with_marginals:
            _outside(work, elements, size, layout, tangent)
            shift = 0
            if tangent is not None:
                shift += tangent
            up = work[shift + 4 * elements : shift + 5 * elements]
            down = work[shift + 5 * elements : shift + 6 * elements]
            collect_parts(up, down, layout, group, first_node, size, lengths, result, work[top:])
            for sentence in group:
                if status[sentence] != 0:
                    result[sentence] = 0
        begin += count


@kernel
def prepare(
    scores: Any, direction: Any, lengths: Any, group: Any, first_node: Any, size: Any, layout: Any, elements: Any,
    work: Any, top: Any, root: Any, tangent: Any,
) -> None:  # fmt: skip
    """Fill the weight tables (4: head on the left, 5: on the right), ``root`` and ``top``, the score taken off.

    A NaN or ``+inf`` score makes ``top`` NaN for every word of its lane.
    """
    stride, step = layout[2], layout[3]
    _read(scores, lengths, group, first_node, size, layout, -np.inf, work, elements, 0, root)
    if direction is not None:
        _read(direction, lengths, group, first_node, size, layout, 0.0, work, elements, tangent, root + tangent)
    lowest = spread(work, np.finfo(np.float64).min)
    zero = spread(work, 0.0)
    checked = zero
    up, down = 4 * elements, 5 * elements
    for start in range(0, size, step):
        score = load(work, root + start * stride)
        checked = checked + zero * maximum(lowest, score)
        store(work, top + start * stride, maximum(lowest, score))
    for width in range(1, size):
        for start in range(0, size - width, step):
            at = row(layout, width) + start * stride
            for table, dependent in ((up, start + width), (down, start)):
                score = load(work, table + at)
                checked = checked + zero * maximum(lowest, score)
                best = top + dependent * stride
                store(work, best, maximum(score, load(work, best)))
    for start in range(0, size, step):
        _weigh(work, root + start * stride, top + start * stride, tangent)
    for width in range(1, size):
        for start in range(0, size - width, step):
            at = row(layout, width) + start * stride
            _weigh(work, up + at, top + (start + width) * stride, tangent)
            _weigh(work, down + at, top + start * stride, tangent)
    if step > 1:  # the lanes are one sentence: its problem is any lane's
        store(work, top + (size + 2) * stride, checked)
        problem = 0.0
        for lane in range(step):
            problem += work[top + (size + 2) * stride + lane]
        checked = spread(work, problem)
    for start in range(0, size, step):
        store(work, top + start * stride, load(work, top + start * stride) + checked)


@kernel
def _read(
    parts: Any, lengths: Any, group: Any, first_node: Any, size: Any, layout: Any, blank: Any, work: Any, elements: Any,
    shift: Any, root: Any,
) -> None:  # fmt: skip
    """Copy the arcs of a group to tables 4 and 5, and those of the root (``blank`` if it is a node) to ``root``."""
    up = work[shift + 4 * elements : shift + 5 * elements]
    down = work[shift + 5 * elements : shift + 6 * elements]
    stride = layout[2]
    spread_parts(parts, lengths, group, first_node, size, layout, blank, up, down, work[root:])
    work[root : root + (size + 4) * lanes_of(work)] = blank
    if first_node == 1:
        for lane in range(len(group)):
            for word in range(lengths[group[lane]]):
                work[root + word * stride + lane] = parts[group[lane], 0, word + 1]


@kernel
def _weigh(work: Any, at: Any, top: Any, tangent: Any) -> None:
    """Replace the score at ``at`` by its weight, and the direction there by the weight's derivative."""
    weight = exponential(work, load(work, at) - load(work, top))
    store(work, at, weight)
    if tangent is not None:
        store(work, at + tangent, weight * load(work, at + tangent))


@kernel
def inside(work: Any, elements: Any, size: Any, layout: Any, tangent: Any) -> None:
    """Fill tables 0 to 3 (right, left, open_right, open_left: see ``eisner.py``) with sums over the trees below."""
    right, left, open_right, open_left = 0, elements, 2 * elements, 3 * elements
    row_size, row_shrink, stride, step = layout
    one = constant(work, 1.0, tangent)
    zero = constant(work, 0.0, tangent)
    for start in range(0, size, step):
        put(work, right + start * stride, one, tangent)
        put(work, left + start * stride, one, tangent)
    if step > 1:  # starts past the end weigh nothing, so that they add nothing to what reads them
        for start in range(size, row_size):
            for table in (right, left, open_right):
                work[table + start] = 0
                if tangent is not None:
                    work[table + start + tangent] = 0
        for width in range(1, size):
            for start in range((size - width - 1) // step * step, row_size, step):
                at = row(layout, width) + start
                put(work, right + at, zero, tangent)
                put(work, left + at, zero, tangent)
                put(work, open_right + at, zero, tangent)
                put(work, open_left + at, zero, tangent)
    for start in range((size - 1) // step * step, -1, -step):
        for width in range(1, size - start):
            first = row_size + start * stride
            second = row(layout, width - 1) + (start + 1) * stride
            between = times(get(work, right + start * stride, tangent), get(work, left + second, tangent), tangent)
            sum_right = zero
            sum_left = zero
            for split in range(1, width):
                following = second + stride - row_size + (width - split - 1) * row_shrink
                begins = get(work, right + first, tangent)
                between = plus_times(between, begins, get(work, left + following, tangent), tangent)
                begins = get(work, open_right + first, tangent)
                sum_right = plus_times(sum_right, begins, get(work, right + second, tangent), tangent)
                begins = get(work, left + first, tangent)
                sum_left = plus_times(sum_left, begins, get(work, open_left + second, tangent), tangent)
                first += row_size - split * row_shrink
                second = following
            at = row(layout, width) + start * stride
            arc_right = times(between, get(work, 4 * elements + at, tangent), tangent)
            arc_left = times(between, get(work, 5 * elements + at, tangent), tangent)
            put(work, open_right + at, arc_right, tangent)
            put(work, open_left + at, arc_left, tangent)
            put(work, right + at, plus(sum_right, arc_right, tangent), tangent)
            put(work, left + at, plus(sum_left, arc_left, tangent), tangent)


@kernel
def in_range(log_sum: Any, length: Any) -> Any:
    """Return whether float64 held all that matters of a sentence whose weights sum to ``exp(log_sum)``."""
    return log_sum > (length + 1) * _GROWTH - _ROOM and log_sum < _ROOM


@kernel
def _seed(
    work: Any, elements: Any, layout: Any, lane: Any, length: Any, top: Any, root: Any, first_node: Any, tangent: Any,
    result: Any,
) -> Any:  # fmt: skip
    """Write the outside values of the last step, and the root's part of ``result``; return log Z and the status."""
    stride = layout[2]
    shift = 0.0
    for node in range(length + 1 - first_node):
        if node + first_node > 0:
            shift += work[top + node * stride + lane]
    if shift != shift:
        return np.nan, NOT_A_NUMBER
    total = 0.0
    slope = 0.0
    if first_node == 0:
        whole = row(layout, length) + lane
        total = work[whole]
        if not in_range(math.log(total) if total > 0 else -np.inf, length):
            return -np.inf, OUT_OF_RANGE
        work[6 * elements + whole] = 1 / total
        if tangent is not None:
            work[6 * elements + whole + tangent] = -work[whole + tangent] / total**2
        return math.log(total) + shift, 0
    for word in range(length):
        before = elements + row(layout, word) + lane
        weight = root + word * stride + lane
        after = row(layout, length - 1 - word) + word * stride + lane
        total += work[before] * work[weight] * work[after]
        if tangent is not None:
            slope += (
                work[before + tangent] * work[weight] * work[after]
                + work[before] * work[weight + tangent] * work[after]
                + work[before] * work[weight] * work[after + tangent]
            )
    if not in_range(math.log(total) if total > 0 else -np.inf, length):
        return -np.inf, OUT_OF_RANGE
    for word in range(length):
        before = row(layout, word) + lane
        weight = root + word * stride + lane
        after = row(layout, length - 1 - word) + word * stride + lane
        inner = work[elements + before]
        outer_before = work[weight] * work[after] / total
        outer_after = work[weight] * inner / total
        work[7 * elements + before] = outer_before
        work[6 * elements + after] = outer_after
        result[0, word + 1] = outer_before * inner
        if tangent is not None:
            slope_before = (
                work[weight + tangent] * work[after] + work[weight] * work[after + tangent] - outer_before * slope
            ) / total
            inner_slope = work[elements + before + tangent]
            work[7 * elements + before + tangent] = slope_before
            work[6 * elements + after + tangent] = (
                work[weight + tangent] * inner + work[weight] * inner_slope - outer_after * slope
            ) / total
            result[0, word + 1] = slope_before * inner + outer_before * inner_slope
    return math.log(total) + shift, 0


@kernel
def _outside(work: Any, elements: Any, size: Any, layout: Any, tangent: Any) -> None:
    """Turn tables 4 and 5 from weights into marginals, given the last step's outside values in tables 6 and 7.

    Tables 6, 7 and 8 receive the outside values of ``right``, ``left`` and what lies between the ends of an arc.
    """
    right, left, open_right, open_left, up, down = (
        0, elements, 2 * elements, 3 * elements, 4 * elements, 5 * elements,
    )  # fmt: skip
    out_right, out_left, out_between = 6 * elements, 7 * elements, 8 * elements
    row_size, row_shrink, stride, step = layout
    if step > 1:
        work[out_between : out_between + elements] = 0
        if tangent is not None:
            work[out_between + tangent : out_between + elements + tangent] = 0
    for start in range(0, size, step):
        for width in range(size - 1 - start, 0, -1):
            at = row(layout, width) + start * stride
            sum_right = get(work, out_right + at, tangent)
            sum_left = get(work, out_left + at, tangent)
            sum_open_right = constant(work, 0.0, tangent)
            sum_open_left = constant(work, 0.0, tangent)
            # wider spans that begin where this one does, this one being their left piece
            whole = at
            follows = (start + width) * stride
            for extra in range(1, size - start - width):
                whole += row_size - (width + extra - 1) * row_shrink
                previous = follows + stride  # one narrower than `follows`, one later
                follows += row_size - (extra - 1) * row_shrink
                outer = get(work, out_between + whole, tangent)
                sum_right = plus_times(sum_right, outer, get(work, left + previous, tangent), tangent)
                outer = get(work, out_left + whole, tangent)
                sum_left = plus_times(sum_left, outer, get(work, open_left + follows, tangent), tangent)
                outer = get(work, out_right + whole, tangent)
                sum_open_right = plus_times(sum_open_right, outer, get(work, right + follows, tangent), tangent)
            # wider spans that end where this one does, this one being their right piece
            whole = at
            precedes = start * stride
            for extra in range(1, min(start + step, size - width)):
                whole += row_size - (width + extra - 1) * row_shrink - stride
                previous = precedes - stride  # one narrower than `precedes`, same start
                precedes += row_size - (extra - 1) * row_shrink - stride
                outer = get(work, out_right + whole, tangent)
                sum_right = plus_times(sum_right, outer, get(work, open_right + precedes, tangent), tangent)
                outer = get(work, out_between + whole, tangent)
                sum_left = plus_times(sum_left, outer, get(work, right + previous, tangent), tangent)
                outer = get(work, out_left + whole, tangent)
                sum_open_left = plus_times(sum_open_left, outer, get(work, left + precedes, tangent), tangent)
            put(work, out_right + at, sum_right, tangent)
            put(work, out_left + at, sum_left, tangent)
            sum_open_right = plus(sum_open_right, sum_right, tangent)
            sum_open_left = plus(sum_open_left, sum_left, tangent)
            between = times(sum_open_right, get(work, up + at, tangent), tangent)
            between = plus_times(between, sum_open_left, get(work, down + at, tangent), tangent)
            put(work, out_between + at, between, tangent)
            put(work, up + at, times(sum_open_right, get(work, open_right + at, tangent), tangent), tangent)
            put(work, down + at, times(sum_open_left, get(work, open_left + at, tangent), tangent), tangent)
