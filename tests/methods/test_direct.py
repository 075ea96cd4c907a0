"""Direct optimisation: its bias, its variance, its sign, and what stands for the loss in the second search."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from parser_vae.errors import IncompatibleError
from parser_vae.methods import Direct
from parser_vae.methods.direct import automatic, flips
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

EMPTY = torch.zeros(0)


def estimates(problem: ToyProblem, method: Direct[Tensor], count: int) -> Tensor:
    """Return ``count`` estimates of the gradient in the scores of the first item ``[count, parts]``."""
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(count):
        problem.module.zero_grad()
        method.backward(problem, EMPTY, generator)
        assert problem.module.scores.grad is not None
        found.append(problem.module.scores.grad.clone())
    return torch.stack(found)


def repeated(copies: int) -> tuple[ToyProblem, Tensor]:
    """Return a categorical problem of many equal items, and the exact gradient of each."""
    problem = ToyProblem(Categorical(), (5,), batch=1, seed=1, freeze_decoder=True)
    problem.exact_objective().backward()
    exact = problem.module.scores.grad
    assert exact is not None
    many = ToyProblem(Categorical(), (5,), batch=copies, seed=1, freeze_decoder=True)
    many.module.scores.data[:] = problem.module.scores.data
    many.module.decoder.data[:] = problem.module.decoder.data
    many.targets[:] = problem.targets
    return many, exact[0]


@pytest.mark.parametrize("difference", ["towards", "away", "symmetric"])
def test_bias_falls_and_variance_grows_as_epsilon_falls(difference: str) -> None:
    copies = 40_000
    many, exact = repeated(copies)
    bias, variance = [], []
    for epsilon in (1.0, 0.3, 0.1):
        draws = copies * estimates(many, Direct(epsilon=epsilon, difference=difference), 1)[0]
        bias.append(float((draws.mean(0) - exact).norm()))
        variance.append(float(draws.var(0).sum()))
    noise = math.sqrt(variance[2] / copies)
    assert bias[2] < 4 * noise
    if difference != "symmetric":  # whose bias is hidden by the noise already at 0.3
        assert bias[0] > bias[1] > bias[2] - noise
    assert 1.8 < variance[1] / variance[0] < 6 and 2 < variance[2] / variance[1] < 5


def test_symmetric_differences_have_less_bias() -> None:
    copies = 100_000
    many, exact = repeated(copies)
    bias = {
        difference: float(
            (copies * estimates(many, Direct(epsilon=1.0, difference=difference), 1)[0]).mean(0).sub(exact).norm()
        )
        for difference in ("towards", "away", "symmetric")
    }
    assert bias["symmetric"] < 0.5 * min(bias["towards"], bias["away"])


def test_the_sign_descends() -> None:
    problem = ToyProblem(Categorical(), (5,), batch=1, seed=1)
    mean = estimates(problem, Direct(epsilon=0.5), 400).mean(0)
    problem.module.zero_grad()
    problem.exact_objective().backward()
    assert float((mean * problem.module.scores.grad).sum()) > 0


ADDITIVE: list[tuple[Structure, tuple[int, ...], str]] = [
    (Categorical(), (5,), "linear"),
    (Binary(), (4,), "linear"),
    (Binary(), (4,), "coordinate"),
    (Subset(2), (5,), "linear"),
    (ProjectiveTrees(), (4, 4), "linear"),
    (SpanningTrees(single_root=False), (4, 4), "linear"),
    (UndirectedTrees(), (6,), "linear"),
    (PairwiseBinary(), (6,), "linear"),
]


@pytest.mark.parametrize(("structure", "shape", "loss"), ADDITIVE, ids=lambda value: getattr(value, "name", str(value)))
def test_approximations_are_exact_for_additive_losses(structure: Structure, shape: tuple[int, ...], loss: str) -> None:
    problem = ToyProblem(structure, shape, batch=20, curvature=0.0)
    exact = estimates(problem, Direct(epsilon=2.0, loss="enumerate"), 3)
    assert float(exact.abs().max()) > 0
    torch.testing.assert_close(estimates(problem, Direct(epsilon=2.0, loss=loss), 3), exact)


def test_curved_losses_are_told_apart() -> None:
    problem = ToyProblem(Binary(), (4,), batch=50, curvature=2.0)
    found = {loss: estimates(problem, Direct(loss=loss), 1) for loss in ("enumerate", "coordinate", "linear")}
    for first, second in itertools.combinations(found.values(), 2):
        assert not torch.equal(first, second)


def test_bits_are_flipped_one_by_one_with_their_products() -> None:
    latent = torch.tensor([[1.0, 0.0, 1.0]])
    assert [flip[0].tolist() for flip in flips(Binary(), latent)] == [[0, 0, 1], [1, 1, 1], [1, 0, 0]]
    pairwise = PairwiseBinary().enumerate((6,))
    chosen = pairwise[(pairwise[:, :3] == latent).all(1)]
    for bit, flip in enumerate(flips(PairwiseBinary(), chosen)):
        assert flip[0, bit] != chosen[0, bit] and (flip[0, :3] != chosen[0, :3]).sum() == 1
        assert bool((pairwise == flip).all(1).any())


def test_evaluations_are_counted_and_epsilon_falls() -> None:
    bits, classes = ToyProblem(Binary(), (4,)), ToyProblem(Categorical(), (5,))
    trees = ToyProblem(SpanningTrees(), (4, 4))
    method: Direct[Tensor] = Direct(epsilon=1.0, rate=0.5, every=1, floor=0.2)
    found = [method.backward(problem, EMPTY, torch.Generator()) for problem in (bits, classes, trees, bits)]
    assert [estimate.evaluations for estimate in found] == [2 * 5, 2 * 6, 2 * 1, 2 * 5]
    assert [estimate.metrics["epsilon"] for estimate in found] == pytest.approx(
        [1, math.exp(-0.5), math.exp(-1), 0.2231], abs=1e-4
    )
    assert [automatic(problem.structure) for problem in (bits, classes, trees)] == ["coordinate", "enumerate", "linear"]


def test_the_decoder_gets_its_gradient_at_the_best_object_and_the_divergence_its_own() -> None:
    for loss in ("linear", "enumerate"):
        problem = ToyProblem(Categorical(), (5,), divergence_weight=0.4)
        seen: list[Tensor] = []
        original = problem.reconstruction

        def watched(batch: Tensor, latent: Tensor, seen=seen, original=original) -> Tensor:
            seen.append(latent.detach())
            return original(batch, latent)

        problem.reconstruction = watched  # type: ignore[method-assign]
        estimate = Direct(loss=loss, epsilon=1e-9).backward(problem, EMPTY, torch.Generator(), weight=2.0)
        found = problem.gradients()
        problem.module.zero_grad()
        divergence = problem.divergence(EMPTY, problem.scores(EMPTY))
        assert divergence is not None
        total = (original(EMPTY, seen[0]) + divergence).mean()
        (2.0 * total).backward()
        assert estimate.objective == pytest.approx(float(total.detach()))
        for name, gradient in problem.gradients().items():  # so small an epsilon never moves the second search
            torch.testing.assert_close(found[name], gradient)


@pytest.mark.parametrize(
    ("structure", "shape", "settings", "message"),
    [
        (
            SpanningTrees(),
            (4, 4),
            {"loss": "coordinate"},
            "direct.loss = coordinate flips one bit at a time, and the structure 'spanning' is not made of bits; "
            "choose linear, or enumerate where there are few objects",
        ),
        (
            Categorical(),
            (5,),
            {"loss": "enumerate", "max_objects": 4},
            "an item of the batch has about 10^0.7 objects (categorical), too many to judge them all "
            "(the limit is 4); choose a method that searches or samples",
        ),
    ],
)
def test_what_cannot_serve_is_refused(structure, shape, settings, message: str) -> None:
    problem = ToyProblem(structure, shape)
    method: Direct[Tensor] = Direct(**settings)
    with pytest.raises(IncompatibleError) as raised:
        method.check(problem)
        method.backward(problem, EMPTY, torch.Generator())
    assert str(raised.value) == message
