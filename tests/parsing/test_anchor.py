"""The divergence from the parser before adaptation, against sums over all trees."""

from __future__ import annotations

import pytest
import torch

from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.structures.projective import ProjectiveTrees
from parser_vae.structures.spanning import SpanningTrees
from parser_vae.structures.trees import TreeStructure

from .conftest import Build, gold_batch

SENTENCES = [["the", "dog", "saw"], ["dogs", "bark"], ["a", "cat", "saw", "dogs"]]
STRUCTURES = [family(single_root=single) for family in (ProjectiveTrees, SpanningTrees) for single in (True, False)]


def moved(model: ParserModel) -> None:
    """Change the scores a little, as an adaptation would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: f"{s.name}-{s.single_root}")
def test_anchor_is_the_divergence_over_all_trees(build: Build, structure: TreeStructure) -> None:
    model = build().double().eval()
    batch = model.indexer.batch([model.indexer.encode(forms) for forms in SENTENCES])
    problem = ParsingProblem(model, structure, "anchor", divergence_weight=0.5)
    source = problem.scores(batch).detach()
    unchanged = problem.divergence(batch, problem.scores(batch))
    assert unchanged is not None
    assert unchanged.abs().max() < 1e-9
    moved(model)
    scores = problem.scores(batch)
    found = problem.divergence(batch, scores)
    assert found is not None
    for row, forms in enumerate(SENTENCES):
        nodes = len(forms) + 1
        trees = structure.enumerate((nodes, nodes)).flatten(1)
        now, before = (
            (trees @ which[row, :nodes, :nodes].flatten()).log_softmax(0) for which in (scores.detach(), source)
        )
        expected = 0.5 * (now.exp() * (now - before)).sum() / len(forms)
        assert expected > 0.001
        torch.testing.assert_close(found[row].detach(), expected, rtol=1e-8, atol=1e-10)


def test_the_anchor_stays_while_the_parser_learns(build: Build) -> None:
    model = build().eval()
    problem = ParsingProblem(model, ProjectiveTrees(), "anchor")
    assert problem.anchor is not None
    batch, other = gold_batch(model), gold_batch(model, (1, 0))
    before = problem.anchor.scores(batch)
    moved(model)
    assert problem.replica().anchor is problem.anchor
    assert problem.anchor.scores(other).shape != before.shape
    assert torch.equal(problem.anchor.scores(batch), before)
    value = problem.divergence(batch, problem.scores(batch))
    assert value is not None
    value.sum().backward()
    assert all(parameter.grad is None for parameter in problem.anchor.encoder.parameters())
    assert model.encoder.embedding.words.weight.grad is not None
