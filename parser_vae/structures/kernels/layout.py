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
import numpy as np

from parser_vae.structures.kernels.simd import REGISTER_BYTES


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


@numba.njit(cache=True, nogil=True)
def spread_lanes(
    parts: Any, lengths: Any, group: Any, first_node: Any, size: Any, layout: Any, blank: Any, up: Any, down: Any
) -> None:
    """Copy ``parts [batch, head, dependent]`` of a group to tables: ``up`` (head left of dependent) and ``down``.

    Arcs past a sentence's end become ``blank``, and so do arcs into the root (the chart's node 0 if ``first_node`` is
    0). Lanes without a sentence repeat the last one.
    """
    lanes = layout[2]
    sizes = np.empty(lanes, np.int64)
    sources = np.empty(lanes, np.int64)
    for lane in range(lanes):
        sources[lane] = group[min(lane, len(group) - 1)]
        sizes[lane] = lengths[sources[lane]] + 1 - first_node
    shortest = sizes[lanes - 1]
    for head in range(size):
        for dependent in range(size):
            if head == dependent:
                continue
            target = up if head < dependent else down
            at = row(layout, abs(head - dependent)) + min(head, dependent) * lanes
            if dependent + first_node == 0:
                for lane in range(lanes):
                    target[at + lane] = blank
            elif max(head, dependent) < shortest:
                for lane in range(lanes):
                    target[at + lane] = parts[sources[lane], head + first_node, dependent + first_node]
            else:
                for lane in range(lanes):
                    inside = max(head, dependent) < sizes[lane]
                    target[at + lane] = (
                        parts[sources[lane], head + first_node, dependent + first_node] if inside else blank
                    )


@numba.njit(cache=True, nogil=True)
def spread_starts(parts: Any, first_node: Any, size: Any, layout: Any, blank: Any, up: Any, down: Any) -> None:
    """Copy ``parts [head, dependent]`` of one sentence to tables, a row for each width; see ``spread_lanes``."""
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


@numba.njit(cache=True, nogil=True)
def collect(up: Any, down: Any, layout: Any, lane: Any, first_node: Any, length: Any, parts: Any) -> None:
    """Copy the tables of one sentence back to ``parts [head, dependent]``; its other entries stay as they are."""
    stride = layout[2]
    for left in range(first_node, length + 1):
        for right in range(left + 1, length + 1):
            at = row(layout, right - left) + (left - first_node) * stride + lane
            parts[left, right] = up[at]
            if left > 0:
                parts[right, left] = down[at]
