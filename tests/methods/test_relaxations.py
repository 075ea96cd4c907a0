"""Methods that differentiate through something softer than an argmax: what they tend to, and what they estimate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from parser_vae.errors import ConfigError, IncompatibleError
from parser_vae.methods import (
    DifferentiablePerturbAndParse,
    ImplicitMLE,
    Method,
    PerturbedOptimiser,
    Relaxed,
    SparseMAP,
)
from parser_vae.methods.annealing import Annealing, Schedule
from parser_vae.structures import Categorical, ProjectiveTrees, SpanningTrees, Structure, Subset, gumbel
from tests.methods.toy import ToyProblem

EMPTY = torch.zeros(0)
TREES = {"structure": ProjectiveTrees(single_root=False), "shape": (4, 4), "lengths": (3, 2)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen(method: Method[Tensor], problem: ToyProblem, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> Tensor:
    """Return the latent that the method shows to the reconstruction."""
    latents: list[Tensor] = []
    original = problem.reconstruction

    def watched(batch: Tensor, latent: Tensor) -> Tensor:
        latents.append(latent.detach())
        return original(batch, latent)

    monkeypatch.setattr(problem, "reconstruction", watched)
    method.backward(problem, EMPTY, seeded(seed))
    return latents[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda t: DifferentiablePerturbAndParse(temperature=t),
        lambda t: DifferentiablePerturbAndParse(temperature=t, relaxation="marginals"),
        lambda t: SparseMAP(temperature=t),
        lambda t: Relaxed(temperature=t),
    ],
    ids=["dpp", "dpp-marginals", "sparsemap", "relaxed"],
)
def test_as_the_temperature_falls_the_latent_becomes_the_best_tree(make, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = ToyProblem(**TREES)
    best = problem.structure.argmax(
        problem.scores(EMPTY).detach() + gumbel(problem.scores(EMPTY), seeded()), problem.sizes
    )
    distances = [float((seen(make(t), problem, monkeypatch) - best).abs().max()) for t in (10.0, 1.0, 1e-3)]
    assert distances[0] > 0.1
    assert distances[2] < 1e-9


@pytest.mark.parametrize("kind", [DifferentiablePerturbAndParse, Relaxed])
def test_hard_modes_show_the_best_tree_and_pass_a_gradient(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = ToyProblem(**TREES)
    best = problem.structure.argmax(
        problem.scores(EMPTY).detach() + gumbel(problem.scores(EMPTY), seeded()), problem.sizes
    )
    for mode in ("hard_forward", "straight_through"):
        problem.module.zero_grad()
        torch.testing.assert_close(seen(kind(mode=mode), problem, monkeypatch), best, rtol=0, atol=1e-12)
        gradient = problem.module.scores.grad
        assert gradient is not None and float(gradient.abs().max()) > 0
        readable = problem.structure.readable(problem.module.scores.detach(), problem.sizes)
        assert float(gradient[~readable].abs().max()) == 0


def test_straight_through_passes_the_slope_as_it_is() -> None:
    problem = ToyProblem(Categorical(), (4,), freeze_decoder=True)
    DifferentiablePerturbAndParse(mode="straight_through", noise="none", temperature=2.0).backward(
        problem, EMPTY, seeded()
    )
    best = problem.structure.argmax(problem.module.scores.detach()).requires_grad_()
    (slope,) = torch.autograd.grad(problem.reconstruction(EMPTY, best).mean(), best)
    torch.testing.assert_close(problem.module.scores.grad, slope / 2.0)


def test_gumbel_softmax_is_the_softmax_of_perturbed_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = ToyProblem(Categorical(), (5,))
    noisy = problem.scores(EMPTY).detach() + gumbel(problem.scores(EMPTY), seeded())
    expected = (noisy / 0.7).softmax(-1)
    torch.testing.assert_close(seen(Relaxed(temperature=0.7), problem, monkeypatch), expected)


def test_without_noise_the_gradient_is_that_of_the_reconstruction_at_the_marginals() -> None:
    problem = ToyProblem(**TREES, divergence_weight=0.2)
    scores = problem.scores(EMPTY)
    latent = problem.structure.marginals(scores / 0.5, problem.sizes)
    divergence = problem.divergence(EMPTY, scores)
    assert divergence is not None
    (problem.reconstruction(EMPTY, latent) + divergence).mean().backward()
    expected = problem.gradients()
    problem.module.zero_grad()
    Relaxed(temperature=0.5, noise="none").backward(problem, EMPTY, seeded(), weight=3.0)
    for name, gradient in problem.gradients().items():
        torch.testing.assert_close(gradient, 3 * expected[name])


def test_sparsemap_says_how_many_items_converged() -> None:
    torch.manual_seed(0)
    problem = ToyProblem(SpanningTrees(single_root=False), (9, 9), batch=4)
    full = SparseMAP(max_iter=1000).backward(problem, EMPTY, seeded()).metrics
    cut = SparseMAP(max_iter=3).backward(problem, EMPTY, seeded()).metrics
    assert full["converged"] == 1.0 and full["support"] > 1
    assert cut["converged"] < 1.0 and cut["support"] < full["support"]


@pytest.mark.parametrize("density", ["gumbel", "normal"])
@pytest.mark.parametrize(("structure", "shape"), [(Categorical(), (4,)), (Subset(2), (4,))])
def test_perturbed_optimisers_are_unbiased_for_a_linear_loss(
    density: str, structure: Structure, shape: tuple[int, ...]
) -> None:
    # with a linear loss the smoothed objective is E loss(argmax), whose gradient finite differences give
    sigma, step, draws = 0.8, 0.2, 100_000
    problem = ToyProblem(structure, shape, batch=1, curvature=0.0)

    def mean_loss(scores: Tensor) -> Tensor:
        generator = seeded(5)  # the same noise for every point
        like = scores.expand(draws, -1)
        noise = (
            gumbel(like, generator) if density == "gumbel" else torch.randn(like.shape, generator=generator).double()
        )
        best = structure.argmax(like + sigma * noise)
        slopes = problem.targets[0] @ problem.module.decoder.detach().T
        return (best @ slopes).mean()

    centre = problem.module.scores.detach()[0]
    exact = torch.stack([(mean_loss(centre + e) - mean_loss(centre - e)) / (2 * step) for e in step * torch.eye(4)])
    method, generator, estimates = PerturbedOptimiser(samples=50, sigma=sigma, density=density), seeded(1), []
    for _ in range(50):
        problem.module.zero_grad()
        method.backward(problem, EMPTY, generator)
        assert problem.module.scores.grad is not None
        estimates.append(problem.module.scores.grad[0].clone())
    found = torch.stack(estimates)
    error = found.std(0) / math.sqrt(len(found))
    assert bool(((found.mean(0) - exact).abs() < 4 * error + 0.02).all())
    assert float(exact.abs().max()) > 5 * float(error.max())


def test_the_noise_of_a_perturbed_optimiser_never_reaches_what_no_tree_reads() -> None:
    problem = ToyProblem(**TREES)
    PerturbedOptimiser().backward(problem, EMPTY, seeded())
    gradient = problem.module.scores.grad
    readable = problem.structure.readable(problem.module.scores.detach(), problem.sizes)
    assert gradient is not None and float(gradient[~readable].abs().max()) == 0
    assert float(gradient[readable].abs().min()) > 0


def test_implicit_mle_is_the_difference_to_its_target() -> None:
    problem = ToyProblem(Categorical(), (6,), freeze_decoder=True)
    strength = 3.0
    ImplicitMLE(strength=strength, noise="gumbel").backward(problem, EMPTY, seeded(2))
    noisy = problem.module.scores.detach() + gumbel(problem.module.scores, seeded(2))
    best = problem.structure.argmax(noisy).requires_grad_()
    (slope,) = torch.autograd.grad(problem.reconstruction(EMPTY, best).sum(), best)
    target = problem.structure.argmax(noisy - strength * slope)
    assert bool((target != best).any())
    torch.testing.assert_close(problem.module.scores.grad, (best.detach() - target) / strength / 2)


def test_temperatures_fall_by_the_updates_counted_in_the_state() -> None:
    problem = ToyProblem(Categorical(), (3,))
    method: Relaxed[Tensor] = Relaxed(temperature=1.0, floor=0.5, rate=0.1, every=2)
    seen = [method.backward(problem, EMPTY, seeded()).metrics["temperature"] for _ in range(12)]
    expected = [max(0.5, math.exp(-0.1 * (update // 2 * 2))) for update in range(12)]
    assert seen == pytest.approx(expected)
    assert expected[-1] == 0.5 and expected[6] > 0.5
    again: Relaxed[Tensor] = Relaxed(temperature=1.0, floor=0.5, rate=0.1, every=2)
    again.state.load_state_dict(method.state.state_dict())
    assert again.state.value() == method.state.value() and int(again.state.updates) == 12


def test_at_rate_zero_nothing_falls_and_the_floor_does_not_count() -> None:
    constant = Annealing(Schedule(start=0.05, floor=0.1, rate=0.0))
    assert [constant.advance() for _ in range(3)] == [0.05] * 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DifferentiablePerturbAndParse(temperature=0.0), "dpp.temperature is 0.0; it must be above 0"),
        (lambda: SparseMAP(temperature=-1.0), "sparsemap.temperature is -1.0; it must be above 0"),
        (lambda: PerturbedOptimiser(samples=1), "perturbed_optimiser.samples is 1; it takes at least 2"),
        (lambda: PerturbedOptimiser(sigma=0.0), "perturbed_optimiser.sigma is 0.0; it must be above 0"),
        (
            lambda: ImplicitMLE(strength=0.0),
            "implicit_mle.strength is 0.0 and implicit_mle.samples 1; the one must be above 0, the other at least 1",
        ),
        (
            lambda: Relaxed(temperature=1.0, floor=0.0),
            "a schedule from 1.0 to 0.0 at rate 0.0 every 500 updates: start and floor must be above 0, "
            "the rate at least 0, and every at least 1",
        ),
    ],
)
def test_impossible_settings_are_refused(make, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make()
    assert str(raised.value) == message


def test_perturb_and_parse_is_refused_where_no_search_can_be_smoothed() -> None:
    problem = ToyProblem(SpanningTrees(), (4, 4))
    with pytest.raises(IncompatibleError) as raised:
        DifferentiablePerturbAndParse[Tensor]().check(problem)
    assert str(raised.value) == "the method 'dpp' needs smoothed_argmax, which the structure 'spanning' cannot give"
