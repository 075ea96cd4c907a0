"""Natural evolution strategies against closed forms, and the promises of every method."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from parser_vae.errors import ConfigError
from parser_vae.methods import NaturalEvolution, Touched
from parser_vae.methods.perturbation import LearnedScales, Perturbation
from parser_vae.methods.shaping import shape
from parser_vae.structures.categorical import Categorical
from parser_vae.training.checkpoint import load_state, save_state


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


@pytest.mark.parametrize("rank", [0, 2])
def test_rows_of_an_embedding_are_the_only_ones_perturbed(rank: int) -> None:
    embedding = nn.Parameter(torch.zeros(6, 3))
    touched = [Touched("embedding", embedding, torch.tensor([1, 4]))]
    perturbation = Perturbation(touched, 0.5, "absolute", rank, None)
    members = perturbation.group([7, 8])["embedding"].members()
    assert members.shape == (4, 2, 3)
    assert torch.equal(members[0], -members[1])
    assert torch.equal(perturbation.group([8])["embedding"].members(), members[2:])
    perturbation.accumulate([7], [2.0])
    assert embedding.grad is not None
    torch.testing.assert_close(embedding.grad[[1, 4]], 2.0 * members[0] / 0.25)
    assert not bool(embedding.grad[[0, 2, 3, 5]].any())


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
        (
            {"perturb": "pattern"},
            "nes.pattern names parameters if nes.perturb is pattern, and only then; set both or none",
        ),
        (
            {"perturb": "scores", "rank": 1},
            "nes.sigma_scale and nes.rank are for parameters; leave them out for nes.perturb = scores",
        ),
        (
            {"sigma_scale": "adapted", "rank": 1},
            "nes.sigma_scale = adapted scales every value by itself; it needs nes.rank = 0",
        ),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        method(**settings)
    assert str(raised.value) == message


def test_noise_on_scores_is_unbiased_for_the_objective_that_it_smooths() -> None:
    target = problem()
    sigma = 0.5
    distance = float(target.module.weights.detach() @ target.direction - target.threshold) / (sigma * 2**0.5)
    density = math.exp(-(distance**2) / 2) / math.sqrt(2 * math.pi)
    exact = target.high * density / (sigma * 2**0.5) * target.direction
    draws = torch.stack([gradient(method(perturb="scores", sigma=sigma), seed) for seed in range(60)])
    error = draws.std(0) / math.sqrt(len(draws)) + 1e-12
    assert bool(((draws.mean(0) - exact).abs() < 3.5 * error).all())


def test_noise_on_scores_shapes_each_item_by_itself() -> None:
    class Uneven(StepProblem):
        """The second item's losses are a thousand times the first's."""

        def reconstruction(self, batch: Tensor, latent: Tensor) -> Tensor:
            return batch * latent[:, 0]

        def scores(self, batch: Tensor) -> Tensor:
            return torch.stack([self.module.weights[:2], torch.zeros(2, dtype=torch.float64)], 1)

    target = Uneven(problem().module.weights.data, problem().direction)
    method(perturb="scores", shaping="zscore").backward(
        target, torch.tensor([1.0, 1000.0]).double(), torch.Generator().manual_seed(0)
    )
    first, second, _ = target.module.weights.grad.tolist()
    assert 0.5 < first / second < 2


def test_only_parameters_that_fit_the_pattern_are_perturbed() -> None:
    class Two(StepProblem):
        def __init__(self, weights: Tensor, direction: Tensor) -> None:
            super().__init__(weights, direction)
            self.module.more = nn.Parameter(torch.zeros(1, dtype=torch.float64))

        def touched(self, batch: Tensor) -> list[Touched]:
            return [*super().touched(batch), Touched("more", self.module.more)]

    target = Two(problem().module.weights.data, problem().direction)
    method(perturb="pattern", pattern=["w*"]).backward(target, torch.zeros(1), torch.Generator().manual_seed(0))
    assert target.module.weights.grad is not None
    assert target.module.more.grad is None
    with pytest.raises(ConfigError) as raised:
        method(perturb="pattern", pattern=["x.*"]).backward(target, torch.zeros(1), torch.Generator())
    assert str(raised.value) == "nes.pattern: 'x.*' fits none of the trainable parameters: weights, more"


def test_relative_sigma_follows_the_size_of_each_tensor() -> None:
    touched = [
        Touched("large", nn.Parameter(torch.full((50, 40), 8.0))),
        Touched("zero", nn.Parameter(torch.zeros(999))),
    ]
    group = Perturbation(touched, 0.1, "relative", 0, None).group([3])
    assert float(group["large"].direction().std()) == pytest.approx(0.8, rel=0.05)
    assert float(group["zero"].direction().std()) == pytest.approx(0.1, rel=0.1)


def test_low_rank_directions_are_uncorrelated_with_variance_one() -> None:
    touched = [Touched("matrix", nn.Parameter(torch.zeros(3, 2, dtype=torch.float64)))]
    directions = Perturbation(touched, 1.0, "absolute", 1, None).group(range(4000))["matrix"].direction().flatten(1)
    covariance = directions.t() @ directions / len(directions)
    assert float((covariance - torch.eye(6, dtype=torch.float64)).abs().max()) < 0.2
    assert float(directions.mean(0).abs().max()) < 0.06


def test_adapted_scales_grow_where_the_objective_asks_for_more_noise_and_survive_a_checkpoint(tmp_path: Path) -> None:
    # k = 3 if w_1 > 1 else 0 at w = 0.2: noise in the first value costs, noise in the others does nothing
    direction = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    target = StepProblem(torch.tensor([-0.5, 0.0, 0.0], dtype=torch.float64), direction)
    made = method(sigma_scale="adapted", sigma=0.5)
    for seed in range(30):
        made.backward(target, torch.zeros(1), torch.Generator().manual_seed(seed))
    assert isinstance(made.state, LearnedScales)
    first, *others = made.state.logarithms["weights"].tolist()
    assert first < -0.5
    assert max(abs(other) for other in others) < 0.3
    save_state(tmp_path, {"method": made.state.state_dict()})
    again = LearnedScales()
    again.load_state_dict(load_state(tmp_path)["method"])
    assert torch.equal(again.logarithms["weights"], made.state.logarithms["weights"])


@pytest.mark.parametrize("settings", [{"perturb": "scores"}, {"rank": 1}, {"sigma_scale": "adapted"}])
def test_every_choice_gives_the_same_gradient_whatever_the_workers(settings: dict[str, object]) -> None:
    one = gradient(method(population=20, memory=1, **settings), 5)
    assert torch.equal(one, gradient(method(population=20, workers=3, **settings), 5))
    assert not torch.equal(one, gradient(method(population=20, **settings), 6))
