"""The parsing problem: what it touches, its divergences, its replicas, and NES on it."""

from __future__ import annotations

import pytest
import torch

from parser_vae.methods import NaturalEvolution
from parser_vae.parsing.problem import Divergence, ParsingProblem
from parser_vae.structures.projective import ProjectiveTrees
from parser_vae.structures.spanning import SpanningTrees

from .conftest import Build, gold_batch


def test_only_what_trees_depend_on_is_touched(build: Build) -> None:
    model = build()
    for parameter in model.decoder.parameters():
        parameter.requires_grad = False
    batch = gold_batch(model, (0, 1))
    touched = {item.name: item.rows for item in ParsingProblem(model, ProjectiveTrees()).touched(batch)}
    assert not any(name.startswith(("encoder.labels", "encoder.tags", "decoder.")) for name in touched)
    rows = touched["encoder.embedding.words.weight"]
    assert rows is not None
    assert set(rows.tolist()) == set(batch.words.flatten().tolist())
    everything = {item.name for item in ParsingProblem(model, ProjectiveTrees(), perturb_all=True).touched(batch)}
    assert {"encoder.labels.bilinear", "encoder.tags.weight"} <= everything - set(touched)


@pytest.mark.parametrize("family", [ProjectiveTrees, SpanningTrees])
@pytest.mark.parametrize("kind", ["exact_gibbs", "gumbel", "paper"])
@pytest.mark.filterwarnings("ignore:eq. 37")
def test_divergences_ignore_padding_and_a_shift_of_normalised_scores(
    build: Build, kind: Divergence, family: type
) -> None:
    model = build()
    problem = ParsingProblem(model, family(single_root=False), kind)
    batch, alone = gold_batch(model), gold_batch(model, (1,))
    scores = torch.randn(4, 11, 11, generator=torch.Generator().manual_seed(0))
    value = problem.divergence(batch, scores)
    single = problem.divergence(alone, scores[1:2, :3, :3])
    assert value is not None and single is not None
    torch.testing.assert_close(value[1:2], single, rtol=0, atol=1e-5)
    if kind != "gumbel":
        shifted = problem.divergence(batch, scores + 5)
        assert shifted is not None
        torch.testing.assert_close(shifted, value, rtol=0, atol=1e-4)


def test_gumbel_divergence_bounds_the_exact_one(build: Build) -> None:
    model = build()
    batch = gold_batch(model)
    structure = SpanningTrees(single_root=False)
    for seed in range(5):
        scores = torch.randn(4, 11, 11, generator=torch.Generator().manual_seed(seed))
        bound = ParsingProblem(model, structure, "gumbel").divergence(batch, scores)
        exact = ParsingProblem(model, structure, "exact_gibbs").divergence(batch, scores)
        assert bound is not None and exact is not None
        assert bool((exact >= -1e-5).all())
        assert bool((bound >= exact).all())


def test_the_papers_divergence_warns(build: Build) -> None:
    with pytest.warns(UserWarning, match="eq. 37 treats exp"):
        ParsingProblem(build(), ProjectiveTrees(), "paper")


def test_a_replica_has_its_own_parameters_and_shares_what_is_frozen(build: Build) -> None:
    model = build().eval()
    for parameter in model.decoder.parameters():
        parameter.requires_grad = False
    problem = ParsingProblem(model, ProjectiveTrees())
    twin = problem.replica()
    batch = gold_batch(model)
    assert torch.equal(problem.scores(batch), twin.scores(batch))
    with torch.no_grad():
        twin.model.encoder.embedding.words.weight.add_(1.0)
    assert not torch.equal(problem.scores(batch), twin.scores(batch))
    assert twin.model.encoder.embedding.vectors is model.encoder.embedding.vectors
    assert twin.model.decoder.output.weight is model.decoder.output.weight


@pytest.mark.parametrize("frozen", [True, False])
def test_nes_lowers_the_reconstruction_and_spares_frozen_parameters(build: Build, frozen: bool) -> None:
    model = build().eval()
    for parameter in model.decoder.parameters():
        parameter.requires_grad = not frozen
    problem = ParsingProblem(model, ProjectiveTrees(single_root=False))
    batch = gold_batch(model)
    method = NaturalEvolution(population=40, sigma=0.1, workers=2)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    objectives = []
    for step in range(6):
        optimiser.zero_grad()
        # the same noise each time, so that the objectives can be compared
        objectives.append(method.backward(problem, batch, torch.Generator().manual_seed(4)).objective)
        if step < 5:
            optimiser.step()
    assert objectives[-1] < objectives[0]
    assert all((parameter.grad is None) == frozen for parameter in model.decoder.own.parameters())


@pytest.mark.parametrize("preset", ["default", "kg"])
def test_the_parts_of_a_batch_are_scored_and_judged_like_the_whole(
    build: Build, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parser_vae.parsing.problem.PART", 3)
    model = build(preset).double().eval()
    problem = ParsingProblem(model, ProjectiveTrees())
    batch = gold_batch(model)
    parts = problem.divided(batch)
    assert [len(part) for part in parts] == [3, 1]
    assert parts[1].words.shape == (1, 3) and len(parts[1].characters) == 3 < len(batch.characters)
    whole = problem.scores(batch)
    trees = problem.structure.argmax(whole, batch.lengths)
    losses = problem.reconstruction(batch, trees)
    for part, rows in zip(parts, (slice(0, 3), slice(3, 4)), strict=True):
        size = part.words.shape[1]
        inside = problem.structure.inside((size, size), part.lengths)
        scores = problem.scores(part)
        torch.testing.assert_close(scores * inside, whole[rows, :size, :size] * inside, rtol=0, atol=1e-12)
        found = problem.reconstruction(part, trees[rows, :size, :size])
        torch.testing.assert_close(found, losses[rows], rtol=0, atol=1e-12)
