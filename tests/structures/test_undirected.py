"""Undirected spanning trees against enumeration, networkx and one another."""

import networkx
import numpy as np
import pytest
import scipy.stats
import torch

from parser_vae.errors import InfeasibleError
from parser_vae.structures.undirected import UndirectedTrees


def edge_scores(vertices, scale=1.0, batch=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, vertices * (vertices - 1) // 2, generator=generator, dtype=dtype)


@pytest.mark.parametrize("vertices", [1, 2, 3, 4, 5, 6])
def test_distribution_agrees_with_enumeration(vertices):
    structure = UndirectedTrees()
    scores = edge_scores(vertices, 2.0)
    trees = structure.enumerate(tuple(scores.shape[1:]))
    assert len(trees) == max(1, round(vertices ** (vertices - 2)))
    assert len(set(map(tuple, trees.tolist()))) == len(trees)
    assert structure.log_count(scores).exp() == pytest.approx([len(trees)] * 3)
    totals = scores @ trees.T
    torch.testing.assert_close(structure.score(scores, structure.argmax(scores)), totals.amax(1))
    torch.testing.assert_close(structure.log_partition(scores), totals.logsumexp(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(structure.marginals(scores), totals.softmax(1) @ trees, rtol=0, atol=1e-12)
    entropy = -(totals.softmax(1) * totals.log_softmax(1)).sum(1)
    torch.testing.assert_close(structure.entropy(scores), entropy, rtol=0, atol=1e-11)


def test_argmax_agrees_with_networkx():
    scores = edge_scores(25)
    first, second = torch.triu_indices(25, 25, 1)
    for item, edges in zip(scores, UndirectedTrees().argmax(scores), strict=True):
        graph = networkx.Graph()
        graph.add_weighted_edges_from(zip(first.tolist(), second.tolist(), item.tolist(), strict=True))
        expected = networkx.maximum_spanning_tree(graph).size(weight="weight")
        assert float(item @ edges) == pytest.approx(expected)


def test_mixed_sizes_agree_with_each_graph_alone():
    scores, lengths = edge_scores(6), torch.tensor([6, 1, 4])
    second = torch.triu_indices(6, 6, 1)[1]
    structure = UndirectedTrees()
    for item, vertices in enumerate(lengths.tolist()):
        inside = second < vertices
        alone = scores[item : item + 1, inside]
        for ask in (structure.argmax, structure.marginals):
            together = ask(scores, lengths)[item]
            assert (together[inside] == ask(alone)[0]).all()
            assert (together[~inside] == 0).all()
        assert structure.log_partition(scores, lengths)[item] == structure.log_partition(alone)[0]


def test_derivatives_and_range():
    scores = edge_scores(4, 2.0).requires_grad_()
    for structure in (UndirectedTrees(), UndirectedTrees(max_range=1.5)):
        assert torch.autograd.gradcheck(structure.log_partition, scores)
        assert torch.autograd.gradcheck(structure.marginals, scores)
        assert torch.autograd.gradgradcheck(structure.log_partition, scores)
    floor = scores.amax(1, keepdim=True) - 1.5
    raised = UndirectedTrees().marginals(torch.maximum(scores, floor))
    assert (UndirectedTrees(max_range=1.5).marginals(scores) == raised).all()


def test_a_range_holds_for_probabilities_entropy_and_divergence_too():
    structure, scores = UndirectedTrees(max_range=1.5), edge_scores(4, 3.0)
    assert ((scores.amax(1) - scores.amin(1)) > 1.5).all()
    trees = structure.enumerate(tuple(scores.shape[1:]))
    logs = structure.log_prob(scores, trees[:, None].expand(-1, len(scores), -1))
    torch.testing.assert_close(logs.exp().sum(0), torch.ones(len(scores), dtype=torch.float64))
    entropy = -(logs.exp() * logs).sum(0)
    torch.testing.assert_close(structure.entropy(scores), entropy)
    torch.testing.assert_close(structure.kl_to_uniform(scores), structure.log_count(scores) - entropy)
    other = scores.flip(1)
    others = structure.log_prob(other, trees[:, None].expand(-1, len(scores), -1))
    torch.testing.assert_close(structure.kl(scores, other), (logs.exp() * (logs - others)).sum(0))


def chi_squared_p(draws, scores, structure):
    trees = structure.enumerate(tuple(scores.shape[1:]))
    seen = (draws[:, 0, None].to(trees) == trees).all(-1).sum(0)
    assert seen.sum() == len(draws)
    expected = (scores @ trees.T).softmax(1)[0] * len(draws)
    return scipy.stats.chisquare(seen, expected).pvalue


def test_samples_follow_the_distribution():
    """Chi-squared over the 16 trees of 4 vertices at the 0.1% level; the seeds are fixed."""
    structure, scores = UndirectedTrees(), edge_scores(4, 0.7, batch=1)
    draws = structure.sample(scores, generator=torch.Generator().manual_seed(0), count=20_000)
    assert chi_squared_p(draws, scores, structure) > 1e-3
    chains = structure.sample_by_chain(scores, generator=torch.Generator().manual_seed(1), count=20_000, steps=60)
    assert chi_squared_p(chains, scores, structure) > 1e-3


def test_chain_starts_at_the_best_tree_and_keeps_forbidden_edges_out():
    structure, scores, lengths = UndirectedTrees(), edge_scores(6), torch.tensor([6, 4, 2])
    scores[0, 3] = -torch.inf
    start = structure.sample_by_chain(scores, lengths, generator=torch.Generator(), steps=0)
    assert (start[0] == structure.argmax(scores, lengths)).all()
    chains = structure.sample_by_chain(scores, lengths, generator=torch.Generator(), count=50)
    assert (chains.sum(2) == lengths - 1).all()
    assert (chains[:, 0, 3] == 0).all()
    assert len(np.unique(chains[:, 0].numpy(), axis=0)) > 5


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="4 is not the number of edges"):
        UndirectedTrees().argmax(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="7 vertices have too many trees"):
        UndirectedTrees().enumerate((21,))
    scores = torch.zeros(2, 3)
    scores[1, :2] = -torch.inf
    with pytest.raises(InfeasibleError, match="sentence 1 of the batch"):
        UndirectedTrees().log_partition(scores)
