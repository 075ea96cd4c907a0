"""The parser model: shapes, conventions, learning and storage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parser_vae.errors import ModelFolderError
from parser_vae.parsing.encoder import DistanceBias
from parser_vae.parsing.model import head_log_probabilities, supervised_losses
from parser_vae.parsing.storage import extend_with_target, model_manifest, model_tensors, restore
from parser_vae.structures.trees import heads_to_arcs

from .conftest import FORMS, HEADS, Build, gold_batch


@pytest.mark.parametrize("preset", ["default", "kg"])
def test_padding_and_batch_order_change_nothing(build: Build, preset: str) -> None:
    model = build(preset).eval()
    with torch.no_grad():
        together = model.encoder.arc_scores(model.encoder.states(gold_batch(model))[-1])
        swapped = model.encoder.arc_scores(model.encoder.states(gold_batch(model, (2, 0, 3, 1)))[-1])
        for row, place in ((0, 1), (1, 3), (2, 0), (3, 2)):
            size = len(FORMS[row]) + 1
            alone = model.encoder.arc_scores(model.encoder.states(gold_batch(model, (row,)))[-1])[0]
            torch.testing.assert_close(together[row, :size, :size], alone, rtol=0, atol=2e-5)
            torch.testing.assert_close(swapped[place, :size, :size], alone, rtol=0, atol=2e-5)


def test_first_index_is_the_head(build: Build) -> None:
    model = build()
    scores = torch.zeros(1, 3, 3)
    scores[0, 2, 1], scores[0, 0, 2] = 5.0, 5.0  # word 2 heads word 1, the root heads word 2
    heads = model.structure.argmax_heads(scores, torch.tensor([2]))
    assert heads.tolist() == [[0, 2, 0]]
    chosen = head_log_probabilities(scores, torch.tensor([2]))[0].argmax(0)
    assert chosen[1:].tolist() == [2, 0]


def test_head_choice_is_a_distribution_over_other_words(build: Build) -> None:
    scores = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(0))
    probabilities = head_log_probabilities(scores, torch.tensor([5, 3])).exp()
    torch.testing.assert_close(probabilities.sum(1)[:, 1:4], torch.ones(2, 3))
    assert bool((probabilities.diagonal(dim1=1, dim2=2)[:, 1:] == 0).all())
    assert bool((probabilities[1, 4:, 1:4] == 0).all())


def test_distance_bias_tells_direction_distance_and_root_apart() -> None:
    bias = DistanceBias()
    bias.bias.data = torch.arange(float(len(bias.bias)))
    table = bias(60).detach()
    assert len(table[0].unique()) == 1
    assert table[3, 4] != table[4, 3]
    assert table[3, 4] == table[20, 21]
    assert table[1, 9] != table[1, 10]
    assert table[1, 10] == table[1, 17]
    assert len(table[1:, 1:].unique()) <= 2 * DistanceBias.BUCKETS


@pytest.mark.parametrize(
    ("preset", "family"), [("default", "projective"), ("kg", "projective"), ("default", "spanning")]
)
def test_a_tiny_treebank_is_learnt_by_heart(build: Build, preset: str, family: str) -> None:
    model = build(preset, family=family, dropout=0.0, word_dropout=0.0)
    batch = gold_batch(model)
    optimiser = torch.optim.Adam(model.encoder.parameters(), lr=0.02)
    for _ in range(80):
        optimiser.zero_grad()
        torch.stack(list(supervised_losses(model, batch).values())).sum().backward()
        optimiser.step()
    model.eval()
    heads, relations, _ = model.predict(batch)
    assert batch.heads is not None and batch.deprels is not None
    assert torch.equal(heads * batch.word_mask, batch.heads)
    assert bool((relations == batch.deprels)[batch.word_mask].all())


def test_weighted_words_alone_make_the_loss(build: Build) -> None:
    model = build(tagging=False).eval()
    whole = supervised_losses(model, gold_batch(model, (0,)))
    encoded = model.indexer.encode(FORMS[0], None, HEADS[0], ["det", "amod", "nsubj", "root", "det", "obj", "punct"])
    silent = model.indexer.batch([encoded], arc_weights=[[0.0] * len(FORMS[0])])
    half = model.indexer.batch([encoded], arc_weights=[[0.5] * len(FORMS[0])])
    assert float(supervised_losses(model, silent)["arcs"].detach()) == 0.0
    torch.testing.assert_close(2 * supervised_losses(model, half)["arcs"], whole["arcs"])


def test_gold_trees_explain_a_learnt_sentence_better_than_others(build: Build) -> None:
    model = build()
    batch = gold_batch(model)
    assert batch.heads is not None
    gold = heads_to_arcs(batch.heads, batch.lengths)
    chain = heads_to_arcs((torch.arange(gold.shape[1]) - 1).clamp(min=0).expand(4, -1), batch.lengths)
    optimiser = torch.optim.Adam(model.decoder.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        model.decoder.reconstruction(model.decoder.context(batch), gold).mean().backward()
        optimiser.step()
    context = model.decoder.context(batch)
    assert bool(
        (model.decoder.reconstruction(context, gold) < model.decoder.reconstruction(context, chain))[[0, 2]].all()
    )


@pytest.mark.parametrize("vectors", [True, False])
def test_storage_restores_the_same_model(build: Build, vectors: bool) -> None:
    model = build(vectors=vectors).eval()
    again = restore(model_tensors(model), model_manifest(model), Path("x")).eval()
    for first, second in zip(model.predict(gold_batch(model)), again.predict(gold_batch(again)), strict=True):
        assert torch.equal(first, second)


def test_storage_that_does_not_fit_is_one_clear_error(build: Build) -> None:
    model = build()
    tensors = model_tensors(model)
    del tensors["strings"]
    with pytest.raises(ModelFolderError, match=r"^runs/x: does not fit together \(.*\); train the model again$"):
        restore(tensors, model_manifest(model), Path("runs/x"))


@pytest.mark.parametrize("vectors", [True, False])
def test_target_words_change_no_score_and_share_the_unknown_words_probability(build: Build, vectors: bool) -> None:
    model = build(vectors=vectors).eval()
    extended = extend_with_target(model, [["zebra", "zebra", "dog"], ["zebra", "lynx", "lynx"]]).eval()
    assert extended.vocabulary.words[-2:] == ["zebra", "lynx"]
    assert extended.vocabulary.source_words == len(model.vocabulary.words)
    with torch.no_grad():
        before, after = (m.encoder.states(gold_batch(m))[-1] for m in (model, extended))
        assert torch.equal(before, after)
        hidden = torch.randn(3, model.decoder.settings.hidden)
        old, new = (m.decoder.output(hidden).softmax(-1) for m in (model, extended))
    known = old.shape[1]
    torch.testing.assert_close(new[:, 1:known], old[:, 1:])
    torch.testing.assert_close(new[:, 0] + new[:, known:].sum(1), old[:, 0])
    torch.testing.assert_close(new[:, known], new[:, 0])
