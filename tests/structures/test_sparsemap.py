"""SparseMAP: optimality, the polytope, gradients, and agreement of the compiled tree loop with the generic one."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from parser_vae.errors import InfeasibleError
from parser_vae.structures.kernels.active_set import CONVERGED, REBUILT, SLOTS, advance_all, new_places, padded
from parser_vae.structures.projective import ProjectiveTrees
from parser_vae.structures.spanning import SpanningTrees
from parser_vae.structures.sparsemap import _search, sparsemap
from tests.structures.laws import object_scores
from tests.structures.test_laws import INSTANCES

# Every structure but the second solver of the same objects.
DISTINCT = [instance for instance in INSTANCES if instance.name != "pairwise-integer"]
over_all = pytest.mark.parametrize("instance", DISTINCT, ids=lambda instance: instance.name)
TREES = [ProjectiveTrees(), ProjectiveTrees(single_root=False), SpanningTrees(), SpanningTrees(single_root=False)]
over_trees = pytest.mark.parametrize("structure", TREES, ids=lambda s: f"{s.name}-{s.single_root}")


def gaussian(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def projection(objects, scores):
    """The mixture of ``objects [count, *shape]`` nearest to ``scores``, by non-negative least squares."""
    flat = objects.flatten(1).numpy()
    used = flat.max(0) > 0
    target = np.where(used, scores.flatten().numpy(), 0)
    heavy = 1e4  # a soft row that makes the weights sum to one
    weights, _ = nnls(
        np.vstack([flat.T, heavy * np.ones(len(flat))]), np.append(target, heavy), maxiter=100 * len(flat)
    )
    return torch.from_numpy((weights / weights.sum()) @ flat).view(scores.shape)


@over_all
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_mixture_is_optimal_in_the_polytope(instance, scale):
    scores = instance.scores(1, unread=0.0) * scale
    found = sparsemap(instance.structure, scores, instance.lengths)
    assert found.converged.all()
    assert (found.weights >= 0).all()
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(len(scores), dtype=torch.float64))
    mixed = (found.weights.view(*found.weights.shape, *[1] * (scores.dim() - 1)) * found.objects).sum(1)
    torch.testing.assert_close(found.marginals, mixed)
    for index, objects in enumerate(instance.all_objects):
        residual = scores[index] - found.marginals[index]
        values = object_scores(objects, residual)
        value = object_scores(found.objects[index], residual)[found.weights[index] > 0]
        assert values.max() <= value.min() + 1e-8, "an object is better than those in the mixture"
        known = {tuple(row) for row in objects.flatten(1).tolist()}
        assert {tuple(row) for row in found.objects[index][found.weights[index] > 0].flatten(1).tolist()} <= known
        torch.testing.assert_close(found.marginals[index], projection(objects, scores[index]), atol=2e-6, rtol=0)


@over_all
def test_gradients_of_marginals_and_weights(instance):
    scores = instance.scores(2, unread=0.0).requires_grad_()

    def marginals(values):
        return sparsemap(instance.structure, values, instance.lengths).marginals

    def weighted(values):
        found = sparsemap(instance.structure, values, instance.lengths)
        code = gaussian(*scores.shape[1:], seed=5)
        return ((found.objects * code).flatten(2).sum(-1) * found.weights).sum(-1)

    assert torch.autograd.gradcheck(marginals, scores, atol=1e-5)
    assert torch.autograd.gradcheck(weighted, scores, atol=1e-5)


@over_all
def test_large_scores_give_the_best_object(instance):
    scores = instance.scores(3, unread=0.0) * 1e5
    found = sparsemap(instance.structure, scores, instance.lengths)
    torch.testing.assert_close(found.marginals, instance.structure.argmax(scores, instance.lengths))
    assert found.converged.all()


@over_all
def test_float32_stays_near_float64(instance):
    scores = instance.scores(4, unread=0.0, dtype=torch.float32)
    narrow = sparsemap(instance.structure, scores, instance.lengths)
    wide = sparsemap(instance.structure, scores.double(), instance.lengths)
    assert narrow.marginals.dtype == torch.float32
    torch.testing.assert_close(narrow.marginals.double(), wide.marginals, atol=1e-5, rtol=0)


@over_trees
def test_compiled_and_generic_loops_agree(structure):
    scores = gaussian(6, 10, 10, seed=6)
    lengths = torch.tensor([9, 3, 1, 5, 9, 2])
    found = sparsemap(structure, scores, lengths)
    mixtures, mean = _search(structure, scores, lengths, 5000)
    torch.testing.assert_close(found.marginals, torch.from_numpy(mean).view(6, 10, 10), atol=1e-9, rtol=0)
    assert found.converged.all() and (mixtures[2][:, 3] == CONVERGED).all()


@over_trees
def test_more_sentences_than_are_in_work_at_once_and_more_trees_than_there_was_room_for(structure):
    scores = gaussian(40, 25, 25, seed=7, dtype=torch.float32) * 0.2
    lengths = torch.arange(40) % 24 + 1
    found = sparsemap(structure, scores, lengths)
    assert found.converged.all()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    shuffled = sparsemap(structure, scores[order], lengths[order])
    torch.testing.assert_close(shuffled.marginals, found.marginals[order], atol=1e-5, rtol=0)
    assert found.weights.shape[1] > 24 * 1.5
    word = (torch.arange(25) > 0) & (torch.arange(25) <= lengths[:, None])
    torch.testing.assert_close(found.marginals.sum(1), word.float(), atol=1e-5, rtol=0)


@over_trees
def test_one_word(structure):
    scores = gaussian(3, 2, 2)
    found = sparsemap(structure, scores)
    assert found.marginals[:, 0, 1].tolist() == [1, 1, 1] and found.converged.all()
    assert found.weights.tolist() == [[1.0]] * 3


def test_the_cap_stops_where_the_official_code_stops():
    scores = gaussian(8, 21, 21)
    found = sparsemap(SpanningTrees(single_root=False), scores, max_iter=10)
    assert not found.converged.any()
    assert found.iterations.tolist() == [10] * 8
    assert found.weights.shape[1] <= 6
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(8, dtype=torch.float64))
    once = sparsemap(SpanningTrees(single_root=False), scores, max_iter=1)
    torch.testing.assert_close(once.marginals, SpanningTrees(single_root=False).argmax(scores))


@over_trees
def test_infeasible_sentences_are_named(structure):
    scores = gaussian(4, 5, 5)
    scores[3, :, 2] = -torch.inf
    with pytest.raises(InfeasibleError, match=r"\b3\b"):
        sparsemap(structure, scores)


@over_trees
def test_forbidden_arcs_have_no_weight(structure):
    scores = gaussian(2, 6, 6)
    scores[:, 1, 2] = scores[:, 3, 4] = -torch.inf
    found = sparsemap(structure, scores)
    assert found.converged.all() and found.marginals.isfinite().all()
    assert (found.marginals[:, 1, 2] == 0).all() and (found.marginals[:, 3, 4] == 0).all()


def test_a_drifted_inverse_is_rebuilt():
    scores = np.array([[0.9, 0.7, 0.5]])
    rest = scores.copy()
    shape = padded(3, 3, 3)
    floats, ints, counters = new_places(1, shape)
    counters[0, SLOTS] = 3

    def take_in(part):
        used = np.arange(3)[None] == part
        advance_all(floats, ints, counters, shape, np.zeros(1, int), used, scores, rest.reshape(-1), 100, 1e-10)

    for part in range(3):
        take_in(part)
    floats[: 8 * 8 + 8] *= 1.001  # the inverse, and its product with the scores
    take_in(0)
    assert counters[0, REBUILT]
    np.testing.assert_allclose(rest, (scores.sum() - 1) / 3, atol=1e-12)
