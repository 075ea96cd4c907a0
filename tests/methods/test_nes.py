"""Natural evolution strategies against closed forms, and the promises of every method."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from parser_vae.errors import ConfigError
from parser_vae.methods import NaturalEvolution, Touched
from parser_vae.methods.nes import parameter_noise
from parser_vae.methods.shaping import shape
from parser_vae.structures.categorical import Categorical


class StepProblem:
    """``k = high`` where the first of two scores wins, else 0: a smoothed step function of the parameters.

    The scores are ``(weights . direction - threshold, 0)``, so under parameter noise of scale sigma the first class
    wins with probability ``Phi((weights . direction - threshold) / sigma)`` for a unit direction.
    """

    high = 3.0
    threshold = 0.2

    def __init__(self, weights: Tensor, direction: Tensor) -> None:
        self.module = nn.Module()
        self.module.weights = nn.Parameter(weights.clone())
        self.module.idle = nn.Parameter(torch.ones(2, dtype=weights.dtype), requires_grad=False)
        self.direction = direction
        self.structure = Categorical()

    def touched(self, batch: Tensor) -> list[Touched]:
        return [Touched("weights", self.module.weights)]

    def lengths(self, batch: Tensor) -> None:
        return None

    def scores(self, batch: Tensor) -> Tensor:
        first = self.module.weights @ self.direction - self.threshold
        return torch.stack([first, torch.zeros_like(first)]).expand(len(batch), 2)

    def reconstruction(self, batch: Tensor, latent: Tensor) -> Tensor:
        return self.high * latent[:, 0]

    def population_reconstruction(self, batch: Tensor, latents: list[Tensor]) -> Tensor:
        return torch.stack([self.reconstruction(batch, latent.double()) for latent in latents])

    def reconstruction_is_shared(self, batch: Tensor) -> bool:
        return True

    def divergence(self, batch: Tensor, scores: Tensor) -> None:
        return None

    def replica(self) -> StepProblem:
        return StepProblem(self.module.weights.data, self.direction)


def problem() -> StepProblem:
    direction = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    return StepProblem(torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64), direction)


def method(**settings: object) -> NaturalEvolution[Tensor]:
    return NaturalEvolution(**({"population": 400, "sigma": 0.5, "score_samples": 0, "shaping": "raw"} | settings))


def gradient(made: NaturalEvolution[Tensor], seed: int, target: StepProblem | None = None) -> Tensor:
    target = target or problem()
    made.backward(target, torch.zeros(1), torch.Generator().manual_seed(seed))
    grad = target.module.weights.grad
    assert grad is not None
    return grad


def test_raw_estimate_is_unbiased_for_the_smoothed_objective() -> None:
    target = problem()
    sigma = 0.5
    distance = float(target.module.weights.detach() @ target.direction - target.threshold) / sigma
    density = math.exp(-(distance**2) / 2) / math.sqrt(2 * math.pi)
    exact = target.high * density / sigma * target.direction
    draws = torch.stack([gradient(method(sigma=sigma), seed) for seed in range(60)])
    error = draws.std(0) / math.sqrt(len(draws))
    assert bool(((draws.mean(0) - exact).abs() < 3.5 * error).all())


def test_zscore_only_rescales_the_mirrored_estimate() -> None:
    raw, scaled = gradient(method(), 3), gradient(method(shaping="zscore"), 3)
    assert torch.nn.functional.cosine_similarity(raw, scaled, dim=0) > 1 - 1e-12


def test_mirroring_beats_independent_draws_on_a_smooth_objective() -> None:
    # k(w) = (a . w)^2 / 2 + b . w: mirrored pairs cancel the even part exactly
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 5, dtype=torch.float64, generator=generator)

    def k(points: Tensor) -> Tensor:
        return (points @ a) ** 2 / 2 + points @ b

    noise = torch.randn(2000, 20, 5, dtype=torch.float64, generator=generator)
    mirrored = ((k(0.5 * noise) - k(-0.5 * noise))[..., None] * noise).mean(1) / (2 * 0.5)
    plain = (k(0.5 * noise)[..., None] * noise).mean(1) / 0.5
    assert mirrored.var(0).sum() < 0.9 * plain.var(0).sum()


def test_same_generator_same_gradient_whatever_the_workers() -> None:
    one = gradient(method(population=20), 5)
    assert torch.equal(one, gradient(method(population=20), 5))
    assert torch.equal(one, gradient(method(population=20, workers=3), 5))
    assert not torch.equal(one, gradient(method(population=20), 6))


def test_backward_adds_scales_and_leaves_parameters_alone() -> None:
    target = problem()
    before = target.module.weights.detach().clone()
    first = gradient(method(population=40), 1, target).clone()
    method(population=40).backward(target, torch.zeros(1), torch.Generator().manual_seed(1), weight=2.0)
    assert torch.allclose(target.module.weights.grad, 3 * first)
    assert torch.equal(target.module.weights, before)
    assert target.module.idle.grad is None


def test_rows_of_an_embedding_are_the_only_ones_perturbed() -> None:
    embedding = nn.Parameter(torch.zeros(6, 3))
    touched = [Touched("embedding", embedding, torch.tensor([1, 4]))]
    (noise,) = parameter_noise(touched, 7)
    assert noise.shape == (2, 3)
    (again,) = parameter_noise(touched, 7)
    assert torch.equal(noise, again)


def test_failed_members_never_win() -> None:
    nan = float("nan")
    utility = shape(torch.tensor([1.0, nan, 2.0, float("inf")]), "zscore")
    assert torch.isfinite(utility).all()
    assert utility[1] == utility[3] == utility.max()
    assert bool((shape(torch.full((4,), nan), "zscore") == 0).all())
    assert bool((shape(torch.full((4,), 2.5), "rank") == 0).all())


def test_ranks_are_centred_and_ties_share_theirs() -> None:
    assert shape(torch.tensor([10.0, -1.0, 10.0, 3.0, 99.0]), "rank").tolist() == pytest.approx(
        [0.125, -0.5, 0.125, -0.25, 0.5]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 3}, "nes.population is 3; mirrored pairs need an even number of at least 2"),
        ({"sigma": 0.0}, "nes.sigma is 0.0; it must be above 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        method(**settings)
    assert str(raised.value) == message
