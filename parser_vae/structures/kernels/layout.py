"""Where a chart item lives in memory, so that one recursion serves two ways of filling a register.

An item of a chart over nodes ``0..size-1`` is a span: ``width`` and ``start``. A flat table holds it at
``row(width) + start * stride`` (elements of the table), and the recursion handles ``step`` starts at once:

- *lanes*: a register holds the same item of several sentences; ``stride`` = lanes, ``step`` = 1, and rows shrink with
  the width, so the table is a triangle. Best for short sentences: nothing is wasted, nothing is unaligned.
- *starts*: a register holds neighbouring starts of one sentence; ``stride`` = 1, ``step`` = lanes, rows of equal size.
  Best for long sentences: the tables of one sentence fit the cache. Starts past the end of a row are computed too;
  they read and write only padding, because item ``start + k`` of a narrower row is past the end whenever ``start`` is.

A layout is the tuple ``(row_size, row_shrink, stride, step)``: ``row(width + 1) = row(width) + row_size - width *
row_shrink``.
"""

from __future__ import annotations

from typing import Any

import numba

from parser_vae.structures.kernels.simd import (
    REGISTER_BYTES,
    kernel,
    load,
    load_some,
    spread,
    store,
    store_some,
    transpose,
)


@numba.njit(cache=True, inline="always")
def row(layout: Any, width: Any) -> Any:
    """Return the offset of the row of spans of ``width``."""
    return width * layout[0] - (width * (width - 1) // 2) * layout[1]


@numba.njit(cache=True)
def lanes_layout(size: Any, lanes: Any) -> Any:
    """Return the layout that puts one sentence in each lane."""
    return size * lanes, lanes, lanes, 1


@numba.njit(cache=True)
def starts_layout(size: Any, lanes: Any) -> Any:
    """Return the layout that puts neighbouring starts of one sentence in the lanes."""
    return _registers(size, lanes) * lanes, 0, 1, lanes


@numba.njit(cache=True)
def _registers(size: Any, lanes: Any) -> Any:
    # Room for the starts past the end. Odd, for a power of two would send a column of the chart to one cache set.
    return ((size + 2 * lanes - 2) // lanes) | 1


@numba.njit(cache=True)
def choose_layout(size: Any, waiting: Any, lanes: Any, longest: Any) -> Any:
    """Return how many of the ``waiting`` sentences to take at once, and how to lay them out.

    Charts of more than ``longest`` nodes, one in each lane, do not fit the cache. Lanes left empty cost as much as full
    ones, so that few sentences go one at a time: the measured limit rises with the size.
    """
    count = min(lanes, waiting)
    if size > longest or 96 * count < lanes * (size + 12):
        return 1, starts_layout(size, lanes)
    return count, lanes_layout(size, lanes)


def table_size(size: int, itemsize: int) -> int:
    """Return the number of elements that hold a table of ``size`` nodes in either layout, with room to read past it."""
    lanes = REGISTER_BYTES // itemsize
    return max(size * (size + 1) // 2, size * int(_registers(size, lanes))) * lanes + 4 * lanes


@kernel
def spread_parts(
    parts: Any, lengths: Any, group: Any, first_node: Any, size: Any, layout: Any, blank: Any, up: Any, down: Any,
    block: Any,
) -> None:  # fmt: skip
    """Copy ``parts [batch, head, dependent]`` of a group to tables: ``up`` (head left of dependent) and ``down``.

    Arcs past a sentence's end become ``blank``, and so do arcs into the root (the chart's node 0 if ``first_node`` is
    0). Lanes without a sentence repeat the last one. ``block`` is scratch memory for a square of lanes.
    """
    if layout[3] == 1:
        _spread_lanes(parts, lengths, group, first_node, size, layout, blank, up, down, block)
    else:
        _spread_starts(parts[group[0]], first_node, size, layout, blank, up, down)


@kernel
def collect_parts(
    up: Any, down: Any, layout: Any, group: Any, first_node: Any, size: Any, lengths: Any, parts: Any, block: Any
) -> None:
    """Copy the tables of a group back to ``parts [batch, head, dependent]``; what no arc can be becomes 0."""
    if layout[3] == 1:
        _collect_lanes(up, down, layout, group, first_node, size, lengths, parts, block)
    else:
        _collect_starts(up, down, layout, first_node, size, parts[group[0]])


@kernel
def _spread_lanes(
    parts: Any, lengths: Any, group: Any, first_node: Any, size: Any, layout: Any, blank: Any, up: Any, down: Any,
    block: Any,
) -> None:  # fmt: skip
    lanes = layout[2]
    nodes = parts.shape[1]
    flat = parts.reshape(-1)
    blanks = spread(up, blank)
    for head in range(size):
        for column in range(0, size, lanes):
            for lane in range(lanes):
                sentence = group[min(lane, len(group) - 1)]
                within = lengths[sentence] + 1 - first_node
                count = within - column if head < within else 0
                at = (sentence * nodes + head + first_node) * nodes + first_node + column
                store(block, lane * lanes, load_some(flat, at, count, blanks))
            transpose(block)
            if column + first_node == 0:
                store(block, 0, blanks)
            for dependent in range(column, min(column + lanes, head)):
                at = row(layout, head - dependent) + dependent * lanes
                store(down, at, load(block, (dependent - column) * lanes))
            for dependent in range(max(column, head + 1), min(column + lanes, size)):
                at = row(layout, dependent - head) + head * lanes
                store(up, at, load(block, (dependent - column) * lanes))


@kernel
def _collect_lanes(
    up: Any, down: Any, layout: Any, group: Any, first_node: Any, size: Any, lengths: Any, parts: Any, block: Any
) -> None:
    lanes = layout[2]
    nodes = parts.shape[1]
    flat = parts.reshape(-1)
    zero = spread(up, 0.0)
    for head in range(size):
        for column in range(0, size, lanes):
            for dependent in range(column, min(column + lanes, size)):
                found = zero
                if head < dependent:
                    found = load(up, row(layout, dependent - head) + head * lanes)
                elif dependent < head and dependent + first_node > 0:
                    found = load(down, row(layout, head - dependent) + dependent * lanes)
                store(block, (dependent - column) * lanes, found)
            transpose(block)
            for lane in range(len(group)):
                within = lengths[group[lane]] + 1 - first_node
                count = within - column if head < within else 0
                at = (group[lane] * nodes + head + first_node) * nodes + first_node + column
                store_some(flat, at, count, load(block, lane * lanes))


@kernel
def _spread_starts(parts: Any, first_node: Any, size: Any, layout: Any, blank: Any, up: Any, down: Any) -> None:
    row_size = layout[0]
    for head in range(size):  # read in order; what is written stays in the cache for the next heads
        at = head * row_size
        for dependent in range(head):
            down[at] = parts[head + first_node, dependent + first_node]
            at += 1 - row_size
        at = row_size + head
        for dependent in range(head + 1, size):
            up[at] = parts[head + first_node, dependent + first_node]
            at += row_size
    for width in range(1, size):
        here = width * row_size
        if first_node == 0:
            down[here] = blank
        for start in range(size - width, row_size):
            up[here + start] = blank
            down[here + start] = blank


@kernel
def _collect_starts(up: Any, down: Any, layout: Any, first_node: Any, size: Any, parts: Any) -> None:
    for left in range(size):
        for right in range(left + 1, size):
            at = row(layout, right - left) + left
            parts[left + first_node, right + first_node] = up[at]
            if left + first_node > 0:
                parts[right + first_node, left + first_node] = down[at]
