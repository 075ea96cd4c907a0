"""The best vector of bits under non-negative pair weights, as a minimum cut (Dinic 1970) on a dense float64 graph."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True)
def best_bits(unary: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[NDArray[np.int64], float]:
    """Return the bits ``[n]`` that maximise ``sum a_i z_i + sum_{i<j} w_ij z_i z_j`` and a proven upper bound.

    The bound is what the flow leaves of the sum of the positive terms, so it equals the maximum but for rounding. An
    augmentation empties its narrowest arc exactly (``r - r``), so float capacities cannot loop for ever.

    Args:
        unary: The weight of each bit ``[n]``, finite.
        weights: Symmetric, non-negative, with a zero diagonal ``[n, n]``.
    """
    bits = len(unary)
    source, sink = bits, bits + 1
    nodes = bits + 2
    residual = np.zeros((nodes, nodes))
    available = 0.0
    for i in range(bits):
        own = unary[i]
        for j in range(bits):
            residual[i, j] = weights[i, j] / 2
            own += weights[i, j] / 2
        if own > 0:
            residual[source, i] = own
            available += own
        else:
            residual[i, sink] = -own
    flow = 0.0
    level = np.empty(nodes, np.int64)
    queue = np.empty(nodes, np.int64)
    following = np.empty(nodes, np.int64)
    path = np.empty(nodes, np.int64)
    while True:
        # Breadth first: distance from the source along arcs that still have room.
        level[:] = -1
        level[source] = 0
        queue[0] = source
        front, back = 0, 1
        while front < back:
            here = queue[front]
            front += 1
            for there in range(nodes):
                if level[there] < 0 and residual[here, there] > 0:
                    level[there] = level[here] + 1
                    queue[back] = there
                    back += 1
        if level[sink] < 0:
            break
        # Depth first: augment along shortest paths until none is left at this distance.
        following[:] = 0
        path[0] = source
        depth = 0
        while depth >= 0:
            here = path[depth]
            if here == sink:
                narrowest = np.inf
                for step in range(depth):
                    narrowest = min(narrowest, residual[path[step], path[step + 1]])
                cut = 0
                for step in range(depth - 1, -1, -1):
                    residual[path[step], path[step + 1]] -= narrowest
                    residual[path[step + 1], path[step]] += narrowest
                    if residual[path[step], path[step + 1]] <= 0:
                        cut = step
                flow += narrowest
                depth = cut
                continue
            advanced = False
            while following[here] < nodes:
                there = following[here]
                if level[there] == level[here] + 1 and residual[here, there] > 0:
                    advanced = True
                    break
                following[here] += 1
            if advanced:
                depth += 1
                path[depth] = following[here]
            else:
                depth -= 1
                if depth >= 0:
                    following[path[depth]] += 1
    best = np.zeros(bits, np.int64)
    for i in range(bits):
        best[i] = 1 if level[i] >= 0 else 0
    return best, available - flow
