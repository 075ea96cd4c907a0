"""Entropy minimisation: its values against enumeration, and its gradient against theirs."""

from __future__ import annotations

import pytest
import torch

from parser_vae.methods import Entropy
from parser_vae.structures import Binary, Categorical, ProjectiveTrees, SpanningTrees, Structure, Subset
from tests.methods.toy import ToyProblem

EMPTY = torch.zeros(0)
CASES = [
    (Categorical(), (5,), None),
    (Binary(), (4,), None),
    (Subset(2), (4,), None),
    (ProjectiveTrees(single_root=False), (4, 4), (3, 2)),
    (SpanningTrees(), (5, 5), (4, 1)),
]


@pytest.mark.parametrize(("structure", "shape", "lengths"), CASES, ids=lambda value: getattr(value, "name", None))
@pytest.mark.parametrize("of", ["object", "parts"])
def test_it_is_the_gradient_of_the_enumerated_entropy(
    of: str, structure: Structure, shape: tuple[int, ...], lengths: tuple[int, ...] | None
) -> None:
    problem = ToyProblem(structure, shape, lengths=lengths, divergence_weight=0.3)
    total = torch.zeros((), dtype=torch.float64)
    for item, scores in enumerate(problem.scores(EMPTY)):
        objects = problem.objects(item)
        probability = torch.stack([(scores * z).sum() for z in objects]).softmax(0)
        if of == "object":
            entropy = torch.special.entr(probability).sum()
        else:
            marginals = (probability @ objects.flatten(1)).view(shape)
            used = marginals[(objects > 0).any(0)]
            entropy = torch.special.entr(used).sum()
            if structure.name in ("binary", "subset"):
                entropy = entropy + torch.special.entr(1 - used).sum()
        total = total + entropy / (1 if lengths is None else lengths[item])
    divergence = problem.divergence(EMPTY, problem.scores(EMPTY))
    assert divergence is not None
    exact = total / 2 + divergence.mean()
    exact.backward()
    expected = problem.module.scores.grad
    problem.module.zero_grad()
    estimate = Entropy(of=of).backward(problem, EMPTY, torch.Generator())
    assert estimate.objective == pytest.approx(float(exact.detach()))
    assert estimate.evaluations == 0
    torch.testing.assert_close(problem.module.scores.grad, expected, rtol=1e-6, atol=1e-8)
    assert problem.module.decoder.grad is None


def test_certain_scores_have_no_entropy_and_no_slope() -> None:
    problem = ToyProblem(SpanningTrees(), (4, 4))
    problem.module.scores.data *= 1e4
    for of in ("object", "parts"):
        problem.module.zero_grad()
        assert Entropy(of=of).backward(problem, EMPTY, torch.Generator()).objective == pytest.approx(0.0, abs=1e-9)
        gradient = problem.module.scores.grad
        assert gradient is not None and float(gradient.abs().max()) < 1e-9
