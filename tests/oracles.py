"""Slow, obvious twins of the compiled kernels: enumeration and textbook recursions the tests compare against."""

# ---------------------------------------------------------------- spanning trees, directed and undirected

import itertools
from functools import cache

import numpy as np


@cache
def spanning_trees(words: int, single_root: bool) -> np.ndarray:
    """Every head vector ``[count, words + 1]`` of a sentence, by trying them all."""
    trees = []
    for heads in itertools.product(*([h for h in range(words + 1) if h != d] for d in range(1, words + 1))):
        roots = heads.count(0)
        if roots == 0 or (single_root and roots > 1):
            continue
        reached = {0}
        for _ in range(words):
            reached |= {d for d, h in enumerate(heads, 1) if h in reached}
        if len(reached) == words + 1:
            trees.append((0, *heads))
    return np.array(trees, dtype=np.int64).reshape(-1, words + 1)


def spanning_scores(scores: np.ndarray, trees: np.ndarray) -> np.ndarray:
    """Scores ``[batch, count]`` (float64) of every tree ``[count, words + 1]`` under ``scores [batch, head, dep]``."""
    dependents = np.arange(1, trees.shape[1])
    return scores.astype(np.float64)[:, trees[:, 1:], dependents].sum(-1)
