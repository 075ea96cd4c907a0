"""Words from their heads: a loss per arc, learnt from gold trees."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from parser_vae.parsing.arc_decoder import ArcDecoder
from parser_vae.parsing.batches import Encoded, Indexer
from parser_vae.parsing.model import encode_raw
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.parsing.storage import extend_with_target, model_manifest, model_tensors, restore
from parser_vae.parsing.tree_decoder import DecoderSettings
from parser_vae.parsing.vocabulary import Vocabulary
from parser_vae.parsing.word_classes import word_classes
from parser_vae.structures.projective import ProjectiveTrees
from parser_vae.structures.trees import heads_to_arcs
from parser_vae.training.heldout import encode
from parser_vae.treebank.catalog import bundled
from parser_vae.treebank.conllu import read_treebank

from .conftest import Build, gold_batch

SENTENCES = [["the", "dog", "saw", "zebras"], ["a", "cat", "and", "a", "dog", "saw", "the", "old", "dog", "bark"]]
TAGS = [  # SYM is unknown
    ["DET", "NOUN", "VERB", "SYM"],
    ["DET", "NOUN", "CCONJ", "DET", "NOUN", "VERB", "DET", "ADJ", "NOUN", "VERB"],
]
KINDS = [(True, "forms"), (False, "forms"), (True, "classes"), (True, "tags"), (False, "tags")]


def one_loss(decoder: ArcDecoder, encoded: Encoded, head: int, dependent: int) -> float:
    """The loss of one arc, as the class says in words."""
    if decoder.vectors is None:
        vector = decoder.words.weight[encoded.words[head]]
    else:
        row = encoded.vectors[head]
        vector = decoder.special_vectors[row] if row < 2 else decoder.vectors[row - 2]
    side = int(dependent > head)
    distance = abs(dependent - head)
    place = 5 if head == 0 else next(i for i, most in enumerate((1, 2, 4, 8, math.inf)) if distance <= most)
    state = torch.tanh(decoder.sides[side](vector)) + decoder.places[side, place]
    if decoder.settings.generates == "classes":
        assert decoder.classes is not None
        generated = int(decoder.classes[encoded.vectors[dependent]])
    elif decoder.settings.generates == "tags":
        assert encoded.upos is not None
        generated = encoded.upos[dependent]
    else:
        generated = encoded.decoder_words[dependent]
    return 0.0 if generated < 0 else -float(decoder.output(state).log_softmax(0)[generated].detach())


@pytest.mark.parametrize(("vectors", "generates"), KINDS)
def test_a_trees_loss_is_the_sum_of_its_arcs_losses(build: Build, vectors: bool, generates: str) -> None:
    model = build(decoder="arcs", vectors=vectors, generates=generates).double()
    decoder = model.decoder
    assert isinstance(decoder, ArcDecoder)
    with torch.no_grad():
        decoder.places.copy_(torch.randn(decoder.places.shape, generator=torch.Generator().manual_seed(2)))
    encoded = [model.indexer.encode(forms, tags) for forms, tags in zip(SENTENCES, TAGS, strict=True)]
    batch = model.indexer.batch(encoded)
    losses = decoder.context(batch).losses.detach()
    for row, forms in enumerate(SENTENCES):
        for head in range(11):
            for dependent in range(11):
                inside = 0 < dependent <= len(forms) and head <= len(forms) and head != dependent
                expected = one_loss(decoder, encoded[row], head, dependent) if inside else 0.0
                assert float(losses[row, head, dependent]) == pytest.approx(expected, abs=1e-9)
    heads = torch.tensor([[0, 2, 3, 0, 3, 0, 0, 0, 0, 0, 0], [0, 2, 6, 5, 5, 2, 0, 9, 9, 6, 6]])
    tree = heads_to_arcs(heads, batch.lengths).double()
    problem = ParsingProblem(model, ProjectiveTrees())
    expected = [
        sum(float(losses[row, heads[row, word], word]) for word in range(1, len(forms) + 1)) / len(forms)
        for row, forms in enumerate(SENTENCES)
    ]
    assert problem.reconstruction(batch, tree).tolist() == pytest.approx(expected)
    soft = 0.25 * tree + 0.75 * torch.rand(tree.shape, generator=torch.Generator().manual_seed(0), dtype=tree.dtype)
    assert problem.reconstruction(batch, soft).tolist() == pytest.approx(
        [float((soft[i] * losses[i]).sum()) / len(forms) for i, forms in enumerate(SENTENCES)]
    )
    torch.testing.assert_close(
        problem.population_reconstruction(batch, [tree.bool(), tree.bool()]),
        problem.reconstruction(batch, tree).expand(2, -1),
    )
    for part, row in zip((batch.part(slice(0, 1)), batch.part(slice(1, 2))), losses, strict=True):
        nodes = part.words.shape[1]
        torch.testing.assert_close(decoder.context(part).losses[0].detach(), row[:nodes, :nodes])


@pytest.mark.parametrize(("vectors", "generates"), KINDS[2:])
def test_tags_and_classes_are_stored_and_mean_the_same_to_a_model_that_knows_the_targets_words(
    build: Build, vectors: bool, generates: str
) -> None:
    model = build(decoder="arcs", vectors=vectors, generates=generates).eval()
    again = restore(model_tensors(model), model_manifest(model), Path("x")).eval()
    extended = extend_with_target(model, [["zebra", "zebra", "dog"]]).eval()
    forms = ["the", "zebra", "saw", "dogs"]
    before, *others = (
        m.decoder.context(m.indexer.batch(encode_raw(m.indexer, [forms], m))).losses for m in (model, again, extended)
    )
    for losses in others:
        torch.testing.assert_close(losses, before)


def test_raw_text_has_the_tags_of_the_source_parser_whoever_reads_it(build: Build) -> None:
    source = build(decoder="arcs", generates="tags").train()
    student = build(decoder="arcs", generates="tags")
    student.indexer.encode(["dog", "bark"])  # other spellings first
    read = encode_raw(student.indexer, SENTENCES, source)
    assert source.training
    source.eval()
    for forms, encoded in zip(SENTENCES, read, strict=True):
        batch = source.indexer.batch([source.indexer.encode(forms)])
        expected = source.encoder.tag_scores(source.encoder.states(batch)).argmax(-1)[0, 1:].tolist()
        assert encoded.upos == [-1, *expected]
        assert replace(encoded, upos=None) == student.indexer.encode(forms)
    plain = build(decoder="arcs")
    assert encode_raw(plain.indexer, SENTENCES, plain)[0].upos is None
    with pytest.raises(ValueError, match=r"^this decoder generates tags, which the batch lacks"):
        source.decoder.context(source.indexer.batch([source.indexer.encode(SENTENCES[0])]))


def test_words_with_like_vectors_share_a_class() -> None:
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    vectors = directions[[0, 1, 2, 0, 1]] * torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])[:, None]
    unknown, root, *classes = word_classes(vectors, 3, seed=0).tolist()
    assert (unknown, root) == (0, 0)
    assert classes[0] == classes[3] and classes[1] == classes[4]
    assert set(classes) == {1, 2, 3}
    assert set(word_classes(vectors, 50, seed=0).tolist()) == {0, 1, 2, 3}  # no more than there are vectors


def test_a_language_model_generates_forms() -> None:
    with pytest.raises(ValueError, match="generates = tags is for kind = arcs; lm generates forms"):
        DecoderSettings(generates="tags")


@pytest.mark.parametrize("vectors", [True, False])
def test_storage_and_target_words(build: Build, vectors: bool) -> None:
    model = build(decoder="arcs", vectors=vectors).eval()
    again = restore(model_tensors(model), model_manifest(model), Path("x")).eval()
    assert torch.equal(model.decoder.context(gold_batch(model)).losses, again.decoder.context(gold_batch(again)).losses)
    older = model_manifest(model)
    for setting in ("generates", "classes"):  # of a folder from before there were these
        del older["decoder"][setting]
    assert restore(model_tensors(model), older, Path("x")).decoder.settings.generates == "forms"
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
