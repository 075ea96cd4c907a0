"""The exact gradient by marginals, against sums over all objects."""

from __future__ import annotations

import math

import pytest
import torch

from parser_vae.errors import IncompatibleError
from parser_vae.methods import Marginals
from parser_vae.parsing.model import encode_raw
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.structures.projective import ProjectiveTrees
from parser_vae.structures.spanning import SpanningTrees
from parser_vae.structures.trees import TreeStructure
from tests.parsing.conftest import Build, build

__all__ = ["build"]  # the fixture

SENTENCES = [["the", "dog", "saw"], ["dogs", "bark"], ["a", "cat", "saw", "dogs"]]
STRUCTURES = [family(single_root=single) for family in (ProjectiveTrees, SpanningTrees) for single in (True, False)]


@pytest.mark.parametrize("generates", ["forms", "classes", "tags"])
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: f"{s.name}-{s.single_root}")
def test_the_gradient_on_sentences_equals_that_of_the_sum_over_trees(
    build: Build, structure: TreeStructure, generates: str
) -> None:
    model = build(decoder="arcs", generates=generates).double().eval()
    batch = model.indexer.batch(encode_raw(model.indexer, SENTENCES, model))
    problem = ParsingProblem(model, structure, "exact_gibbs")
    scores, context = problem.scores(batch), model.decoder.context(batch)
    exact = torch.zeros((), dtype=torch.float64)
    for row, forms in enumerate(SENTENCES):
        trees = structure.enumerate((len(forms) + 1, len(forms) + 1))
        nodes = trees.shape[1]
        log_probability = (trees * scores[row, :nodes, :nodes]).sum((1, 2)).log_softmax(0)
        losses = (trees * context.losses[row, :nodes, :nodes]).sum((1, 2)) / len(forms)
        divergence = log_probability + math.log(len(trees))
        exact = exact + (log_probability.exp() * (losses + divergence / len(forms))).sum() / len(SENTENCES)
    exact.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    estimate = Marginals().backward(problem, batch, torch.Generator(), weight=0.5)
    assert estimate.objective == pytest.approx(float(exact.detach()), abs=1e-9)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert max(float(gradient.abs().max()) for gradient in expected.values()) > 1e-3
    for name, gradient in expected.items():
        torch.testing.assert_close(2 * found[name], gradient, rtol=1e-6, atol=1e-9)


def test_a_language_model_is_refused(build: Build) -> None:
    with pytest.raises(IncompatibleError) as raised:
        Marginals().check(ParsingProblem(build(), ProjectiveTrees()))
    assert str(raised.value) == (
        "the method 'marginals' needs a reconstruction that is a sum of losses of parts, which this model's is not; "
        "for a parser, pretrain one with --set decoder.kind=arcs"
    )
    Marginals().check(ParsingProblem(build(decoder="arcs"), ProjectiveTrees()))
