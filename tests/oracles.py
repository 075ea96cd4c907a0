"""Slow, obvious twins of the compiled kernels: enumeration and textbook recursions the tests compare against."""

# ---------------------------------------------------------------- spanning trees, directed and undirected

import itertools
from functools import cache

import numpy as np
import torch


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


def spanning_laplacian(scores: torch.Tensor, single_root: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """log Z and its gradient by the determinant of Koo et al. (2007), for full sentences in float64."""
    leaf = scores.detach().double().requires_grad_()
    weights = leaf[:, 1:, 1:].exp() * (1 - torch.eye(leaf.shape[1] - 1, dtype=leaf.dtype))
    root = leaf[:, 0, 1:].exp()
    laplacian = torch.diag_embed(weights.sum(1)) - weights
    if single_root:
        laplacian = torch.cat([root[:, None], laplacian[:, 1:]], 1)
    else:
        laplacian = laplacian + torch.diag_embed(root)
    log_z = torch.linalg.slogdet(laplacian).logabsdet
    (gradient,) = torch.autograd.grad(log_z.sum(), leaf)
    return log_z.detach(), gradient
