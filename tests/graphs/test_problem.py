"""The graph problem's terms, and the methods' gradients on it, against enumeration."""

from __future__ import annotations

import math

import pytest
import scipy.integrate
import torch
from torch import Tensor

from parser_vae.graphs.model import GraphModel
from parser_vae.graphs.problem import VARIANCE, GraphProblem, structure_of
from parser_vae.methods import Enumeration, NaturalEvolution, Relaxed, ScoreFunction
from parser_vae.methods.baselines import BaselineKind
from parser_vae.methods.population import PopulationScores
from parser_vae.structures.noise import gumbel
from tests.graphs.conftest import small_model


@pytest.fixture(params=["tree", "edges"])
def problem(model: GraphModel, request: pytest.FixtureRequest) -> GraphProblem:
    return GraphProblem(model.eval(), structure_of(request.param, 4), every=2)


def gradients(problem: GraphProblem) -> list[Tensor]:
    return [item.parameter.grad for item in problem.touched(torch.empty(0)) if item.parameter.grad is not None]


def test_units(model: GraphModel, positions: Tensor) -> None:
    structure = structure_of("tree", 4)
    point = GraphProblem(model, structure, 3)
    sample = GraphProblem(model, structure, 3, unit="sample")
    scores = point.scores(positions)
    edges = structure.argmax(scores)
    density = torch.distributions.Normal(model.decoder(positions, edges, 3), math.sqrt(VARIANCE))
    expected = -density.log_prob(positions[:, 1:]).sum((1, 2, 3))
    torch.testing.assert_close(sample.reconstruction(positions, edges), expected)
    constant = 0.5 * math.log(2 * math.pi * VARIANCE) * 6 * 4 * 2
    torch.testing.assert_close(point.reconstruction(positions, edges), (expected - constant) / 4)
    one, other = point.divergence(positions, scores), sample.divergence(positions, scores)
    assert one is not None and other is not None
    torch.testing.assert_close(one, 2 * other / 4)
    assert GraphProblem(model, structure, 3, divergence="none").divergence(positions, scores) is None


