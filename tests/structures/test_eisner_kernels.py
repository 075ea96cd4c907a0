"""The compiled Eisner kernel against its slow twin, in both layouts, on input that ordinary scores never reach."""

import numpy as np
import pytest

from parser_vae.structures.kernels.eisner import INFEASIBLE, NOT_A_NUMBER, eisner_heads
from tests.oracles import projective_is_tree, projective_textbook_eisner


def total(scores, heads, length):
    words = np.arange(1, length + 1)
    return scores[heads[1 : length + 1], words].astype(np.float64).sum()


@pytest.mark.parametrize("single_root", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 21])  # one sentence a call: neighbouring starts in the lanes; 21: sentences
@pytest.mark.parametrize("size", [1, 2, 9, 17, 33, 45])
def test_best_score_equals_the_textbook_recursion(size, batch, dtype, single_root):
    random = np.random.default_rng(size)
    scores = random.standard_normal((batch, size + 1, size + 1)).astype(dtype)
    lengths = random.integers(max(1, size - 4), size + 1, batch)
    heads, status = eisner_heads(scores, lengths, single_root)
    assert not status.any()
    for index in {0, 1, batch - 1} & set(range(batch)):
        length = lengths[index]
        assert projective_is_tree(tuple(heads[index, 1 : length + 1]), single_root)
        assert (heads[index, length + 1 :] == 0).all() and heads[index, 0] == 0
        expected = projective_textbook_eisner(scores[index, : length + 1, : length + 1], single_root)
        assert total(scores[index], heads[index], length) == pytest.approx(expected, rel=1e-5, abs=1e-4)


def adversarial(random, batch, size):
    """Ties, huge ranges, forbidden arcs, constants: each sentence of another kind."""
    scores = random.standard_normal((batch, size + 1, size + 1))
    kind = random.integers(0, 6, batch)
    scores[kind == 0] = 0
    scores[kind == 1] = np.round(scores[kind == 1])
    scores[kind == 2] = np.where(random.random(scores[kind == 2].shape) < 0.3, 1e30, 1e-3)
    scores[kind == 3] *= 10.0 ** random.integers(-30, 30, scores[kind == 3].shape)
    scores[kind == 4, 0] += 1e6  # every word wants to be a root
    masked = scores[kind == 5]
    masked[random.random(masked.shape) < 0.5] = -np.inf
    chain = np.arange(size)
    masked[:, chain, chain + 1] = 0  # one tree stays
    scores[kind == 5] = masked
    return scores


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_root_in_ten_thousand_adversarial_matrices(dtype):
    random = np.random.default_rng(0)
    for size in (1, 2, 3, 5, 8, 13):
        scores = adversarial(random, 1700, size).astype(dtype)
        lengths = random.integers(1, size + 1, 1700)
        heads, status = eisner_heads(scores, lengths, True)
        assert not status.any()
        used = np.arange(size + 1) <= lengths[:, None]
        used[:, 0] = False
        assert (((heads == 0) & used).sum(1) == 1).all()
        for index in range(0, 1700, 17):
            assert projective_is_tree(tuple(heads[index, 1 : lengths[index] + 1]), True)
        assert np.isfinite(np.take_along_axis(scores, heads[:, None].astype(np.int64), 1)[:, 0][used]).all()


@pytest.mark.parametrize("single_root", [True, False])
@pytest.mark.parametrize("batch", [3, 20])
def test_forbidden_trees_and_numbers_that_are_none_are_told_apart(batch, single_root):
    scores = np.zeros((batch, 5, 5), np.float32)
    scores[1, :, 3] = -np.inf
    scores[2, 1, 3] = np.nan
    status = eisner_heads(scores, np.full(batch, 4), single_root)[1]
    assert status.tolist() == [0, INFEASIBLE, NOT_A_NUMBER] + [0] * (batch - 3)
    for place, value in (((0, 2), np.inf), ((0, 1), np.nan), ((4, 1), np.inf)):
        scores[:] = 0
        scores[(batch - 1, *place)] = value
        assert eisner_heads(scores, np.full(batch, 4), single_root)[1].tolist() == [0] * (batch - 1) + [NOT_A_NUMBER]


@pytest.mark.parametrize("batch", [2, 20])
def test_diagonal_root_column_and_padding_are_never_read(batch):
    scores = np.random.default_rng(1).standard_normal((batch, 8, 8)).astype(np.float32)
    lengths = np.full(batch, 5)
    lengths[0] = 4
    for single_root in (True, False):
        heads = eisner_heads(scores, lengths, single_root)[0]
        spoiled = scores.copy()
        spoiled[:, range(8), range(8)] = np.nan
        spoiled[:, :, 0] = np.inf
        spoiled[:, 6:] = np.nan
        spoiled[:, :, 6:] = np.nan
        spoiled[0, 5:] = np.nan
        spoiled[0, :, 5:] = np.nan
        after, status = eisner_heads(spoiled, lengths, single_root)
        assert not status.any() and (after == heads).all()


def test_threads_and_order_change_nothing():
    random = np.random.default_rng(2)
    scores = np.round(random.standard_normal((150, 21, 21))).astype(np.float32)  # many ties
    lengths = random.integers(1, 21, 150)
    alone = eisner_heads(scores, lengths, True, 1)[0]
    assert (eisner_heads(scores, lengths, True, 3)[0] == alone).all()
    order = random.permutation(150)
    assert (eisner_heads(np.ascontiguousarray(scores[order]), lengths[order], True)[0] == alone[order]).all()
    one_by_one = [eisner_heads(scores[i : i + 1], lengths[i : i + 1], True)[0][0] for i in range(150)]
    assert (np.stack(one_by_one) == alone).all()
