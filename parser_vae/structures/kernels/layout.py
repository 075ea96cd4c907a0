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
    registers = (size + lanes - 1) // lanes
    # an odd number of registers a row: a power of two would send whole columns of the chart to the same cache set
    return (registers | 1) * lanes, 0, 1, lanes


def table_size(size: int, itemsize: int) -> int:
    """Return the number of elements that hold a table of ``size`` nodes in either layout, with room to read past it."""
    lanes = REGISTER_BYTES // itemsize
    registers = ((size + lanes - 1) // lanes) | 1
    return max(size * (size + 1) // 2 * lanes, size * registers * lanes) + 4 * lanes
