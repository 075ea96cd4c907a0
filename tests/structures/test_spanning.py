"""Spanning trees: the compiled argmax and the matrix-tree quantities against enumeration."""

import networkx
import numpy as np
import pytest
import scipy.stats
import torch

from parser_vae.errors import InfeasibleError
from parser_vae.structures import matrix_tree
from parser_vae.structures.kernels.arborescence import best_arborescences
from parser_vae.structures.spanning import SpanningTrees
from tests.oracles import spanning_laplacian, spanning_scores, spanning_trees


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
    """2 x 2 x 5000 matrices: -inf, ties, all-equal, huge ranges, one word."""
    rng = np.random.default_rng(0)
    for _ in range(500):
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


@pytest.mark.parametrize("words", [12, 45])
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


# ---------------------------------------------------------------- matrix-tree


def batch_of(words, scale=1.0, batch=4, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, words + 1, words + 1, generator=generator, dtype=dtype)


@pytest.mark.parametrize("single_root", [True, False])
@pytest.mark.parametrize("words", [1, 2, 3, 4, 5, 6])
def test_distribution_agrees_with_enumeration(words, single_root):
    structure = SpanningTrees(single_root)
    scores, other = batch_of(words, 3.0), batch_of(words, 1.0, seed=1)
    trees = structure.enumerate((words + 1, words + 1))
    assert (trees.sum((1, 2)) == words).all()
    if words < 6:
        heads = spanning_trees(words, single_root)
        assert {tuple(h) for h in trees.argmax(1).tolist()} == {tuple(h) for h in heads.tolist()}
    assert structure.log_count(scores).exp() == pytest.approx([len(trees)] * 4)

    def enumerated(values):
        totals = (values[:, None] * trees).sum((2, 3))
        return totals.logsumexp(1), totals.log_softmax(1)

    log_z, log_p = enumerated(scores)
    _, log_q = enumerated(other)
    marginals = torch.einsum("bt,thd->bhd", log_p.exp(), trees)
    torch.testing.assert_close(structure.log_partition(scores), log_z, rtol=0, atol=1e-12)
    torch.testing.assert_close(structure.marginals(scores), marginals, rtol=0, atol=1e-12)
    torch.testing.assert_close(structure.entropy(scores), -(log_p.exp() * log_p).sum(1), rtol=0, atol=1e-11)
    torch.testing.assert_close(structure.kl(scores, other), (log_p.exp() * (log_p - log_q)).sum(1), rtol=0, atol=1e-11)
    torch.testing.assert_close(
        structure.log_prob(scores, trees[-1:].expand(4, -1, -1)), log_p[:, -1], rtol=0, atol=1e-11
    )
    torch.testing.assert_close(structure.log_partition(scores.float()), log_z.float(), rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(structure.marginals(scores.float()), marginals.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("single_root", [True, False])
def test_compiled_elimination_agrees_with_the_laplacian_and_with_torch(single_root):
    for words, scale in ((20, 1.0), (45, 3.0)):
        scores = batch_of(words, scale, batch=2)
        expected, slopes = spanning_laplacian(scores, single_root)
        for values, atol in ((scores, 1e-9), (scores.float(), 2e-5)):
            found = matrix_tree.log_partition(values, torch.tensor([words, words]), single_root)
            torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol)
        lengths = torch.tensor([words, words])
        slow = matrix_tree._by_torch(scores, lengths, single_root)
        torch.testing.assert_close(slow, expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(matrix_tree.marginals(scores, lengths, single_root), slopes, rtol=0, atol=1e-9)
        in_float32 = matrix_tree.marginals(scores.float(), lengths, single_root).double()
        torch.testing.assert_close(in_float32, slopes, rtol=0, atol=2e-6)


@pytest.mark.parametrize("single_root", [True, False])
@pytest.mark.parametrize("strength", [30.0, 200.0, 3000.0])
def test_words_that_prefer_each_other_cost_no_precision(strength, single_root):
    """A Laplacian would be singular in floating point; float32 and even float64 run out of range on the way."""
    scores = batch_of(5)
    for a, b in ((1, 2), (3, 4)):
        scores[:, a, b] += strength
        scores[:, b, a] += strength
    scores[1] -= strength
    scores[2, 0] -= strength
    trees = SpanningTrees(single_root).enumerate((6, 6))
    totals = (scores[:, None] * trees).sum((2, 3))
    marginals = torch.einsum("bt,thd->bhd", totals.softmax(1), trees)
    structure = SpanningTrees(single_root)
    torch.testing.assert_close(structure.log_partition(scores), totals.logsumexp(1), rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(structure.marginals(scores), marginals, rtol=0, atol=1e-9)
    rounded = scores.float().double()
    totals = (rounded[:, None] * trees).sum((2, 3))
    marginals = torch.einsum("bt,thd->bhd", totals.softmax(1), trees)
    torch.testing.assert_close(structure.marginals(rounded.float()).double(), marginals, rtol=0, atol=2e-6)


@pytest.mark.parametrize("single_root", [True, False])
def test_matrix_tree_honours_masks_and_refuses_infeasible_ones(single_root):
    structure = SpanningTrees(single_root)
    trees = structure.enumerate((5, 5))
    scores = batch_of(4, batch=50, seed=3)
    scores[torch.rand(50, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.5] = -torch.inf
    totals = torch.where(trees.bool(), scores[:, None], 0.0).sum((2, 3))
    feasible = totals.amax(1) > -torch.inf
    assert 5 < feasible.sum() < 45
    for item in (~feasible).nonzero().flatten().tolist():
        for ask in (structure.log_partition, structure.marginals):
            with pytest.raises(InfeasibleError, match=r"sentence 1 of the batch: -inf"):
                ask(torch.stack([scores[feasible][0], scores[item]]))
    scores, totals = scores[feasible], totals[feasible]
    torch.testing.assert_close(structure.log_partition(scores), totals.logsumexp(1), rtol=0, atol=1e-12)
    marginals = torch.einsum("bt,thd->bhd", totals.softmax(1), trees)
    torch.testing.assert_close(structure.marginals(scores), marginals, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        matrix_tree._marginals_by_torch(scores, torch.full((len(scores),), 4), single_root),
        marginals,
        rtol=0,
        atol=1e-12,
    )
    draws = structure.sample(scores, generator=torch.Generator().manual_seed(0), count=20)
    assert (draws[:, scores == -torch.inf] == 0).all()


def test_nan_is_named_by_the_matrix_tree_too():
    scores = torch.zeros(3, 4, 4)
    scores[2, 1, 2] = torch.nan
    for ask in (SpanningTrees().log_partition, SpanningTrees().marginals):
        with pytest.raises(InfeasibleError, match="sentence 2 of the batch: its arc scores hold NaN"):
            ask(scores)


@pytest.mark.parametrize("single_root", [True, False])
def test_matrix_tree_ignores_padding_order_and_unread_entries(single_root):
    structure = SpanningTrees(single_root)
    lengths = torch.tensor([7, 0, 1, 20, 16, 5])
    scores = batch_of(20, batch=6, dtype=torch.float32)
    log_z, marginals = structure.log_partition(scores, lengths), structure.marginals(scores, lengths)
    for item, words in enumerate(lengths.tolist()):
        alone = scores[item : item + 1, : words + 1, : words + 1]
        assert structure.log_partition(alone)[0] == log_z[item]
        assert (structure.marginals(alone)[0] == marginals[item, : words + 1, : words + 1]).all()
        assert marginals[item].sum() == pytest.approx(words)
        scores[item, words + 1 :] = torch.nan
        scores[item, :, words + 1 :] = torch.nan
    scores[:, :, 0] = torch.inf
    scores.diagonal(dim1=1, dim2=2).fill_(torch.nan)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    assert (structure.log_partition(scores[order], lengths[order]) == log_z[order]).all()
    assert (structure.marginals(scores[order], lengths[order]) == marginals[order]).all()
    in_torch = matrix_tree._by_torch(scores, lengths, single_root)
    torch.testing.assert_close(in_torch.float(), log_z, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("single_root", [True, False])
def test_derivatives(single_root):
    structure = SpanningTrees(single_root)
    lengths = torch.tensor([3, 0, 1])
    scores = batch_of(3, batch=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: structure.log_partition(x, lengths), scores)
    assert torch.autograd.gradgradcheck(lambda x: structure.log_partition(x, lengths), scores)
    assert torch.autograd.gradcheck(lambda x: structure.marginals(x, lengths), scores)
    assert torch.autograd.gradgradcheck(structure.marginals, batch_of(2, batch=1).requires_grad_())
    direction = batch_of(3, batch=3, seed=5)
    (exact,) = torch.autograd.grad(structure.marginals(scores, lengths), scores, direction)
    rounded = scores.detach().float().requires_grad_()
    (found,) = torch.autograd.grad(structure.marginals(rounded, lengths), rounded, direction.float())
    torch.testing.assert_close(found, exact.float(), rtol=0, atol=1e-6)


def test_half_precision_is_computed_in_float32():
    scores = batch_of(6, dtype=torch.bfloat16)
    structure = SpanningTrees()
    assert (structure.argmax_heads(scores) == structure.argmax_heads(scores.float())).all()
    for ask in (structure.argmax, structure.log_partition, structure.marginals):
        found = ask(scores.requires_grad_())
        assert found.dtype == torch.bfloat16
        assert (found == ask(scores.float()).bfloat16()).all()
    (slope,) = torch.autograd.grad(structure.marginals(scores)[:, 0, 1].sum(), scores)
    assert slope.dtype == torch.bfloat16


# ---------------------------------------------------------------- sampling


@pytest.mark.parametrize("single_root", [True, False])
def test_samples_follow_the_distribution(single_root):
    """Chi-squared over all trees of 4 words, at the 0.1% level for each of three matrices; the seed is fixed."""
    structure = SpanningTrees(single_root)
    scores = batch_of(4, 1.5, batch=3, seed=2)
    trees = structure.enumerate((5, 5))
    count = 20_000
    draws = structure.sample(scores, generator=torch.Generator().manual_seed(7), count=count)
    code = 5 ** torch.arange(5)
    place = {int(k): i for i, k in enumerate((trees.argmax(1) * code).sum(1))}
    for item in range(3):
        keys = (draws[:, item].argmax(1) * code).sum(1).tolist()
        observed = torch.bincount(torch.tensor([place[k] for k in keys]), minlength=len(trees))
        expected = count * structure.log_prob(scores[item].expand(len(trees), -1, -1), trees).exp()
        often = expected >= 5
        observed = torch.cat([observed[often], observed[~often].sum()[None]])
        expected = torch.cat([expected[often], expected[~often].sum()[None]])
        assert scipy.stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_long_samples_match_their_marginals_and_repeat():
    scores, lengths = batch_of(18, 2.0, batch=2, dtype=torch.float32), torch.tensor([18, 11])
    structure = SpanningTrees()
    draws = structure.sample(scores, lengths, generator=torch.Generator().manual_seed(3), count=4000)
    assert (draws.sum((2, 3)) == lengths).all()
    assert (draws[:, :, 0].sum(-1) == 1).all()
    torch.testing.assert_close(draws.mean(0), structure.marginals(scores, lengths), rtol=0, atol=0.04)
    again = structure.sample(scores, lengths, generator=torch.Generator().manual_seed(3), count=4000)
    assert (draws == again).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("single_root", [True, False])
def test_cuda_gives_the_same(single_root):
    structure = SpanningTrees(single_root)
    scores, lengths = batch_of(12, batch=3), torch.tensor([12, 0, 7])
    for ask in (structure.argmax, structure.log_partition, structure.marginals):
        torch.testing.assert_close(ask(scores.cuda(), lengths.cuda()).cpu(), ask(scores, lengths), rtol=0, atol=1e-9)
    there = structure.sample(scores.cuda(), lengths.cuda(), generator=torch.Generator().manual_seed(0), count=3)
    here = structure.sample(scores, lengths, generator=torch.Generator().manual_seed(0), count=3)
    assert (there.cpu() == here).all()
