"""A group of perturbed encoders scored at once against the same encoders one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from parser_vae.methods import NaturalEvolution, Touched
from parser_vae.methods.perturbation import Perturbation, matching
from parser_vae.methods.population import ParameterGroup, PopulationScores
from parser_vae.parsing.batches import Batch
from parser_vae.parsing.population import SharedStates, group_scores
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.structures.projective import ProjectiveTrees

from .conftest import Build, gold_batch


class Plain:
    """A parsing problem that offers nothing but the plain forward pass."""

    def __init__(self, problem: ParsingProblem) -> None:
        self.problem = problem
        self.module, self.structure = problem.module, problem.structure

    def touched(self, batch: Batch) -> list[Touched]:
        return self.problem.touched(batch)

    def lengths(self, batch: Batch) -> Tensor:
        return self.problem.lengths(batch)

    def scores(self, batch: Batch) -> Tensor:
        return self.problem.scores(batch)

    def reconstruction(self, batch: Batch, latent: Tensor) -> Tensor:
        return self.problem.reconstruction(batch, latent)

    def population_reconstruction(self, batch: Batch, latents: Sequence[Tensor]) -> Tensor:
        return torch.stack([self.problem.reconstruction(batch, latent.to(self.dtype)) for latent in latents])

    @property
    def dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype

    def reconstruction_is_shared(self, batch: Batch) -> bool:
        return self.problem.reconstruction_is_shared(batch)

    def divergence(self, batch: Batch, scores: Tensor) -> Tensor | None:
        return self.problem.divergence(batch, scores)

    def replica(self) -> Plain:
        return Plain(self.problem.replica())


def parsing_problem(build: Build, preset: str, dtype: torch.dtype, frozen: bool = True) -> ParsingProblem:
    model = build(preset).to(dtype).eval()
    for parameter in model.decoder.parameters():
        parameter.requires_grad = not frozen
    if preset == "default":  # these start as zeros
        torch.nn.init.normal_(model.encoder.arcs.weight)
        torch.nn.init.normal_(model.encoder.arcs.head_bias)
        torch.nn.init.normal_(model.encoder.distance.bias)
    return ParsingProblem(model, ProjectiveTrees(single_root=False))


PATTERNS = {"kg": ["*"], "default": ["*"], "upper": ["encoder.lstm.forwards.1.*", "encoder.arcs.*"], "arcs": ["*arcs*"]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("which", PATTERNS)
def test_a_group_scores_like_its_members_one_by_one(build: Build, which: str, rank: int, dtype: torch.dtype) -> None:
    problem = parsing_problem(build, "kg" if which == "kg" else "default", dtype)
    batch = gold_batch(problem.model)
    touched = matching(problem.touched(batch), PATTERNS[which])
    group = ParameterGroup(Perturbation(touched, 0.1, "absolute", rank, None), [3, 4, 5, 6, 7])
    with torch.no_grad():
        fast = group_scores(problem.model.encoder, group.perturbation.group(group.seeds), batch, SharedStates())
        plain = group.scores(Plain(problem), batch)
    assert isinstance(problem, PopulationScores) and not isinstance(Plain(problem), PopulationScores)
    assert float((plain - plain[:1]).abs().max()) > 0.01
    position = torch.arange(batch.words.shape[1])
    arcs = (position <= batch.lengths[:, None])[:, :, None] & batch.word_mask[:, None]
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(fast * arcs, plain * arcs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_whole_update_agrees_with_the_plain_path(build: Build, dtype: torch.dtype, rank: int, frozen: bool) -> None:
    problem = parsing_problem(build, "kg", dtype, frozen)
    batch = gold_batch(problem.model)
    method = NaturalEvolution(population=20, sigma=0.1, rank=rank)
    gradients, objectives = [], []
    for one in (problem, Plain(problem)):
        problem.model.zero_grad()
        objectives.append(method.backward(one, batch, torch.Generator().manual_seed(1)).objective)
        gradients.append(torch.cat([p.grad.flatten() for p in problem.model.parameters() if p.grad is not None]))
    assert objectives[0] == pytest.approx(objectives[1], abs=1e-5 if dtype == torch.float32 else 1e-12)
    assert float(torch.nn.functional.cosine_similarity(*gradients, dim=0)) > 0.999


def test_states_that_are_not_perturbed_are_those_of_the_update(build: Build) -> None:
    problem = parsing_problem(build, "default", torch.float64)
    batch = gold_batch(problem.model)
    method = NaturalEvolution(population=4, perturb="pattern", pattern=["*arcs*"])
    for _ in range(2):
        found = [
            method.backward(p, batch, torch.Generator().manual_seed(1)).objective for p in (problem, Plain(problem))
        ]
        assert found[0] == pytest.approx(found[1], abs=1e-12)
        with torch.no_grad():
            problem.model.encoder.lstm.forwards[0].weight_ih_l0.normal_(generator=torch.Generator().manual_seed(2))


def test_parameters_that_are_not_finite_fail_in_either_path(build: Build) -> None:
    problem = parsing_problem(build, "kg", torch.float32)
    batch = gold_batch(problem.model)
    with torch.no_grad():
        problem.model.encoder.lstm.forwards[1].weight_hh_l0[0, 0] = torch.nan
    estimate = NaturalEvolution(population=4, rank=1).backward(problem, batch, torch.Generator().manual_seed(0))
    assert estimate.metrics["failed"] == 4
    assert not bool(problem.model.encoder.arcs.bias.grad.any())