def test_the_gumbel_divergence_is_the_integral() -> None:
    def integrand(value: float, location: float) -> float:
        log = -(value - location) - math.exp(-(value - location))
        return math.exp(log) * (log + value + math.exp(-value))

    locations = [-1.5, 0.0, 2.0]
    expected = sum(scipy.integrate.quad(integrand, -8, 40, args=(location,))[0] for location in locations)
    problem = GraphProblem(small_model(), structure_of("tree", 3), 1, unit="sample")
    found = problem.divergence(torch.empty(1, 2, 3, 2), torch.tensor([locations], dtype=torch.float64))
    assert found is not None
    assert float(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("latent", ["tree", "edges"])
def test_the_exact_divergence_is_the_enumerated_one(model: GraphModel, positions: Tensor, latent: str) -> None:
    structure = structure_of(latent, 4)  # type: ignore[arg-type]
    problem = GraphProblem(model, structure, 1, unit="sample", divergence="exact_gibbs")
    scores = problem.scores(positions)
    log = (scores @ structure.enumerate((6,)).T).log_softmax(1)
    found = problem.divergence(positions, scores)
    torch.testing.assert_close(found, (log.exp() * (log + math.log(log.shape[1]))).sum(1))


@pytest.mark.parametrize("latent", ["tree", "edges"])
@pytest.mark.parametrize("points", [4, 5])
def test_marginals_are_the_enumerated_ones(latent: str, points: int) -> None:
    structure = structure_of(latent, points)  # type: ignore[arg-type]
    edges = points * (points - 1) // 2
    scores = 2 * torch.randn(3, edges, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    objects = structure.enumerate((edges,))
    expected = (scores @ objects.T).softmax(1) @ objects
    torch.testing.assert_close(structure.marginals(scores), expected)
    torch.testing.assert_close(expected.sum(1), torch.full((3,), points - 1.0, dtype=torch.float64))


@pytest.mark.parametrize("latent", ["tree", "edges"])
def test_relaxed_samples_tend_to_the_argmax(latent: str) -> None:
    structure = structure_of(latent, 5)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    noisy = gumbel(torch.empty(50, 10, dtype=torch.float64), generator)
    best = structure.argmax(noisy)
    distances = [float((structure.marginals(noisy / t) - best).abs().mean()) for t in (1.0, 0.1, 0.01, 1e-4)]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.2
    assert distances[-1] < 0.001


def test_population_functions_agree_with_the_single_ones(problem: GraphProblem, positions: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = problem.scores(positions)
    latents = [problem.structure.argmax(scores + gumbel(scores, generator)) for _ in range(3)]
    together = problem.population_reconstruction(positions, latents)
    for latent, losses in zip(latents, together, strict=True):
        torch.testing.assert_close(losses, problem.reconstruction(positions, latent))
    assert problem.features(positions).shape == (5, 12 * 6)


class OneByOne:
    """A problem without its population functions."""

    def __init__(self, problem: GraphProblem) -> None:
        self.problem = problem

    def __getattr__(self, name: str) -> object:
        if name in ("population_scores", "population_losses"):
            raise AttributeError(name)
        return getattr(self.problem, name)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("frozen", ["", "encoder.", "decoder."])
def test_nes_gets_the_same_from_a_population_and_from_its_members(
    problem: GraphProblem, positions: Tensor, rank: int, frozen: str
) -> None:
    problem.model.train()
    for name, parameter in problem.model.named_parameters():
        parameter.requires_grad = not frozen or not name.startswith(frozen)
    assert isinstance(problem, PopulationScores) and not isinstance(OneByOne(problem), PopulationScores)
    found = []
    for one in (problem, OneByOne(problem)):
        problem.model.zero_grad()
        nes = NaturalEvolution[Tensor](population=10, sigma=0.05, shaping="raw", rank=rank)
        nes.backward(one, positions, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
        found.append([gradient.clone() for gradient in gradients(problem)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)
    assert any(gradient.abs().max() > 0 for gradient in found[0])


def test_relaxed_gradients_are_those_of_plain_torch(problem: GraphProblem, positions: Tensor) -> None:
    Relaxed[Tensor](temperature=0.5).backward(problem, positions, torch.Generator().manual_seed(3))
    found = [gradient.clone() for gradient in gradients(problem)]
    problem.model.zero_grad()
    scores = problem.model.encoder(positions)
    noisy = scores + gumbel(scores, torch.Generator().manual_seed(3))
    predicted = problem.model.decoder(positions, problem.structure.marginals(noisy / 0.5), 2)
    loss = (predicted - positions[:, 1:]).square().sum((1, 2, 3)) / (2 * VARIANCE) / 4
    ((loss + 2 * (scores + (-scores).exp() - 1).sum(1) / 4).mean()).backward()
    for one, other in zip(found, gradients(problem), strict=True):
        torch.testing.assert_close(one, other)


def test_enumeration_is_the_gradient_of_the_expected_loss(problem: GraphProblem, positions: Tensor) -> None:
    Enumeration[Tensor]().backward(problem, positions, torch.Generator().manual_seed(3))
    found = [gradient.clone() for gradient in gradients(problem)]
    problem.model.zero_grad()
    scores = problem.scores(positions)
    objects = problem.structure.enumerate((6,))
    losses = torch.stack([problem.reconstruction(positions, item.expand(5, -1)) for item in objects], 1)
    divergence = problem.divergence(positions, scores)
    assert divergence is not None
    (((scores @ objects.T).softmax(1) * losses).sum(1) + divergence).mean().backward()
    for one, other in zip(found, gradients(problem), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("baseline", ["leave_one_out", "learned"])
def test_the_score_function_agrees_with_enumeration(
    problem: GraphProblem, positions: Tensor, baseline: BaselineKind
) -> None:
    method = ScoreFunction[Tensor](distribution="gibbs", samples=2, baseline=baseline, hidden=4)
    generator = torch.Generator().manual_seed(3)
    many = positions[:1].repeat(100, 1, 1, 1)
    method.backward(problem, many, generator)  # a running mean knows nothing before
    estimates = []
    for _ in range(40):
        problem.model.zero_grad()
        method.backward(problem, many, generator)
        estimates.append(torch.cat([gradient.flatten() for gradient in gradients(problem)]))
    problem.model.zero_grad()
    Enumeration[Tensor]().backward(problem, positions[:1], generator)
    exact = torch.cat([gradient.flatten() for gradient in gradients(problem)])
    estimated = torch.stack(estimates)
    error = estimated.std(0) / len(estimates) ** 0.5
    close = (estimated.mean(0) - exact).abs() <= 4.5 * error + 1e-9 * exact.abs().max()
    assert close.all()
    # and not because everything would have been close enough
    assert (error < exact.abs() / 5).double().mean() > 0.5
