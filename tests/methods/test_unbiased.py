"""Methods that promise an unbiased gradient: the mean of many draws is the enumerated gradient."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from parser_vae.methods import Arm, Importance, Method, Rebar, Relax, ScoreFunction
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
from tests.methods.copies import NOTHING, Copies, assert_unbiased

SPACES: dict[str, tuple[Structure, tuple[int, ...], int | None]] = {
    "categorical": (Categorical(), (4,), None),
    "categorical, padded": (Categorical(), (5,), 3),
    "bits": (Binary(), (3,), None),
    "bits, padded": (Binary(), (4,), 3),
    "pairwise": (PairwiseBinary(), (6,), None),
    "subset": (Subset(2), (4,), None),
    "projective": (ProjectiveTrees(single_root=False), (4, 4), None),
    "projective, padded": (ProjectiveTrees(), (5, 5), 3),
    "spanning": (SpanningTrees(), (5, 5), None),
    "undirected": (UndirectedTrees(), (6,), None),
}
FLAT = ("categorical", "categorical, padded", "bits", "bits, padded")
METHODS: dict[str, Method[Tensor]] = {
    **{
        f"score_function {baseline}": ScoreFunction(samples=2, baseline=baseline)
        for baseline in ("none", "batch", "leave_one_out", "ema", "learned")
    },
    **{
        f"perturbation {baseline}": ScoreFunction("perturbation", samples=2, baseline=baseline)
        for baseline in ("none", "leave_one_out", "ema")
    },
    **{f"importance {proposal}": Importance(3, proposal) for proposal in ("same", "tempered", "mixture", "uniform")},
    "importance ema": Importance(1, "tempered", baseline="ema"),
    "rebar": Rebar(),
    "relax": Relax(hidden=8),
    "relax network": Relax(hidden=8, control_variate="network"),
    "arm": Arm(samples=2),
}
CASES = [
    *((method, space) for method in METHODS for space in FLAT if method != "arm" or space.startswith("bits")),
    *(
        (method, space)
        for method in ("score_function leave_one_out", "importance mixture", "importance tempered")
        for space in SPACES
        if space not in FLAT
    ),
]


@pytest.mark.parametrize(("method", "space"), CASES)
def test_the_mean_of_many_draws_is_the_enumerated_gradient(method: str, space: str) -> None:
    problem = Copies(*SPACES[space][:2], count=6000, size=SPACES[space][2])
    made = copy.deepcopy(METHODS[method])
    made.check(problem)
    if made.state is not None:
        learn(made, problem, steps=5)
    draws, exact = problem.draws(made, seed=1), problem.exact()
    for name in ("scores", "decoder"):
        assert_unbiased(draws[name], exact[name], least=5)


@pytest.mark.parametrize("space", ["subset", "projective", "spanning", "undirected"])
def test_the_score_of_the_noise_is_the_slope_of_the_perturbed_expectation(space: str) -> None:
    structure, shape, size = SPACES[space]
    count, reach = 20_000, 0.15
    problem = Copies(structure, shape, count, size)
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direction = torch.where(structure.readable(problem.module.scores.detach()[:1])[0], direction, 0.0)
    draws = problem.draws(ScoreFunction("perturbation", samples=2), seed=1)["scores"]
    estimates = ((draws - 0.2 * problem.module.scores.detach()) * direction).flatten(1).sum(1)
    with torch.no_grad():
        centre = problem.scores(NOTHING)
        noise = structure.noise(centre, torch.Generator().manual_seed(3))
        up, down = (
            problem.reconstruction(NOTHING, structure.argmax(centre + sign * reach * direction + noise))
            for sign in (1, -1)
        )
    slopes = (up - down) / (2 * reach)
    error = math.sqrt(float(estimates.var() + slopes.var()) / count)
    assert abs(float(slopes.mean())) > 3 * error
    assert abs(float(estimates.mean() - slopes.mean())) < 3 * error


def test_self_normalised_weights_are_biased_ever_less() -> None:
    problem = Copies(Categorical(), (4,), 6000)
    exact = problem.exact()["scores"]

    def bias(samples: int) -> float:
        made: Importance[Tensor] = Importance(samples, "uniform", weights="self_normalised", baseline="none")
        return float((problem.draws(made, seed=1)["scores"].mean(0) - exact).norm())

    few, many = bias(2), bias(32)
    assert few > 0.05 * float(exact.norm())
    assert many < 0.25 * few


def test_control_variates_order_by_variance_on_the_standard_toy() -> None:
    """E[(b - t)^2] with t = .45 and p(b = 1) = 1/2: Tucker et al. (2017), Grathwohl et al. (2018)."""
    toy = Copies(Binary(), (1,), 100, target=0.45, scores=torch.zeros(1, dtype=torch.float64))
    many = Copies(Binary(), (1,), 20_000, target=0.45, scores=torch.zeros(1, dtype=torch.float64))
    exact = many.exact()["scores"]
    assert float(exact) == pytest.approx(0.25 * (0.55**2 - 0.45**2))
    variance = {}
    for name, made in {
        "reinforce": ScoreFunction[Tensor](samples=1, baseline="none"),
        "rebar": Rebar[Tensor](temperature=3.0),
        "relax": Relax[Tensor](temperature=3.0, hidden=10),
        "arm": Arm[Tensor](),
    }.items():
        if made.state is not None:
            learn(made, toy, steps=150)
        draws = many.draws(made, seed=1)["scores"]
        assert_unbiased(draws, exact, least=3)
        variance[name] = float(draws.var())
    # a relaxed (b - t)^2 has no constant that could stand for the mean loss, so REBAR gains little here
    assert variance["rebar"] < 0.95 * variance["reinforce"]
    assert variance["relax"] < 0.01 * variance["rebar"]
    assert variance["arm"] < 0.1 * variance["reinforce"]


def test_every_baseline_lowers_the_variance_where_losses_have_a_mean() -> None:
    problem = Copies(Categorical(), (4,), 4000)
    with torch.no_grad():
        problem.module.decoder += 2.0

    def variance(method: Method[Tensor]) -> float:
        if method.state is not None:
            learn(method, problem, steps=60)
        return float(problem.draws(method, seed=1)["scores"].var(0).sum())

    plain = variance(ScoreFunction(samples=2, baseline="none"))
    for baseline in ("batch", "leave_one_out", "ema", "learned"):
        assert variance(ScoreFunction(samples=2, baseline=baseline)) < 0.6 * plain  # type: ignore[arg-type]


def learn(method: Method[Tensor], problem: Copies, steps: int) -> None:
    """Train what the method learns, the problem staying as it is."""
    assert method.state is not None
    parameters = [p for p in method.state.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=0.02) if parameters else None
    for step in range(steps):
        if optimiser is not None:
            optimiser.zero_grad()
        problem.draws(method, seed=100 + step)
        if optimiser is not None:
            optimiser.step()
