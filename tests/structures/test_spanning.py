"""Spanning trees: the compiled argmax and the matrix-tree quantities against enumeration."""

import networkx
import numpy as np
import pytest
import torch

from parser_vae.errors import InfeasibleError
from parser_vae.structures.kernels.arborescence import best_arborescences
from parser_vae.structures.spanning import SpanningTrees
from tests.oracles import spanning_scores, spanning_trees


def adversarial_scores(rng, batch, words):
    """Float64 score matrices of one of several nasty kinds."""
    shape = (batch, words + 1, words + 1)
    kind = rng.integers(7)
    if kind == 0:
        return rng.integers(0, 3, shape).astype(float)
    if kind == 1:
        return np.full(shape, rng.choice([0.0, 1e30, -1e30, 1e-3]))
    if kind == 2:
        return np.where(rng.random(shape) < 0.4, -np.inf, rng.integers(-2, 3, shape))
    if kind == 3:
        return rng.choice([1e30, -1e30, 1e-3, -1e-3, 0.0], shape)
    if kind == 4:
        return rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 31, shape)
    if kind == 5:
        return np.where(rng.random(shape) < 0.5, -1e30, rng.standard_normal(shape))
    return rng.standard_normal(shape)


def is_tree(heads):
    reached = {0}
    for _ in heads:
        reached |= {d for d, h in enumerate(heads) if d and h in reached}
    return len(reached) == len(heads)


@pytest.mark.parametrize("single_root", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_argmax_is_the_optimum_on_adversarial_matrices(single_root, dtype):
    """2 x 2 x 3000 matrices: -inf, ties, all-equal, huge ranges, one word."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        words = int(rng.integers(1, 6))
        scores = adversarial_scores(rng, 10, words).astype(dtype)
        trees = spanning_trees(words, single_root)
        totals = spanning_scores(scores, trees)
        feasible = totals.max(1) > -np.inf
        for item in np.flatnonzero(~feasible):
            with pytest.raises(InfeasibleError, match=r"sentence 0 .* -inf"):
                best_arborescences(scores[item : item + 1], np.array([words]), single_root)
        scores, totals = scores[feasible], totals[feasible]
        kept = scores.copy()
        heads = best_arborescences(scores, np.full(len(scores), words), single_root)
        assert (scores == kept).all()
        for item, head in enumerate(heads):
            assert is_tree(head)
            assert not single_root or (head[1:] == 0).sum() == 1
            found = spanning_scores(scores[item : item + 1], head[None])[0, 0]
            size = np.abs(scores[item, head[1:], np.arange(1, words + 1)]).max()
            assert found >= totals[item].max() - 1e-9 * size


@pytest.mark.parametrize("words", [12, 33, 70])
def test_argmax_agrees_with_networkx(words):
    rng = np.random.default_rng(words)
    scores = rng.standard_normal((1, words + 1, words + 1))
    graph = networkx.DiGraph()
    for head in range(words + 1):
        for dependent in range(1, words + 1):
            if head != dependent:
                graph.add_edge(head, dependent, weight=scores[0, head, dependent] - 1e3 * (head == 0))
    expected = sum(scores[0, h, d] for h, d in networkx.maximum_spanning_arborescence(graph).edges)
    heads = best_arborescences(scores, np.array([words]), True)
    assert spanning_scores(scores, heads)[0, 0] == pytest.approx(expected, rel=1e-12)


def test_heads_and_dependents_are_not_flipped():
    scores = torch.zeros(1, 4, 4)
    scores[0, 0, 2] = scores[0, 2, 1] = scores[0, 1, 3] = 1.0
    assert SpanningTrees().argmax_heads(scores).tolist() == [[0, 2, 0, 1]]
    assert SpanningTrees().argmax(scores).nonzero().tolist() == [[0, 0, 2], [0, 1, 3], [0, 2, 1]]


@pytest.mark.parametrize("single_root", [True, False])
def test_argmax_ignores_padding_order_and_unread_entries(single_root):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([7, 0, 1, 20, 33, 5])
    scores = torch.randn(6, 34, 34, generator=generator)
    structure = SpanningTrees(single_root)
    heads = structure.argmax_heads(scores, lengths)
    for item, words in enumerate(lengths.tolist()):
        alone = structure.argmax_heads(scores[item : item + 1, : words + 1, : words + 1])
        assert (heads[item, : words + 1] == alone[0]).all()
        assert (heads[item, words + 1 :] == 0).all()
        scores[item, words + 1 :] = torch.nan
        scores[item, :, words + 1 :] = torch.nan
    scores[:, :, 0] = torch.inf
    scores.diagonal(dim1=1, dim2=2).fill_(torch.nan)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    assert (structure.argmax_heads(scores[order], lengths[order]) == heads[order]).all()


def test_argmax_is_the_same_on_several_threads():
    scores = np.random.default_rng(0).standard_normal((300, 26, 26)).astype(np.float32)
    lengths = np.random.default_rng(1).integers(1, 26, 300)
    alone = np.concatenate(
        [best_arborescences(scores[i : i + 1], lengths[i : i + 1], True) for i in range(len(scores))]
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = best_arborescences(scores, lengths, True)
    finally:
        torch.set_num_threads(threads)
    assert (alone == together).all()


def test_invalid_scores_name_the_sentence():
    scores = torch.zeros(3, 4, 4)
    scores[1, 2, 3] = torch.nan
    with pytest.raises(InfeasibleError, match="sentence 1 of the batch: its arc scores hold NaN"):
        SpanningTrees().argmax_heads(scores)
    scores = torch.zeros(3, 4, 4)
    scores[2, 0, 1:] = -torch.inf
    with pytest.raises(InfeasibleError, match="sentence 2 of the batch: -inf arc scores forbid every tree"):
        SpanningTrees().argmax_heads(scores)
    scores = torch.full((1, 3, 3), -torch.inf)
    scores[0, 0] = 0.0
    with pytest.raises(InfeasibleError, match="exactly one root word"):
        SpanningTrees().argmax_heads(scores)
    assert SpanningTrees(single_root=False).argmax_heads(scores).tolist() == [[0, 0, 0]]
    with pytest.raises(ValueError, match=r"lengths must lie in 0 \.\. 2"):
        SpanningTrees().argmax_heads(scores, torch.tensor([3]))
