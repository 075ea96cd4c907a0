"""What the generic laws do not say of categorical, binary and k-subset structures."""

import pytest
import torch

from parser_vae.errors import IncompatibleError, InfeasibleError, InputError, ParserVaeError
from parser_vae.structures import binary_solvers
from parser_vae.structures.binary import Binary, PairwiseBinary, all_bits, object_scores, with_products
from parser_vae.structures.categorical import Categorical, draw_index
from parser_vae.structures.subset import Subset
from tests import oracles


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairwise_scores(batch, bits, kind, seed=0):
    scores = gaussian(batch, bits * (bits + 1) // 2, seed=seed)
    if kind == "supermodular":
        scores[:, bits:] = scores[:, bits:].abs()
    if kind == "ties":
        scores = scores.round()
    if kind == "negative":
        scores = -scores.abs()
    if kind == "zero":
        scores = scores * 0
    if kind == "sparse":
        scores[scores.abs() < 0.8] = 0
    if kind == "huge":
        scores = scores * 10.0 ** torch.randint(-8, 9, scores.shape, generator=torch.Generator().manual_seed(seed))
    if kind == "forbidden":
        scores[scores < -0.8] = -torch.inf
    return scores


KINDS = ["gauss", "supermodular", "ties", "negative", "zero", "sparse", "huge", "forbidden"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [1, 2, 7, 12])
def test_mixed_integer_finds_what_exhaustive_search_finds(bits, kind):
    scores = pairwise_scores(3, bits, kind, seed=bits)
    exact, integer = PairwiseBinary(), PairwiseBinary("mixed_integer")
    best = exact.score(scores, exact.argmax(scores))
    largest = scores[scores.isfinite()].abs().max().item()
    torch.testing.assert_close(integer.score(scores, integer.argmax(scores)), best, rtol=0, atol=1e-6 * largest)


@pytest.mark.parametrize("kind", ["supermodular", "ties", "zero", "sparse", "huge", "forbidden"])
@pytest.mark.parametrize("bits", [1, 2, 7, 13])
def test_max_flow_finds_what_exhaustive_search_finds(bits, kind):
    scores = pairwise_scores(5, bits, kind, seed=bits)
    scores[:, bits:] = scores[:, bits:].abs().nan_to_num(posinf=0.0)
    exact, flow = PairwiseBinary(), PairwiseBinary("max_flow")
    best = exact.score(scores, exact.argmax(scores))
    torch.testing.assert_close(flow.score(scores, flow.argmax(scores)), best, rtol=1e-9, atol=1e-12)


def test_max_flow_agrees_with_mixed_integer_beyond_exhaustive_sizes():
    scores = pairwise_scores(2, 30, "gauss") - 1.5
    scores[:, 30:] = scores[:, 30:].clamp(min=0)
    scores[:, :30] *= 2
    flow, integer = PairwiseBinary("max_flow"), PairwiseBinary("mixed_integer")
    found = flow.argmax(scores)
    assert 0 < found[:, :30].mean() < 1
    torch.testing.assert_close(flow.score(scores, found), integer.score(scores, integer.argmax(scores)))


def test_max_flow_refuses_a_negative_pair():
    scores = pairwise_scores(4, 3, "supermodular")
    scores[2, 4] = -1e-9
    with pytest.raises(InputError, match="item 2 of the batch: max_flow needs pair weights >= 0"):
        PairwiseBinary("max_flow").argmax(scores)


def test_an_unproven_answer_is_an_error(monkeypatch):
    monkeypatch.setattr(binary_solvers, "best_bits", lambda unary, weights: ((unary < 0).astype(int), 1.0))
    with pytest.raises(ParserVaeError, match=r"item 0 of the batch: the solver found .* choose another solver"):
        PairwiseBinary("max_flow").argmax(pairwise_scores(1, 4, "supermodular"))


@pytest.mark.parametrize("kind", KINDS)
def test_coordinate_search_ends_where_no_single_flip_gains(kind):
    bits = 9
    scores = pairwise_scores(20, bits, kind)
    structure = PairwiseBinary("coordinate")
    found = structure.argmax(scores)
    value = structure.score(scores, found)
    assert value.isfinite().all()
    for bit in range(bits):
        flipped = found[:, :bits].clone()
        flipped[:, bit] = 1 - flipped[:, bit]
        assert (structure.score(scores, with_products(flipped)) <= value + 1e-9).all()
    exact = PairwiseBinary()
    assert (value <= exact.score(scores, exact.argmax(scores)) + 1e-9).all()


def test_object_scores_equal_the_product_with_all_objects():
    scores = gaussian(3, 55)
    objects = PairwiseBinary().enumerate((55,))
    torch.testing.assert_close(object_scores(scores[:, :10], scores[:, 10:]), scores @ objects.T)
    assert torch.equal(objects[:, :10], all_bits(10))


def test_exhaustive_search_states_its_limit():
    with pytest.raises(InputError, match="19 bits have 2\\^19 objects, and exhaustive search stops at 18"):
        PairwiseBinary().argmax(torch.zeros(1, 190))


def test_a_wrong_number_of_scores_is_refused():
    with pytest.raises(IncompatibleError, match="11 scores cannot be n bits and n\\(n-1\\)/2 pairs; 4 bits need 10"):
        PairwiseBinary().argmax(torch.zeros(1, 11))


def test_an_unknown_solver_is_refused():
    with pytest.raises(InputError, match="unknown solver 'simplex'; choose one of exhaustive, mixed_integer"):
        PairwiseBinary("simplex")


def test_pairwise_without_pairs_is_independent_bits():
    unary = gaussian(4, 6)
    scores = torch.cat([unary, torch.zeros(4, 15, dtype=torch.float64)], -1)
    torch.testing.assert_close(PairwiseBinary().marginals(scores)[:, :6], Binary().marginals(unary))
    torch.testing.assert_close(PairwiseBinary().log_partition(scores), Binary().log_partition(unary))


def test_binary_log_partition_keeps_all_digits_in_float64():
    scores = torch.tensor([[25.0]], dtype=torch.float64)
    assert Binary().log_partition(scores).item() - 25.0 == pytest.approx(torch.tensor(-25.0).exp().item(), rel=1e-4)


def test_drawn_indices_never_have_zero_mass():
    scores = torch.tensor([[-torch.inf, 0.0, -torch.inf], [0.0, -800.0, -torch.inf]])
    index = draw_index(scores, torch.Generator().manual_seed(0), 5000)
    assert index.shape == (5000, 2)
    assert index.unique(dim=0).tolist() == [[1, 0]]


def test_categorical_names_the_item_without_a_class():
    with pytest.raises(InfeasibleError, match="item 1 of the batch: its -inf scores forbid every class"):
        Categorical().sample(torch.tensor([[0.0], [-torch.inf]]), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_subset_sums_are_twice_differentiable_at_any_scale(scale):
    scores = (gaussian(2, 6) * scale).requires_grad_()
    assert torch.autograd.gradcheck(Subset(3).log_partition, scores)
    assert torch.autograd.gradgradcheck(Subset(3).log_partition, scores)


def test_subset_second_derivatives_survive_forbidden_parts():
    scores = gaussian(2, 7).requires_grad_()
    masked = scores.masked_fill(torch.tensor([0, 0, 1, 0, 1, 0, 0], dtype=torch.bool), -torch.inf)
    marginals = Subset(3).marginals(masked)
    (marginals**2).sum().backward()
    assert scores.grad.isfinite().all() and scores.grad.abs().sum() > 0


def test_subset_of_many_parts_does_not_overflow():
    scores = gaussian(2, 400).mul(50).float()
    marginals = Subset(100).marginals(scores)
    assert marginals.isfinite().all()
    torch.testing.assert_close(marginals.sum(-1), torch.full((2,), 100.0), rtol=1e-3, atol=0)


def test_subset_oracle_counts():
    assert len(oracles.subset_objects(6, 6, 3)) == 20
