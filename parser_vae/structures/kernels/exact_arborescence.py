"""The same contraction in exact integers, for the rare sentence whose scores float64 differences cannot tell apart.

Giving up an arc of score 1e30 leaves no trace of the 1e-3 gained instead. The compiled kernel notices when what it
gave up dwarfs what it kept and hands the sentence over; ordinary scores never come here, nor do masks of -1e9 or
-1e30 that the best tree avoids.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def exact_arborescence(scores: NDArray[np.floating[Any]], single_root: bool) -> list[int]:
    """Return the heads ``[n + 1]`` of the best tree under ``scores [n + 1, n + 1]``, which must allow one; O(n^2).

    Scores become integers by a common power of two, so a single root can be had by a penalty without losing anything.
    """
    nodes = len(scores)
    ratios = {
        (head, word): float(scores[head, word]).as_integer_ratio()
        for head in range(nodes)
        for word in range(1, nodes)
        if head != word and scores[head, word] > -math.inf
    }
    scale = max(denominator for _, denominator in ratios.values())
    weights = {arc: numerator * (scale // denominator) for arc, (numerator, denominator) in ratios.items()}
    penalty = 2 * nodes * max(map(abs, weights.values())) + 1 if single_root else 0

    # In-arcs of each node: source -> (adjusted weight, word entered). Numbers from ``nodes`` on are contracted nodes.
    into: list[dict[int, tuple[int, int]]] = [{} for _ in range(nodes)]
    for (head, word), weight in weights.items():
        into[word][head] = (weight - penalty if head == 0 else weight, word)
    holder = list(range(nodes))
    parent: list[int] = [-1] * nodes
    arc: list[tuple[int, int]] = [(0, 0)] * nodes  # (source, word entered) picked by each node
    finished = {0}
    for start in range(1, nodes):
        node = holder[start]
        path: list[int] = []
        while node not in finished:
            path.append(node)
            source = max(into[node], key=lambda head: into[node][head][0])
            arc[node] = (source, into[node][source][1])
            node = holder[source]
            if node not in path:
                continue
            merged: dict[int, tuple[int, int]] = {}
            cycle = path[path.index(node) :]
            del path[path.index(node) :]
            node = len(into)
            for member in cycle:
                parent[member] = node
                loss = into[member][arc[member][0]][0]
                for head, (weight, word) in into[member].items():
                    if holder[head] not in cycle and (head not in merged or weight - loss > merged[head][0]):
                        merged[head] = (weight - loss, word)
            into.append(merged)
            parent.append(-1)
            arc.append((0, 0))
            holder = [node if inside in cycle else inside for inside in holder]
        finished.update(path)
    for node in range(len(into) - 1, nodes - 1, -1):
        member = arc[node][1]
        while parent[member] != node:
            member = parent[member]
        arc[member] = arc[node]
    return [source for source, _ in arc[:nodes]]
