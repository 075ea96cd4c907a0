"""Laws of projective trees that the generic ones do not state."""

import math

import pytest
import torch

from parser_vae.errors import InfeasibleError, InputError
from parser_vae.structures.projective import ProjectiveTrees, cost_augmented
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
