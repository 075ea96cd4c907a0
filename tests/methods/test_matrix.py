"""Every method on every structure that has what it requires: it lowers the exact objective and keeps its promises."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from parser_vae.errors import IncompatibleError
from parser_vae.methods import (
    METHODS,
    Arm,
    DifferentiablePerturbAndParse,
    Direct,
    Entropy,
    Enumeration,
    ImplicitMLE,
    Importance,
    Marginals,
    Method,
    NaturalEvolution,
    PerturbedOptimiser,
    Rebar,
    Relax,
    Relaxed,
    ScoreFunction,
    SparseMAP,
    Touched,
)
from parser_vae.structures import STRUCTURES
from parser_vae.structures.base import Capability, Structure

SHAPES: dict[str, tuple[int, ...]] = {
    "categorical": (5,),
    "binary": (4,),
    "pairwise_binary": (6,),
    "subset": (5,),
    "projective": (4, 4),
    "spanning": (4, 4),
    "undirected": (6,),
}
SMALL: dict[str, Method[Tensor]] = {
    "nes": NaturalEvolution(population=100, sigma=0.3, shaping="raw"),
    "enumeration": Enumeration(),
    "dpp": DifferentiablePerturbAndParse(),
    "sparsemap": SparseMAP(),
    "relaxed": Relaxed(),
    "perturbed_optimiser": PerturbedOptimiser(samples=20),
    "implicit_mle": ImplicitMLE(strength=1.0, samples=5),
    "direct": Direct(),
    "entropy": Entropy(),
    "marginals": Marginals(),
    "score_function": ScoreFunction(samples=60),
    "importance": Importance(samples=60),
    "rebar": Rebar(),
    "relax": Relax(hidden=4),
    "arm": Arm(samples=30),
}
WITHOUT_CHANCE = ("enumeration", "entropy", "marginals")


class LinearProblem:
    """Scores are the parameters themselves, and a latent costs the sum of its parts' random costs."""

    reconstruction_is_additive = True

    def __init__(self, structure: Structure, shape: tuple[int, ...], scores: Tensor | None = None) -> None:
        generator = torch.Generator().manual_seed(3)
        self.structure = structure
        self.costs = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        self.module = nn.Module()
        start = 0.1 * torch.randn(2, *shape, generator=generator, dtype=torch.float64) if scores is None else scores
        self.module.scores = nn.Parameter(start.clone())
        self.module.frozen = nn.Parameter(torch.ones(1, dtype=torch.float64), requires_grad=False)

    def touched(self, batch: Tensor) -> list[Touched]:
        return [Touched("scores", self.module.scores)]

    def lengths(self, batch: Tensor) -> None:
        return None

    def scores(self, batch: Tensor) -> Tensor:
        return self.module.scores * self.module.frozen

    def reconstruction(self, batch: Tensor, latent: Tensor) -> Tensor:
        return (self.costs * latent).flatten(1).sum(1)

    def population_reconstruction(self, batch: Tensor, latents: Sequence[Tensor]) -> Tensor:
        return torch.stack([self.reconstruction(batch, latent.double()) for latent in latents])

    def reconstruction_is_shared(self, batch: Tensor) -> bool:
        return True

    def features(self, batch: Tensor) -> Tensor:
        return torch.ones(2, 1, dtype=torch.float64)

    def divergence(self, batch: Tensor, scores: Tensor) -> None:
        return None

    def replica(self) -> LinearProblem:
        return LinearProblem(self.structure, tuple(self.costs.shape[1:]), self.module.scores.data)

    def objective(self, method: str) -> float:
        """What the method is to lower, exactly or as nearly as a hundred draws tell."""
        if method == "entropy":
            return float(self.structure.entropy(self.scores(self.costs).detach()).mean())
        return self.expected_cost()

    def expected_cost(self) -> float:
        """The mean cost of perturb-and-MAP latents, over a hundred draws."""
        generator = torch.Generator().manual_seed(9)
        with torch.no_grad():
            total = 0.0
            for _ in range(100):
                uniform = torch.rand(self.costs.shape, generator=generator, dtype=torch.float64)
                noisy = self.scores(self.costs) - (-uniform.clamp_min(1e-12).log()).log()
                total += float(self.reconstruction(self.costs, self.structure.argmax(noisy)).mean())
        return total / 100


def structure_called(name: str) -> Structure:
    return STRUCTURES[name](2) if name == "subset" else STRUCTURES[name]()


def refusal(method: str, name: str) -> str | None:
    """The reason why a method does not fit a structure, or None where it does."""
    try:
        SMALL[method].check(LinearProblem(structure_called(name), SHAPES[name]))
    except IncompatibleError as error:
        return str(error)
    return None


PAIRS = [(method, name) for method in METHODS for name in STRUCTURES if refusal(method, name) is None]


def test_the_matrix_is_complete() -> None:
    assert set(SMALL) == set(METHODS)
    assert set(SHAPES) == set(STRUCTURES)


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_a_method_lowers_its_objective(method: str, name: str) -> None:
    problem = LinearProblem(structure_called(name), SHAPES[name])
    made = copy.deepcopy(SMALL[method])
    before = problem.objective(method)
    generator = torch.Generator().manual_seed(0)
    # the entropy is flat where the scores start
    optimiser = torch.optim.SGD([problem.module.scores], lr=20.0 if method == "entropy" else 1.0)
    for _ in range(30 if method in ("rebar", "relax") else 5):  # these draw one sample
        optimiser.zero_grad()
        estimate = made.backward(problem, torch.zeros(2), generator)
        optimiser.step()
    assert (estimate.evaluations > 0) == (method != "entropy")
    assert problem.objective(method) < before - 0.1
    assert problem.module.frozen.grad is None


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_the_same_generator_gives_the_same_gradient(method: str, name: str) -> None:
    gradients = []
    for seed in (1, 1, 2):
        problem = LinearProblem(structure_called(name), SHAPES[name])
        copy.deepcopy(SMALL[method]).backward(problem, torch.zeros(2), torch.Generator().manual_seed(seed))
        assert problem.module.scores.grad is not None
        gradients.append(problem.module.scores.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2]) == (method in WITHOUT_CHANCE)


def test_only_methods_for_independent_choices_are_refused_where_parts_depend_on_each_other() -> None:
    dependent = set(STRUCTURES) - {"categorical", "binary"}
    for method, fitting in {
        "rebar": {"categorical", "binary"},
        "relax": {"categorical", "binary"},
        "arm": {"binary"},
    }.items():
        assert {name for name in STRUCTURES if refusal(method, name) is None} == fitting
        for name in dependent:
            assert (
                refusal(method, name)
                == f"the method '{method}' needs factorised, which the structure '{name}' cannot give"
            )
    assert refusal("arm", "categorical") == (
        "the method 'arm' mirrors independent bits, which the structure 'categorical' does not have; its extension to "
        "one of k classes evaluates k(k-1)/2 latents, more than the k of enumeration"
    )
    for method in ("score_function", "importance"):
        assert all(refusal(method, name) is None for name in STRUCTURES)


def test_a_method_is_refused_where_a_capability_is_missing() -> None:
    class Demanding(NaturalEvolution[Tensor]):
        name = "demanding"
        requires = frozenset({Capability.K_BEST})

    problem = LinearProblem(structure_called("categorical"), SHAPES["categorical"])
    with pytest.raises(IncompatibleError) as raised:
        Demanding().check(problem)
    assert str(raised.value) == "the method 'demanding' needs k_best, which the structure 'categorical' cannot give"
