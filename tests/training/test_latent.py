"""A gradient method beside a recipe: what it adds to a student's step, and what it is tied to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from parser_vae.errors import ConfigError, IncompatibleError
from parser_vae.parsing.encoder import EncoderSettings
from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.tree_decoder import DecoderSettings
from parser_vae.parsing.vocabulary import Vocabulary
from parser_vae.training.latent import LatentTerm
from parser_vae.training.loop import Plan
from parser_vae.training.settings import AdaptSettings
from parser_vae.training.supervised import Schedule, supervised_plan

SENTENCES = [["the", "dog", "sees", "it"], ["it", "barks"], ["the", "cat", "sees", "the", "dog"]]
HEADS = [[2, 3, 0, 3], [2, 0], [2, 3, 0, 5, 3]]
ANCHORED = {"objective": {"divergence": "anchor"}}
ON_SCORES = {"nes": {"perturb": "scores", "sigma": 1.0, "shaping": "raw", "population": 8}}
NVIL = {"score_function": {"baseline": "nvil", "hidden": 3}}


def parser(seed: int, decoder: str = "lm") -> ParserModel:
    torch.manual_seed(seed)
    vocabulary = Vocabulary.build(((forms, ["X"], ["a"]) for forms in SENTENCES), "off", decoder_min_count=1)
    sizes = {"hidden": 6, "layers": 1, "word_size": 6, "character_size": 3, "arc_size": 6, "label_size": 4}
    without = {"dropout": 0.0, "word_dropout": 0.0}
    encoder = EncoderSettings.model_validate(sizes | without)
    model = ParserModel(encoder, DecoderSettings(kind=decoder, hidden=4), vocabulary, [], None, "projective")
    model.decoder.requires_grad_(False)
    return model


def settings(more: dict[str, Any]) -> AdaptSettings:
    return AdaptSettings.model_validate({"data": {"model": "source", "target": ["raw.conllu"]}} | more)


def term(name: str, model: ParserModel, more: dict[str, Any], source: ParserModel | None = None) -> LatentTerm:
    raw = [model.indexer.encode(forms) for forms in SENTENCES]
    return LatentTerm(name, settings(more), model, raw, (source or model).encoder)


def plan_of(model: ParserModel) -> Plan:
    gold = [
        model.indexer.encode(forms, ["X"] * len(forms), heads, ["a"] * len(forms))
        for forms, heads in zip(SENTENCES, HEADS, strict=True)
    ]
    schedule = Schedule(epochs=1, batch_size=2, learning_rate=0.01, clip=5.0, average=0.0)
    return supervised_plan(
        model, [4, 2, 5], lambda rows: model.indexer.batch([gold[row] for row in rows]), schedule, dict, (), "a test"
    )


def gradient(model: ParserModel) -> dict[str, Tensor]:
    """The gradient as it stands, which is taken away."""
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize(
    ("name", "decoder", "more"),
    [
        ("nes", "lm", ON_SCORES | ANCHORED),
        ("nes", "lm", {"nes": {"population": 8, "sigma": 1.0}}),
        ("sparsemap", "lm", ANCHORED),
        ("dpp", "lm", {}),
        ("direct", "lm", {"direct": {"epsilon": 100.0}}),
        ("score_function", "lm", NVIL),
        ("entropy", "lm", {}),
        ("marginals", "arcs", ANCHORED),
    ],
)
def test_a_step_adds_the_weighted_gradient_on_as_many_raw_sentences(
    name: str, decoder: str, more: dict[str, Any]
) -> None:
    model = parser(0, decoder)
    alone = plan_of(model)
    alone.step([0, 2], 1, torch.Generator())
    of_trees = gradient(model)
    generator = torch.Generator().manual_seed(3)
    chosen = torch.randperm(3, generator=generator)[:2].tolist()
    estimate = term(name, model, more, parser(1, decoder)).backward(chosen, generator)
    of_words = gradient(model)
    assert any(bool(values.abs().sum()) for values in of_words.values())

    both = term(name, model, more, parser(1, decoder)).beside(plan_of(model), 0.25)
    values = both.step([0, 2], 1, torch.Generator().manual_seed(3))
    assert values["objective"] == pytest.approx(estimate.objective)
    assert values.keys() == {"arcs", "labels", "tags", "objective", "evaluations"}
    together = gradient(model)
    assert together.keys() == of_trees.keys()
    for parameter, found in together.items():
        expected = of_trees[parameter] + 0.25 * of_words.get(parameter, torch.zeros_like(found))
        torch.testing.assert_close(found, expected, msg=parameter)


def test_what_the_method_learns_is_trained_and_saved() -> None:
    model = parser(0)
    plan = term("score_function", model, NVIL).beside(plan_of(model), 1.0)
    assert plan.method_state is not None
    plan.step([0, 1], 1, torch.Generator().manual_seed(0))
    before = [parameter.detach().clone() for parameter in plan.method_state.parameters()]
    plan.optimiser.step()
    after = list(plan.method_state.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_the_divergence_is_to_the_source_parser_and_not_to_the_students_first_weights() -> None:
    student, source = parser(0).eval(), parser(1).eval()
    problem = term("entropy", student, ANCHORED, source).problem
    batch = student.indexer.batch([student.indexer.encode(forms) for forms in SENTENCES])
    with torch.no_grad():
        scores, prior = (model.encoder.arc_scores(model.encoder.states(batch)[-1]) for model in (student, source))
    divergence = problem.divergence(batch, scores)
    assert divergence is not None
    torch.testing.assert_close(divergence, problem.structure.kl(scores, prior, batch.lengths) / batch.lengths)
    assert float(divergence.min()) > 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^method 'magic' is unknown; parser-vae methods lists them: nes, "):
        term("magic", parser(0), {})
    with pytest.raises(IncompatibleError, match=r"^the method 'dpp' needs smoothed_argmax, "):
        term("dpp", parser(0), {"structure": "spanning"})
    with pytest.raises(
        ConfigError, match=r"^objective.decoder is arcs, but source was pretrained with the decoder lm; "
    ):
        term("nes", parser(0), {"objective": {"decoder": "arcs"}})
