"""Lemma 1 and theorem 1 of Berliner et al. (2022) on smoothed step functions, whose closed form is known.

For ``k(w) = M`` where ``s . w > t`` for a unit vector ``s``, else 0, the smoothed objective is
``g(mu) = M Phi(u)`` with ``u = (s . mu - t) / sigma``. With the normal density ``phi``, its gradient is
``M / sigma phi(u) s`` and its Hessian ``-M / sigma^2 u phi(u) s s^T``.
"""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from parser_vae.methods.shaping import shape

from .test_nes import StepProblem, gradient, method

SIZES = st.floats(0.1, 10)
POINTS = st.floats(-4, 4)


def value(u: Tensor, height: float) -> Tensor:
    return height * torch.special.ndtr(u)


def slope(u: Tensor, height: float, sigma: float) -> Tensor:
    """The gradient's component along s; there is no other."""
    return height / sigma * torch.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)


def curvature(u: Tensor, height: float, sigma: float) -> Tensor:
    """The Hessian's component along s s^T; there is no other."""
    return -u * slope(u, height, sigma) / sigma


@given(height=SIZES, sigma=SIZES, u=st.floats(-8, 8))
def test_closed_forms_agree_with_automatic_differentiation(height: float, sigma: float, u: float) -> None:
    at = torch.tensor(u * sigma, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(value(at / sigma, height), at, create_graph=True)
    (second,) = torch.autograd.grad(first, at)
    scaled = (at / sigma).detach()
    torch.testing.assert_close(first.detach(), slope(scaled, height, sigma))
    torch.testing.assert_close(second, curvature(scaled, height, sigma), rtol=1e-5, atol=1e-10)


@given(height=SIZES, sigma=SIZES, first=POINTS, second=POINTS, size=st.integers(1, 50))
def test_lemma_1_and_its_sharper_constants(height: float, sigma: float, first: float, second: float, size: int) -> None:
    u, v = (torch.tensor(point, dtype=torch.float64) for point in (first, second))
    steepness = slope(u, height, sigma)
    bend = curvature(v, height, sigma)
    slack = 1 + 1e-9
    assert float(steepness**2 * bend) <= size * height**3 / sigma**4 * slack  # the lemma
    # dimension-free: |gradient| <= M / (sigma sqrt(2 pi)), |Hessian| <= 2 phi(1) M / sigma^2 for every k in [0, M]
    assert float(steepness) <= height / (sigma * math.sqrt(2 * math.pi)) * slack
    assert abs(float(bend)) <= 2 * math.exp(-0.5) / math.sqrt(2 * math.pi) * height / sigma**2 * slack
    assert float(steepness**2 * bend.abs()) <= 0.0771 * height**3 / sigma**4 * slack


@given(seed=st.integers(0, 2**32), sigma=st.floats(0.2, 2))
def test_random_step_functions_obey_the_bounds_that_hold_for_every_dimension(seed: int, sigma: float) -> None:
    # on a line, k = sum of jumps is exact: gradient = sum jump * density, Hessian = its derivative
    generator = torch.Generator().manual_seed(seed)
    places = torch.randn(6, generator=generator, dtype=torch.float64).sort().values
    levels = torch.rand(7, generator=generator, dtype=torch.float64)
    height = float(levels.max())
    u = (torch.linspace(-5, 5, 201, dtype=torch.float64)[:, None] - places) / sigma
    steepness = slope(u, 1.0, sigma) @ levels.diff()
    bend = curvature(u, 1.0, sigma) @ levels.diff()
    assert float(steepness.abs().max()) <= height / (sigma * math.sqrt(2 * math.pi))
    assert float(bend.abs().max()) <= 0.4840 * height / sigma**2


@given(
    height=SIZES, sigma=SIZES, start=POINTS, steps=st.sampled_from([1, 10, 100, 1000]), size=st.sampled_from([1, 30])
)
def test_theorem_1_bounds_the_mean_squared_gradient(
    height: float, sigma: float, start: float, steps: int, size: int
) -> None:
    rate = math.sqrt(2 * sigma**4 / (steps * size * height**2))
    place, total = start * sigma, 0.0
    for _ in range(steps):
        u = place / sigma
        steepness = height / sigma * math.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
        total += steepness**2
        place -= rate * steepness
    bound = height / (rate * steps) + rate * size * height**3 / (2 * sigma**4)
    assert math.isclose(bound, math.sqrt(2 * size * height**4 / (steps * sigma**4)))
    assert total / steps <= bound * (1 + 1e-9)


def test_the_smoothed_objective_comes_closer_as_sigma_falls() -> None:
    # away from the step, |g - k| = M Phi(-|distance| / sigma)
    distance = torch.linspace(-2, 2, 41, dtype=torch.float64)
    distance = distance[distance.abs() > 0.05]
    step = 3.0 * (distance > 0)
    gaps = torch.stack([(value(distance / sigma, 3.0) - step).abs() for sigma in (2.0, 1.0, 0.5, 0.1, 0.01)])
    assert bool((gaps.diff(dim=0) < 1e-12).all())
    assert float(gaps[-1].max()) < 1e-5


def test_the_estimate_follows_the_closed_form_at_every_sigma() -> None:
    weights = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    direction = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    for sigma in (0.2, 1.0):
        u = (weights @ direction - StepProblem.threshold) / sigma
        exact = slope(u, StepProblem.high, sigma) * direction
        made = method(sigma=sigma, population=200)
        draws = torch.stack([gradient(made, seed, StepProblem(weights, direction)) for seed in range(8)])
        error = draws.std(0) / math.sqrt(len(draws))
        assert bool(((draws.mean(0) - exact).abs() < 4.5 * error).all())


def noisy_step(points: Tensor, draws: Tensor) -> Tensor:
    """A step whose place is moved by noise, as the best tree is by the noise on the scores."""
    return (points[..., 0] + draws > 0.2).to(torch.float64)


def test_common_random_numbers_lower_the_variance_of_a_pairs_difference() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = 0.3 * torch.randn(4000, 3, dtype=torch.float64, generator=generator)
    first, second = 2 * torch.randn(2, 4000, dtype=torch.float64, generator=generator)
    common = noisy_step(noise, first) - noisy_step(-noise, first)
    independent = noisy_step(noise, first) - noisy_step(-noise, second)
    assert float(common.var()) < 0.5 * float(independent.var())


def test_ranks_keep_the_direction_when_one_member_is_an_outlier() -> None:
    # k = w_1, but one member in a hundred is worth a million more, whatever its parameters
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(50, 5, dtype=torch.float64, generator=generator)
    members = torch.stack([noise, -noise], 1).flatten(0, 1)
    fitness = members[:, 0].clone()
    fitness[37] += 1e6
    cosines = {}
    for how in ("zscore", "rank"):
        utility = shape(fitness, how).view(-1, 2)  # type: ignore[arg-type]
        estimate = ((utility[:, 0] - utility[:, 1])[:, None] * noise).sum(0)
        cosines[how] = float(estimate[0] / estimate.norm())
    assert cosines["rank"] > 0.9 > cosines["zscore"]
