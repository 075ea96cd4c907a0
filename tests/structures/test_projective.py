"""Laws of projective trees that the generic ones do not state."""

import math

import numpy as np
import pytest
import torch

from parser_vae.errors import InfeasibleError, InputError
from parser_vae.structures import by_width
from parser_vae.structures.kernels.threads import workspace
from parser_vae.structures.projective import ProjectiveTrees, cost_augmented
from parser_vae.structures.trees import heads_to_arcs
from tests.oracles import projective_trees

BOTH_ROOT_MODES = pytest.mark.parametrize("single_root", [True, False])


def random_scores(batch, size, seed=0, dtype=torch.float64):
    return torch.randn(batch, size + 1, size + 1, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@BOTH_ROOT_MODES
@pytest.mark.parametrize("size", range(1, 6))
def test_enumeration_and_count(size, single_root):
    structure = ProjectiveTrees(single_root)
    expected = {tuple(tree.flatten().tolist()) for tree in projective_trees(size, single_root)}
    trees = structure.enumerate((size + 1, size + 1))
    assert len(trees) == len(expected)
    assert {tuple(tree.flatten().tolist()) for tree in trees} == expected
    count = structure.log_count(random_scores(2, size + 2), torch.tensor([size, size]))
    assert count.tolist() == pytest.approx([math.log(len(expected))] * 2)


@BOTH_ROOT_MODES
@pytest.mark.parametrize("size", range(1, 6))
def test_argmax_is_the_best_of_all_trees(size, single_root):
    structure = ProjectiveTrees(single_root)
    scores = random_scores(20, size)
    every = torch.einsum("thd,bhd->bt", projective_trees(size, single_root), scores)
    best = structure.argmax(scores)
    assert structure.score(scores, best).tolist() == pytest.approx(every.amax(1).tolist())


def test_head_and_dependent_are_not_flipped():
    scores = torch.zeros(1, 4, 4)
    for head, dependent in ((0, 2), (2, 1), (1, 3)):  # not projective; 2 -> 3 is the next best for 3
        scores[0, head, dependent] = 10
    scores[0, 2, 3] = 1
    assert ProjectiveTrees().argmax_heads(scores).tolist() == [[0, 2, 0, 2]]
    assert ProjectiveTrees().argmax_heads(scores.transpose(1, 2)).tolist() != [[0, 2, 0, 2]]


def test_cost_augmentation_moves_away_from_gold():
    scores = torch.zeros(1, 4, 4)
    gold = torch.tensor([[0, 0, 1, 2]])
    scores[0, gold[0, 1:], torch.arange(1, 4)] = 0.5
    structure = ProjectiveTrees()
    assert structure.argmax_heads(scores).tolist() == gold.tolist()
    worst = structure.argmax_heads(cost_augmented(scores, gold))
    assert (worst != gold)[0, 1:].all()
    assert structure.argmax_heads(cost_augmented(scores, gold, 0.4)).tolist() == gold.tolist()


def test_infeasible_scores_name_the_sentence():
    scores = torch.zeros(3, 4, 4)
    scores[1, :, 2] = -math.inf
    with pytest.raises(InfeasibleError, match=r"sentence 1 .*forbid every projective tree"):
        ProjectiveTrees().argmax(scores)
    scores[1, :, 2] = math.nan
    with pytest.raises(InfeasibleError, match=r"sentence 1 .*NaN"):
        ProjectiveTrees().argmax(scores)


def test_shapes_and_lengths_are_checked_before_any_kernel_runs():
    structure = ProjectiveTrees()
    with pytest.raises(InputError, match=r"\[batch, n \+ 1, n \+ 1\]"):
        structure.argmax_heads(torch.zeros(2, 3, 4))
    for lengths in ([2, 4], [0, 3], [3], [-1, 2]):
        with pytest.raises(InputError, match="numbers from 1 to 3"):
            structure.argmax_heads(torch.zeros(2, 4, 4), torch.tensor(lengths))


# ---------------------------------------------------------------- sums over trees


def by_enumeration(scores, single_root):
    """Log Z, marginals and entropy from every tree, differentiable."""
    trees = projective_trees(scores.shape[1] - 1, single_root)
    totals = torch.einsum("thd,bhd->bt", trees, scores)
    chances = totals.softmax(1)
    entropy = -(chances * totals.log_softmax(1)).sum(1)
    return totals.logsumexp(1), torch.einsum("thd,bt->bhd", trees, chances), entropy


@BOTH_ROOT_MODES
@pytest.mark.parametrize("batch", [2, 13])  # both layouts of the kernels
@pytest.mark.parametrize("size", range(1, 6))
def test_sums_and_their_gradients_equal_enumeration(size, batch, single_root):
    structure = ProjectiveTrees(single_root)
    scores = (2 * random_scores(batch, size)).requires_grad_()
    other = random_scores(batch, size, 1)
    log_z, marginals, entropy = by_enumeration(scores, single_root)
    torch.testing.assert_close(structure.log_partition(scores), log_z)
    torch.testing.assert_close(structure.marginals(scores), marginals)
    torch.testing.assert_close(structure.entropy(scores), entropy)
    for ours, expected in (
        (structure.log_partition(scores), log_z),
        (structure.marginals(scores) * other, marginals * other),
        (structure.entropy(scores), entropy),
    ):
        torch.testing.assert_close(
            torch.autograd.grad(ours.sum(), scores)[0],
            torch.autograd.grad(expected.sum(), scores, retain_graph=True)[0],
        )
    uniform = structure.log_count(scores) - entropy
    torch.testing.assert_close(structure.kl_to_uniform(scores), uniform)
    torch.testing.assert_close(structure.kl(scores, scores), torch.zeros(batch, dtype=torch.float64))


@BOTH_ROOT_MODES
def test_gradcheck_and_the_gradient_of_the_gradient(single_root):
    structure = ProjectiveTrees(single_root)
    scores = random_scores(2, 5).requires_grad_()
    lengths = torch.tensor([5, 3])
    assert torch.autograd.gradcheck(lambda x: structure.log_partition(x, lengths), scores)
    assert torch.autograd.gradcheck(lambda x: structure.marginals(x, lengths), scores)
    assert torch.autograd.gradcheck(lambda x: structure.smoothed_argmax(x, lengths), scores)
    (first,) = torch.autograd.grad(structure.log_partition(scores, lengths).sum(), scores, create_graph=True)
    weight = random_scores(2, 5, 2)
    ours = torch.autograd.grad((first * weight).sum(), scores)[0]
    torch.testing.assert_close(
        ours, torch.autograd.grad((structure.marginals(scores, lengths) * weight).sum(), scores)[0]
    )


@BOTH_ROOT_MODES
@pytest.mark.parametrize("size", [12, 30, 70])
def test_float32_errors_are_bounded(size, single_root):
    structure = ProjectiveTrees(single_root)
    scores = random_scores(9, size)
    lengths = torch.arange(size - 8, size + 1)
    rounded = scores.float().double()
    single = structure.marginals(scores.float(), lengths).double()
    assert (single - structure.marginals(rounded, lengths)).abs().max() < 1e-7
    exact = structure.log_partition(rounded, lengths)
    assert (structure.log_partition(scores.float(), lengths).double() / exact - 1).abs().max() < 1e-6
    soft = structure.smoothed_argmax(scores.float(), lengths).double()
    assert (soft - structure.smoothed_argmax(rounded, lengths)).abs().max() < 1e-5


@BOTH_ROOT_MODES
def test_out_of_range_sums_take_the_logarithmic_recursion(single_root):
    structure = ProjectiveTrees(single_root)
    scores = random_scores(3, 5)
    scores[1] *= 1000  # weights of e ** -1000: nothing is left of them in linear space
    scores[1, :, 3] = -500 * torch.arange(6.0)
    scores[1, 4, 2] = scores[1, 0, 2] = 9000
    scores[1, 2, 4] = scores[1, 0, 4] = 9000
    scores.requires_grad_()
    log_z, marginals, _ = by_enumeration(scores, single_root)
    torch.testing.assert_close(structure.log_partition(scores), log_z)
    torch.testing.assert_close(structure.marginals(scores), marginals)
    weight = random_scores(3, 5, 1)
    ours = torch.autograd.grad((structure.marginals(scores) * weight).sum(), scores)[0]
    torch.testing.assert_close(ours, torch.autograd.grad((marginals * weight).sum(), scores)[0])
    drawn = structure.sample(scores.detach(), generator=torch.Generator().manual_seed(0), count=400)
    assert (drawn[:, 1].mean(0) - marginals[1]).abs().max() < 0.1


def test_forbidden_arcs_have_no_mass_and_no_gradient():
    scores = random_scores(2, 5)
    scores[0, 3, 1] = scores[0, 0, 2] = scores[1, 2, :] = -math.inf
    scores.requires_grad_()
    for single_root in (True, False):
        structure = ProjectiveTrees(single_root)
        for result in (structure.marginals(scores), structure.smoothed_argmax(scores), structure.argmax(scores)):
            assert (result[scores == -math.inf] == 0).all()
            torch.testing.assert_close(result.sum(1)[:, 1:], torch.ones(2, 5, dtype=torch.float64))
        gradient = torch.autograd.grad((structure.smoothed_argmax(scores) ** 2).sum(), scores)[0]
        assert gradient.isfinite().all() and (gradient[scores == -math.inf] == 0).all()
        entropy = torch.autograd.grad(structure.entropy(scores).sum(), scores)[0]
        assert entropy.isfinite().all() and (entropy[scores == -math.inf] == 0).all()


@BOTH_ROOT_MODES
def test_padding_and_batch_order_change_nothing(single_root):
    structure = ProjectiveTrees(single_root)
    lengths = torch.tensor([7, 3, 9, 1, 9, 5, 2, 8, 4, 6, 3])
    scores = random_scores(11, 9)
    padded = torch.full((11, 13, 13), math.nan, dtype=torch.float64)
    for index, length in enumerate(lengths.tolist()):
        padded[index, : length + 1, : length + 1] = scores[index, : length + 1, : length + 1]
        padded[index].fill_diagonal_(math.inf)
        padded[index, :, 0] = math.nan
    dirty = workspace(np.float64, 1)
    dirty[:] = math.nan  # kernels may not count on what an earlier call left
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    for what in ("argmax", "log_partition", "marginals", "smoothed_argmax", "entropy"):
        result = getattr(structure, what)(padded, lengths)
        torch.testing.assert_close(getattr(structure, what)(padded[order], lengths[order]), result[order])
        for index, length in enumerate(lengths.tolist()):
            dirty[:] = math.nan
            alone = getattr(structure, what)(scores[index : index + 1, : length + 1, : length + 1])
            inside = (index, *[slice(length + 1)] * (result.dim() - 1))
            torch.testing.assert_close(result[inside], alone[0])
            if result.dim() == 3:
                assert result[index].sum() == pytest.approx(length)


# ---------------------------------------------------------------- samples and k best


@BOTH_ROOT_MODES
@pytest.mark.parametrize("batch", [1, 9])
def test_samples_pass_a_chi_squared_test(batch, single_root):
    structure = ProjectiveTrees(single_root)
    scores = random_scores(batch, 4, 3)
    trees = projective_trees(4, single_root)
    chances = torch.einsum("thd,bhd->bt", trees, scores).softmax(1)
    count = 20000
    drawn = structure.sample(scores, generator=torch.Generator().manual_seed(1), count=count)
    for index in (0, batch - 1):
        which = torch.einsum("thd,chd->ct", trees, drawn[:, index]).argmax(1)
        seen = torch.bincount(which, minlength=len(trees)).double()
        expected = count * chances[index]
        rare = expected < 5
        statistic = ((seen - expected) ** 2 / expected)[~rare].sum()
        freedom = int((~rare).sum())
        assert statistic < freedom + 4 * math.sqrt(2 * freedom)  # about 4 standard deviations
        assert seen[rare].sum() < expected[rare].sum() + 5 * math.sqrt(expected[rare].sum() + 1)


def test_samples_come_from_the_generator_alone_and_respect_lengths():
    structure = ProjectiveTrees()
    scores, lengths = random_scores(3, 6), torch.tensor([6, 1, 4])
    first, second = (structure.sample(scores, lengths, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.sum((2, 3)).tolist() == [[6, 1, 4]]
    scores[1, 0, 1] = math.nan
    with pytest.raises(InfeasibleError, match="sentence 1 "):
        structure.sample(scores, lengths, generator=torch.Generator())


@BOTH_ROOT_MODES
@pytest.mark.parametrize("size", range(1, 6))
def test_k_best_equals_the_sorted_enumeration(size, single_root):
    structure = ProjectiveTrees(single_root)
    scores = random_scores(3, size)
    scores[2] = scores[2].round()  # ties: the trees must still be distinct
    totals = torch.einsum("thd,bhd->bt", projective_trees(size, single_root), scores).sort(1, descending=True).values
    heads, values = structure.k_best(scores, k=20)
    exist = min(20, totals.shape[1])
    torch.testing.assert_close(values[:, :exist], totals[:, :exist])
    assert (values[:, exist:] == -math.inf).all()
    for index in range(3):
        assert len({tuple(row.tolist()) for row in heads[index, :exist]}) == exist
        arcs = heads_to_arcs(heads[index, :exist]).double()
        torch.testing.assert_close((arcs * scores[index]).sum((1, 2)), values[index, :exist])


# ---------------------------------------------------------------- smoothed argmax


def test_soft_tree_follows_its_definition():
    """The recursion and the soft back-tracking of the paper, written with lists, for n = 3 and many roots."""
    scores = random_scores(1, 3, 4)
    value, chance = {}, {}

    def soft(key, candidates):
        totals = torch.stack(
            [value.get(first, 0.0) + value.get(second, torch.zeros(())) for first, second in candidates]
        )
        chance[key] = list(zip(candidates, totals.softmax(0), strict=True))
        return (totals.softmax(0) * totals).sum()

    for width in range(1, 4):
        for i in range(4 - width):
            j = i + width
            for kind in ("right", "left"):
                value[kind, i, i] = value[kind, j, j] = torch.zeros((), dtype=torch.float64)
            between = soft(("I", i, j), [(("right", i, k), ("left", k + 1, j)) for k in range(i, j)])
            value["open_right", i, j] = between + scores[0, i, j]
            value["open_left", i, j] = between + scores[0, j, i]
            value["right", i, j] = soft(
                ("right", i, j), [(("open_right", i, k), ("right", k, j)) for k in range(i + 1, j + 1)]
            )
            value["left", i, j] = soft(("left", i, j), [(("left", i, k), ("open_left", k, j)) for k in range(i, j)])
    weight = {key: torch.zeros(()) for key in value}
    weight["right", 0, 3] = torch.ones(())
    tree = torch.zeros(1, 4, 4, dtype=torch.float64)
    for width in range(3, 0, -1):
        for i in range(4 - width):
            j = i + width
            for kind in ("right", "left"):
                for (first, second), share in chance[kind, i, j]:
                    weight[first] = weight[first] + weight[kind, i, j] * share
                    weight[second] = weight[second] + weight[kind, i, j] * share * (second[1] != second[2])
            tree[0, i, j], tree[0, j, i] = weight["open_right", i, j], weight["open_left", i, j]
            for (first, second), share in chance["I", i, j]:
                arc = weight["open_right", i, j] + weight["open_left", i, j]
                weight[first] = weight[first] + arc * share
                weight[second] = weight[second] + arc * share
    torch.testing.assert_close(ProjectiveTrees(False).smoothed_argmax(scores), tree)


@BOTH_ROOT_MODES
@pytest.mark.parametrize("relaxation", ["expected", "marginals"])
def test_soft_trees_lie_in_the_polytope_and_sharpen(relaxation, single_root):
    structure = ProjectiveTrees(single_root)
    scores = random_scores(12, 5)
    soft = structure.smoothed_argmax(scores, relaxation=relaxation)
    torch.testing.assert_close(soft.sum(1)[:, 1:], torch.ones(12, 5, dtype=torch.float64), atol=1e-14, rtol=0)
    assert (soft >= 0).all() and (soft <= 1).all() and (soft[:, :, 0] == 0).all()
    # a point of the polytope scores no more than its best corner, whatever the direction
    directions = random_scores(200, 5, 9)
    corners = torch.einsum("thd,khd->kt", projective_trees(5, single_root), directions)
    assert (torch.einsum("bhd,khd->bk", soft, directions) <= corners.amax(1) + 1e-12).all()
    torch.testing.assert_close(structure.smoothed_argmax(scores + 7, relaxation=relaxation), soft)
    sharp = structure.smoothed_argmax(2000 * scores, relaxation=relaxation)
    torch.testing.assert_close(sharp, structure.argmax(scores), atol=1e-6, rtol=0)


@BOTH_ROOT_MODES
def test_modes_of_the_smoothed_argmax(single_root):
    structure = ProjectiveTrees(single_root)
    scores, weight = random_scores(3, 5).requires_grad_(), random_scores(3, 5, 1)
    lengths = torch.tensor([5, 2, 4])

    def value_and_gradient(mode):
        tree = structure.smoothed_argmax(scores, lengths, mode=mode)
        return tree.detach(), torch.autograd.grad((tree * weight).sum(), scores)[0]

    soft, soft_gradient = value_and_gradient("soft")
    hard, hard_gradient = value_and_gradient("hard_forward")
    passed, passed_gradient = value_and_gradient("straight_through")
    best = structure.argmax(scores.detach(), lengths)
    torch.testing.assert_close(hard, best)
    torch.testing.assert_close(passed, best)
    torch.testing.assert_close(hard_gradient, soft_gradient)
    assert not torch.equal(soft, hard)
    readable = structure.marginals(torch.zeros_like(scores), lengths) > 0
    torch.testing.assert_close(passed_gradient, weight * readable)


# ---------------------------------------------------------------- the torch recursion agrees with the kernels


def devices():
    return ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"))]


@BOTH_ROOT_MODES
@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("lengths", [[9, 1, 6, 8], [27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 9]])
def test_recursion_by_width_agrees_with_the_kernels(lengths, device, single_root):
    structure = ProjectiveTrees(single_root)
    size, batch, lengths = max(lengths), len(lengths), torch.tensor(lengths)
    scores = random_scores(batch, size).requires_grad_()
    scores.data[0, 3, 4] = scores.data[2, 0, 1] = -math.inf
    there, sizes = scores.to(device), lengths.to(device)
    weight = random_scores(batch, size, 1)

    def gradient(result):
        return torch.autograd.grad((result.cpu() * weight).sum(), scores, retain_graph=True)[0]

    best = by_width.best_total(there, sizes, single_root)
    torch.testing.assert_close(torch.autograd.grad(best.sum(), scores)[0], structure.argmax(scores, lengths))
    log_z = by_width.log_partition(there, sizes, single_root)
    torch.testing.assert_close(log_z.cpu(), structure.log_partition(scores, lengths))
    (marginals,) = torch.autograd.grad(log_z.sum(), scores, create_graph=True)
    torch.testing.assert_close(marginals, structure.marginals(scores, lengths))
    torch.testing.assert_close(gradient(marginals), gradient(structure.marginals(scores, lengths)))
    soft = by_width.soft_tree(there, sizes, single_root)
    torch.testing.assert_close(soft.cpu(), structure.smoothed_argmax(scores, lengths))
    torch.testing.assert_close(gradient(soft), gradient(structure.smoothed_argmax(scores, lengths)))
    if device == "cuda":
        for what in ("argmax", "log_partition", "marginals", "smoothed_argmax", "entropy"):
            torch.testing.assert_close(
                getattr(structure, what)(there, sizes).cpu(), getattr(structure, what)(scores, lengths)
            )
