"""Words from their heads: a loss per arc, learnt from gold trees."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from parser_vae.parsing.arc_decoder import ArcDecoder
from parser_vae.parsing.batches import Indexer
from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.parsing.storage import extend_with_target, model_manifest, model_tensors, restore
from parser_vae.parsing.tree_decoder import DecoderSettings
from parser_vae.parsing.vocabulary import Vocabulary
from parser_vae.structures.projective import ProjectiveTrees
from parser_vae.structures.trees import heads_to_arcs
from parser_vae.training.heldout import encode
from parser_vae.treebank.catalog import bundled
from parser_vae.treebank.conllu import read_treebank

from .conftest import Build, gold_batch


def one_loss(decoder: ArcDecoder, model: ParserModel, forms: list[str], head: int, dependent: int) -> float:
    """The loss of one arc, as the class says in words."""
    encoded = model.indexer.encode(forms)
    if decoder.vectors is None:
        vector = decoder.words.weight[encoded.words[head]]
    else:
        row = encoded.vectors[head]
        vector = decoder.special_vectors[row] if row < 2 else decoder.vectors[row - 2]
    side = int(dependent > head)
    distance = abs(dependent - head)
    place = 5 if head == 0 else next(i for i, most in enumerate((1, 2, 4, 8, math.inf)) if distance <= most)
    state = torch.tanh(decoder.sides[side](vector)) + decoder.places[side, place]
    return -float(decoder.output(state).log_softmax(0)[encoded.decoder_words[dependent]].detach())


@pytest.mark.parametrize("vectors", [True, False])
def test_a_trees_loss_is_the_sum_of_its_arcs_losses(build: Build, vectors: bool) -> None:
    model = build(decoder="arcs", vectors=vectors).double()
    decoder = model.decoder
    assert isinstance(decoder, ArcDecoder)
    with torch.no_grad():
        decoder.places.copy_(torch.randn(decoder.places.shape, generator=torch.Generator().manual_seed(2)))
    sentences = [["the", "dog", "saw", "zebras"], ["a", "cat", "and", "a", "dog", "saw", "the", "old", "dog", "bark"]]
    batch = model.indexer.batch([model.indexer.encode(forms) for forms in sentences])
    losses = decoder.context(batch).losses.detach()
    for row, forms in enumerate(sentences):
        for head in range(11):
            for dependent in range(11):
                inside = 0 < dependent <= len(forms) and head <= len(forms) and head != dependent
                expected = one_loss(decoder, model, forms, head, dependent) if inside else 0.0
                assert float(losses[row, head, dependent]) == pytest.approx(expected, abs=1e-9)
    heads = torch.tensor([[0, 2, 3, 0, 3, 0, 0, 0, 0, 0, 0], [0, 2, 6, 5, 5, 2, 0, 9, 9, 6, 6]])
    tree = heads_to_arcs(heads, batch.lengths).double()
    problem = ParsingProblem(model, ProjectiveTrees())
    expected = [
        sum(float(losses[row, heads[row, word], word]) for word in range(1, len(forms) + 1)) / len(forms)
        for row, forms in enumerate(sentences)
    ]
    assert problem.reconstruction(batch, tree).tolist() == pytest.approx(expected)
    soft = 0.25 * tree + 0.75 * torch.rand(tree.shape, generator=torch.Generator().manual_seed(0), dtype=tree.dtype)
    assert problem.reconstruction(batch, soft).tolist() == pytest.approx(
        [float((soft[i] * losses[i]).sum()) / len(forms) for i, forms in enumerate(sentences)]
    )
    torch.testing.assert_close(
        problem.population_reconstruction(batch, [tree.bool(), tree.bool()]),
        problem.reconstruction(batch, tree).expand(2, -1),
    )


@pytest.mark.parametrize("vectors", [True, False])
def test_storage_and_target_words(build: Build, vectors: bool) -> None:
    model = build(decoder="arcs", vectors=vectors).eval()
    again = restore(model_tensors(model), model_manifest(model), Path("x")).eval()
    assert torch.equal(model.decoder.context(gold_batch(model)).losses, again.decoder.context(gold_batch(again)).losses)
    extended = extend_with_target(model, [["zebra", "zebra", "dog"]]).eval()
    forms = ["the", "zebra", "saw", "dogs"]
    before, after = (
        m.decoder.context(m.indexer.batch([m.indexer.encode(forms)])).losses.detach() for m in (model, extended)
    )
    torch.testing.assert_close(after[:, :, [1, 3, 4]], before[:, :, [1, 3, 4]])
    arcs = before[:, [0, 1, 3, 4], 2] + math.log(2)  # "zebra" was any other word, and has half of its probability now
    torch.testing.assert_close(after[:, [0, 1, 3, 4], 2], arcs)


def test_gold_trees_cost_less_than_random_ones_after_a_short_training() -> None:
    source = bundled("tiny-source")
    assert source.train and source.dev
    train, dev = (read_treebank(path).sentences for path in (source.train, source.dev))
    torch.manual_seed(0)
    vocabulary = Vocabulary.build(((s.forms, s.upos, s.deprels) for s in train), "fullmatch")
    decoder = ArcDecoder(DecoderSettings(kind="arcs", hidden=32), vocabulary, None)
    index = Indexer(vocabulary, [])
    encoded = [encode(index, sentence) for sentence in train]
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(4):
        for start in range(0, len(encoded), 16):
            batch = index.batch(encoded[start : start + 16])
            assert batch.heads is not None
            optimiser.zero_grad()
            gold = heads_to_arcs(batch.heads, batch.lengths)
            decoder.reconstruction(decoder.context(batch), gold).mean().backward()
            optimiser.step()
    batch = index.batch([encode(index, sentence) for sentence in dev])
    assert batch.heads is not None
    context = decoder.context(batch)
    shape = (len(batch), batch.words.shape[1], batch.words.shape[1])
    generator = torch.Generator().manual_seed(0)
    random = ProjectiveTrees().sample(torch.zeros(shape), batch.lengths, generator=generator, count=5)
    with torch.no_grad():
        gold = decoder.reconstruction(context, heads_to_arcs(batch.heads, batch.lengths))
        gap = decoder.population_reconstruction(context, random).mean(0) - gold
    assert float(gap.mean()) > 3 * float(gap.std()) / math.sqrt(len(gap))
    assert float(gap.mean()) > 0.1
