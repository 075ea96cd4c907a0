"""The edge-exchange Markov chain over undirected spanning trees, compiled."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from parser_vae.structures.kernels.elimination import uniform


@njit(cache=True, nogil=True)
def exchange_edges(weights, vertices, steps, seeds, heads):  # type: ignore[no-untyped-def]
    """Move the trees ``heads [count, batch, n]`` by ``steps`` exchanges each; every tree hangs from vertex 0.

    A step adds an edge drawn uniformly from the allowed ones outside the tree and drops one edge of the cycle this
    closes, with probability proportional to ``exp(-weight)``: a heat bath whose stationary law is ``exp(score)/Z``.

    Args:
        weights: Symmetric edge scores ``[batch, n, n]`` (float64); ``-inf`` forbids an edge.
        vertices: Vertices of each graph ``[batch]`` (int64).
        steps: Number of exchanges.
        seeds: One for each tree ``[count, batch]`` (uint64).
        heads: The trees, as the neighbour of each vertex towards vertex 0 (int64); updated in place.
    """
    size = weights.shape[1]
    depth = np.empty(size, np.int64)
    cycle = np.empty(size, np.int64)
    outside = np.empty((size * size, 2), np.int64)
    state = np.empty(1, np.uint64)
    for draw in range(seeds.shape[0]):
        for item in range(seeds.shape[1]):
            state[0] = seeds[draw, item]
            head, weight, n = heads[draw, item], weights[item], vertices[item]
            for _ in range(steps):
                free = 0
                for i in range(n):
                    for j in range(i + 1, n):
                        inside = (j > 0 and head[j] == i) or (i > 0 and head[i] == j)
                        if not inside and weight[i, j] > -np.inf:
                            outside[free, 0], outside[free, 1] = i, j
                            free += 1
                if free == 0:
                    break
                pick = min(int(uniform(state) * free), free - 1)
                left, right = outside[pick]
                # The cycle: up from both ends to where they meet, each edge named by its lower vertex.
                for v in range(n):
                    depth[v] = 0
                    w = v
                    while w != 0:
                        depth[v] += 1
                        w = head[w]
                a, b, length = left, right, 0
                while a != b:
                    if depth[a] >= depth[b]:
                        cycle[length] = a
                        a = head[a]
                    else:
                        cycle[length] = b
                        b = head[b]
                    length += 1
                lowest = weight[left, right]
                for place in range(length):
                    lowest = min(lowest, weight[cycle[place], head[cycle[place]]])
                total = math.exp(lowest - weight[left, right])
                for place in range(length):
                    total += math.exp(lowest - weight[cycle[place], head[cycle[place]]])
                point = uniform(state) * total - math.exp(lowest - weight[left, right])
                if point < 0:
                    continue
                dropped = cycle[length - 1]
                for place in range(length):
                    point -= math.exp(lowest - weight[cycle[place], head[cycle[place]]])
                    if point < 0:
                        dropped = cycle[place]
                        break
                # Below the dropped edge the path to the new edge's end is turned round.
                inner, outer, node = left, right, left
                while node != 0 and node != dropped:
                    node = head[node]
                if node != dropped:
                    inner, outer = right, left
                while True:
                    following = head[inner]
                    head[inner] = outer
                    if inner == dropped:
                        break
                    inner, outer = following, inner
