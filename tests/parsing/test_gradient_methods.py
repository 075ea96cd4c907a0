"""Gradient methods on the parser, on short sentences where enumeration is exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parser_vae.errors import IncompatibleError
from parser_vae.methods import (
    METHODS,
    DifferentiablePerturbAndParse,
    Direct,
    Entropy,
    Enumeration,
    ImplicitMLE,
    Method,
    PerturbedOptimiser,
    Relaxed,
    SparseMAP,
)
from parser_vae.parsing.batches import Batch
from parser_vae.parsing.model import TREE_FAMILIES, ParserModel
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.treebank.catalog import bundled
from parser_vae.treebank.conllu import read_treebank

from .conftest import Build

MADE: dict[str, Method[Batch]] = {
    "enumeration": Enumeration(),
    "dpp": DifferentiablePerturbAndParse(),
    "sparsemap": SparseMAP(),
    "relaxed": Relaxed(),
    "perturbed_optimiser": PerturbedOptimiser(samples=20),
    "implicit_mle": ImplicitMLE(strength=2.0, samples=4),
    "direct": Direct(epsilon=2.0),
    "entropy": Entropy(),
}
PAIRS = [
    (name, family)
    for name in MADE
    for family, trees in TREE_FAMILIES.items()
    if METHODS[name].requires <= trees.capabilities
]


def target_problem(build: Build, family: str, freeze: bool) -> tuple[ParsingProblem, Batch]:
    """Return a parser whose language model minds the tree, and target sentences of three and four words."""
    model = build().eval()
    for parameter in model.decoder.parameters():
        parameter.requires_grad = not freeze
    with torch.no_grad():
        for layer in (model.decoder.from_head, model.decoder.from_dependent, model.decoder.output):
            layer.weight *= 4
    return ParsingProblem(model, TREE_FAMILIES[family](single_root=False)), batch_of(model, target_sentences())


def target_sentences() -> list[tuple[str, ...]]:
    path = bundled("tiny-target").unlabeled
    assert path is not None
    short = [s.forms for s in read_treebank(path, trees="ignore").sentences if len(s) <= 5]
    return [forms[: 3 + number % 2] for number, forms in enumerate(short[:6])]


def batch_of(model: ParserModel, sentences: list[tuple[str, ...]]) -> Batch:
    return model.indexer.batch([model.indexer.encode(forms) for forms in sentences])


def gradients(problem: ParsingProblem) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in problem.model.named_parameters() if p.grad is not None}
    problem.model.zero_grad()
    return found


@pytest.mark.parametrize("family", TREE_FAMILIES)
def test_enumeration_is_the_gradient_sentence_by_sentence_and_tree_by_tree(build: Build, family: str) -> None:
    problem, batch = target_problem(build, family, freeze=False)
    total = torch.zeros(())
    for sentence in target_sentences():
        alone = batch_of(problem.model, [sentence])
        scores = problem.scores(alone)
        trees = problem.structure.enumerate(tuple(scores.shape[1:])).float()
        weights = torch.stack([(scores[0] * tree).sum() for tree in trees]).softmax(0)
        losses = torch.stack([problem.reconstruction(alone, tree[None])[0] for tree in trees])
        total = total + (weights * losses).sum() / len(batch.lengths)
    total.backward()
    expected = gradients(problem)
    estimate = Enumeration[Batch]().backward(problem, batch, torch.Generator())
    assert estimate.objective == pytest.approx(float(total.detach()), abs=1e-5)
    found = gradients(problem)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_gradients_reach_the_encoder_and_the_decoder_unless_it_is_frozen(
    build: Build, name: str, family: str, frozen: bool
) -> None:
    problem, batch = target_problem(build, family, freeze=frozen)
    MADE[name].check(problem)
    MADE[name].backward(problem, batch, torch.Generator().manual_seed(1))
    found = gradients(problem)
    assert all(bool(gradient.isfinite().all()) for gradient in found.values())
    moved = {parameter for parameter, gradient in found.items() if bool((gradient != 0).any())}
    assert {"encoder.embedding.words.weight", "encoder.embedding.characters.weight"} <= moved
    assert not any(parameter.startswith(("encoder.labels.", "encoder.tags.")) for parameter in found)
    decoder = {parameter for parameter in found if parameter.startswith("decoder.")}
    assert bool(decoder) == (not frozen and name != "entropy")


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_the_exact_objective_falls(build: Build, name: str, family: str) -> None:
    problem, batch = target_problem(build, family, freeze=True)
    method, generator = MADE[name], torch.Generator().manual_seed(0)
    judge: Method[Batch] = Entropy("object") if name == "entropy" else Enumeration()
    optimiser = torch.optim.Adam(list(problem.model.encoder.parameters()), lr=0.01)
    before = judge.backward(problem, batch, generator).objective
    for _ in range(12):
        optimiser.zero_grad()
        method.backward(problem, batch, generator)
        optimiser.step()
    assert judge.backward(problem, batch, generator).objective < before - 0.02


@pytest.mark.parametrize(
    "method",
    [
        Enumeration(),
        Entropy(),
        Entropy("object"),
        DifferentiablePerturbAndParse(noise="none"),
        SparseMAP(noise="none", max_iter=1000),
        Relaxed(noise="none", temperature=0.5),
    ],
    ids=lambda method: f"{method.name}-{getattr(method, 'of', '')}",
)
def test_padding_changes_no_gradient(build: Build, method: Method[Batch]) -> None:
    problem, batch = target_problem(build, "projective", freeze=True)
    method.backward(problem, batch, torch.Generator())
    together = gradients(problem)
    for sentence in target_sentences():
        alone = batch_of(problem.model, [sentence])
        method.backward(problem, alone, torch.Generator(), weight=1 / len(batch.lengths))
    for name, gradient in gradients(problem).items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-3, atol=2e-5)


def test_perturb_and_parse_is_for_projective_trees(build: Build) -> None:
    problem, _ = target_problem(build, "spanning", freeze=True)
    with pytest.raises(IncompatibleError, match="'dpp' needs smoothed_argmax, which the structure 'spanning'"):
        DifferentiablePerturbAndParse[Batch]().check(problem)
