"""Slow, obvious twins of the compiled kernels: enumeration and textbook recursions the tests compare against."""

import itertools
from functools import cache

import numpy as np
import torch
from torch import Tensor

# ---------------------------------------------------------------- projective trees: by filtering every head vector


def projective_is_tree(heads: tuple[int, ...], single_root: bool) -> bool:
    """Whether the heads of words 1..n (0 is the root) form a projective tree with one root, or at least one."""
    size = len(heads)
    full = (0, *heads)
    if single_root and sum(head == 0 for head in heads) != 1:
        return False
    for word in range(1, size + 1):
        node, steps = word, 0
        while node != 0 and steps <= size:
            node, steps = full[node], steps + 1
        if node != 0:
            return False
    arcs = [(min(word, full[word]), max(word, full[word])) for word in range(1, size + 1)]
    return not any(a < c < b < d for a, b in arcs for c, d in arcs)


def projective_trees(size: int, single_root: bool) -> Tensor:
    """Every projective tree over ``size`` words as 0/1 arcs ``[count, head, dependent]`` (float64)."""
    found = [
        heads
        for heads in itertools.product(range(size + 1), repeat=size)
        if all(head != word + 1 for word, head in enumerate(heads)) and projective_is_tree(heads, single_root)
    ]
    arcs = torch.zeros(len(found), size + 1, size + 1, dtype=torch.float64)
    for index, heads in enumerate(found):
        arcs[index, list(heads), range(1, size + 1)] = 1
    return arcs


def projective_textbook_eisner(scores: np.ndarray, single_root: bool) -> float:
    """The best tree's score by the textbook recursion with plain loops, for sentences too long to enumerate."""
    size = len(scores)
    if single_root:
        words = scores[1:, 1:]
        right, left = _projective_tables(words)
        return max(left[0, top] + scores[0, top + 1] + right[top, size - 2] for top in range(size - 1))
    forbidden = scores.astype(np.float64).copy()
    forbidden[:, 0] = -np.inf
    return float(_projective_tables(forbidden)[0][0, size - 1])


def _projective_tables(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = len(scores)
    right, left, open_right, open_left = (np.zeros((size, size)) for _ in range(4))
    for width in range(1, size):
        for i in range(size - width):
            j = i + width
            inner = max(right[i, k] + left[k + 1, j] for k in range(i, j))
            open_right[i, j] = inner + scores[i, j]
            open_left[i, j] = inner + scores[j, i]
            right[i, j] = max(open_right[i, k] + right[k, j] for k in range(i + 1, j + 1))
            left[i, j] = max(left[i, k] + open_left[k, j] for k in range(i, j))
    return right, left


# ---------------------------------------------------------------- spanning trees, directed and undirected


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


def padded_trees(words: int, full: int, single_root: bool, projective: bool) -> Tensor:
    """Every tree over ``words`` words as 0/1 arcs ``[count, full + 1, full + 1]`` (float64)."""
    if projective:
        arcs = projective_trees(words, single_root)
    else:
        heads = torch.from_numpy(spanning_trees(words, single_root))
        arcs = torch.nn.functional.one_hot(heads, words + 1).transpose(1, 2).double()
        arcs[:, :, 0] = 0
    return torch.nn.functional.pad(arcs, (0, full - words, 0, full - words))


# ---------------------------------------------------------------- flat structures: categorical, binary, subset


def categorical_objects(classes: int, full: int) -> Tensor:
    """Every one-hot vector over the first ``classes`` of ``full`` classes."""
    return torch.eye(full, dtype=torch.float64)[:classes]


def binary_objects(bits: int, full: int) -> Tensor:
    """Every vector over the first ``bits`` of ``full`` bits, the others 0."""
    rows = [[*choice, *[0] * (full - bits)] for choice in itertools.product((0, 1), repeat=bits)]
    return torch.tensor(rows, dtype=torch.float64)


def binary_pairwise_objects(bits: int, full: int) -> Tensor:
    """The same vectors, each followed by the products of its pairs in the order (0,1), (0,2), .., (1,2), .."""
    rows = []
    for vector in binary_objects(bits, full).tolist():
        rows.append(vector + [vector[i] * vector[j] for i in range(full) for j in range(i + 1, full)])
    return torch.tensor(rows, dtype=torch.float64)


def subset_objects(parts: int, full: int, k: int) -> Tensor:
    """Every vector with ``k`` ones among the first ``parts`` of ``full`` parts."""
    every = binary_objects(parts, full)
    return every[every.sum(-1) == k]


# ---------------------------------------------------------------- undirected trees of a complete graph


def undirected_trees(vertices: int, full: int) -> Tensor:
    """Every spanning tree over the first ``vertices`` of ``full`` vertices, as edges in the order (0,1), (0,2), .."""
    edges = [(i, j) for i in range(full) for j in range(i + 1, full)]
    inside = [edge for edge in edges if edge[1] < vertices]
    rows = []
    for chosen in itertools.combinations(inside, vertices - 1):
        group = list(range(vertices))
        for first, second in chosen:
            group = [group[second] if label == group[first] else label for label in group]
        if len(set(group)) == 1:
            rows.append([float(edge in chosen) for edge in edges])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, len(edges))
