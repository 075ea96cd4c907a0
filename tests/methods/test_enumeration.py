"""Enumeration is the gradient of the enumerated objective, for encoder and decoder."""

from __future__ import annotations

import pytest
import torch

from parser_vae.errors import IncompatibleError, InfeasibleError
from parser_vae.methods import Enumeration
from parser_vae.methods import enumeration as module
from parser_vae.methods.enumeration import AllObjects
from parser_vae.structures import (
    Binary,
    Categorical,
    PairwiseBinary,
    ProjectiveTrees,
    SpanningTrees,
    Structure,
    Subset,
    UndirectedTrees,
)
from tests.methods.toy import ToyProblem

CASES = {
    "categorical": (Categorical(), (50,), None),
    "categorical of mixed sizes": (Categorical(), (5,), (5, 2, 3)),
    "bits": (Binary(), (6,), None),
    "pairwise": (PairwiseBinary(), (6,), (3, 1, 2)),
    "subset": (Subset(2), (5,), (5, 3, 2)),
    "projective": (ProjectiveTrees(single_root=False), (5, 5), (4, 1, 3)),
    "spanning": (SpanningTrees(), (5, 5), (3, 4, 2)),
    "undirected": (UndirectedTrees(), (6,), (4, 2, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_the_enumerated_objective(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVALUATIONS_AT_ONCE", 20)  # several chunks
    structure, shape, lengths = CASES[case]
    problem = build(structure, shape, lengths)
    exact = problem.exact_objective()
    exact.backward()
    expected = problem.gradients()
    problem.module.zero_grad()
    estimate = Enumeration().backward(problem, torch.zeros(3), torch.Generator(), weight=1.0)
    assert estimate.objective == pytest.approx(float(exact.detach()), abs=1e-10)
    assert estimate.evaluations == 3 * max(len(problem.objects(item)) for item in range(3))
    for name, gradient in problem.gradients().items():
        assert gradient is not None and expected[name] is not None
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-10)
    Enumeration().backward(problem, torch.zeros(3), torch.Generator(), weight=-1.0)
    for gradient in problem.gradients().values():
        assert gradient is not None and float(gradient.abs().max()) < 1e-12


def test_fifteen_bits_are_enumerated() -> None:
    problem = build(Binary(), (15,), None)
    estimate = Enumeration().backward(problem, torch.zeros(3), torch.Generator())
    assert estimate.evaluations == 3 * 2**15


def test_forbidden_parts_are_never_used_and_forbidding_all_is_an_error() -> None:
    scores = torch.tensor([[0.0, -torch.inf, 1.0], [0.5, 0.2, 0.0]], dtype=torch.float64)
    objects = AllObjects.of(Categorical(), scores, None, 10)
    expected = scores.log_softmax(1).T
    torch.testing.assert_close(objects.scores(scores).log_softmax(0), expected)
    with pytest.raises(InfeasibleError, match=r"item 1 .*every object"):
        objects.scores(torch.tensor([[0.0, 0.0, 0.0], [-torch.inf] * 3], dtype=torch.float64))


def test_too_many_objects_are_refused_before_they_are_listed() -> None:
    problem = build(SpanningTrees(single_root=False), (31, 31), None)
    with pytest.raises(IncompatibleError) as raised:
        Enumeration().backward(problem, torch.zeros(3), torch.Generator())
    assert str(raised.value) == (
        "an item of the batch has about 10^43.2 objects (spanning), too many to judge them all "
        "(the limit is 65536); choose a method that searches or samples"
    )


def build(structure: Structure, shape: tuple[int, ...], lengths: tuple[int, ...] | None) -> ToyProblem:
    return ToyProblem(structure, shape, batch=3, lengths=lengths, divergence_weight=0.3)
