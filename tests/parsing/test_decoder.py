"""The tree-conditioned language model against a step-by-step loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parser_vae.parsing.batches import Batch, Indexer
from parser_vae.parsing.decoder import Decoder
from parser_vae.parsing.tree_decoder import DecoderSettings
from parser_vae.parsing.vocabulary import END_OF_SENTENCE, Vocabulary
from parser_vae.structures.trees import heads_to_arcs

SENTENCES = [
    ["the", "old", "dog", "saw", "a", "cat"],
    ["dogs", "bark"],
    ["a", "cat", "saw", "the", "old", "old", "dog"],
]
HEADS = [[3, 3, 4, 0, 6, 4], [2, 0], [2, 3, 0, 7, 7, 7, 3]]
VARIANTS = [(a, e) for a in ("previous", "aligned") for e in (False, True)]


def setting(alignment: str, predict_end: bool, vectors: bool = True) -> tuple[Decoder, Batch, Tensor]:
    torch.manual_seed(0)
    upos = [["X"] * len(s) for s in SENTENCES]
    deprels = [["dep"] * len(s) for s in SENTENCES]
    vocabulary = Vocabulary.build(zip(SENTENCES, upos, deprels, strict=True), "off", decoder_min_count=1)
    words = vocabulary.words[2:]
    table = torch.randn(len(words), 7, dtype=torch.float64) if vectors else None
    settings = DecoderSettings.model_validate({"alignment": alignment, "predict_end": predict_end, "hidden": 5})
    decoder = Decoder(settings, vocabulary, table).double()
    indexer = Indexer(vocabulary, words if vectors else [])
    batch = indexer.batch([indexer.encode(s, heads=h) for s, h in zip(SENTENCES, HEADS, strict=True)])
    assert batch.heads is not None
    return decoder, batch, heads_to_arcs(batch.heads, batch.lengths).double()


def stepwise(decoder: Decoder, batch: Batch, arcs: Tensor, row: int) -> Tensor:
    """Return ``-log p`` per step of one sentence, reading word by word as the paper describes."""
    assert decoder.vectors is not None
    length = int(batch.lengths[row])
    shift = 1 if decoder.settings.alignment == "aligned" else 0
    state, outputs, losses = None, [], []
    for step in range(length + 1 if decoder.settings.predict_end else length):
        vector_row = int(batch.vectors[row, step])
        vector = decoder.vectors[vector_row - 2] if vector_row > 1 else decoder.special_vectors[vector_row]
        output, state = decoder.lstm(vector.view(1, 1, -1), state)
        outputs.append(output.view(-1))
        word = step + shift
        mixed = decoder.own(outputs[step])
        if word <= length:
            for sender in range(min(word, step + 1)):
                mixed = mixed + arcs[row, sender, word] * decoder.from_head(outputs[sender])
                mixed = mixed + arcs[row, word, sender] * decoder.from_dependent(outputs[sender])
        target = END_OF_SENTENCE if step == length else int(batch.decoder_words[row, step + 1])
        losses.append(-decoder.output(torch.tanh(mixed)).log_softmax(-1)[target])
    return torch.stack(losses)


@pytest.mark.parametrize(("alignment", "predict_end"), VARIANTS)
def test_vectorised_equals_stepwise(alignment: str, predict_end: bool) -> None:
    decoder, batch, arcs = setting(alignment, predict_end)
    inside = torch.arange(arcs.shape[1]) <= batch.lengths[:, None]
    soft = (arcs * 0.7 + 0.05) * (inside[:, :, None] & batch.word_mask[:, None])
    for trees in (arcs, soft):
        fast = decoder.reconstruction(decoder.context(batch), trees)
        for row in range(len(SENTENCES)):
            slow = stepwise(decoder, batch, trees, row).mean()
            torch.testing.assert_close(fast[row], slow, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("alignment", "predict_end"), VARIANTS)
def test_shared_softmax_equals_the_full_one(alignment: str, predict_end: bool) -> None:
    decoder, batch, arcs = setting(alignment, predict_end)
    chain = heads_to_arcs((torch.arange(arcs.shape[1]) - 1).clamp(min=0).expand(3, -1), batch.lengths)
    trees = torch.stack([arcs.bool(), chain.bool(), arcs.bool()])
    context = decoder.context(batch)
    expected = torch.stack([decoder.reconstruction(context, tree.double()) for tree in trees])
    torch.testing.assert_close(decoder.population_reconstruction(context, trees), expected, rtol=0, atol=1e-10)


def test_every_arc_is_seen_once_when_the_end_is_predicted() -> None:
    decoder, batch, arcs = setting("aligned", True)
    heads, dependents = decoder.messages(arcs, arcs.shape[1])
    assert heads.sum() + dependents.sum() == batch.lengths.sum()


def test_last_word_is_unseen_in_the_papers_alignment() -> None:
    decoder, batch, arcs = setting("previous", False)
    moved = arcs.clone()
    moved[0, :, 6] = 0
    moved[0, 1, 6] = 1
    context = decoder.context(batch)
    assert torch.equal(decoder.reconstruction(context, arcs), decoder.reconstruction(context, moved))


def test_padding_changes_nothing_and_soft_trees_have_gradients() -> None:
    decoder, batch, arcs = setting("aligned", True, vectors=False)
    together = decoder.reconstruction(decoder.context(batch), arcs)
    indexer_rows = [row[: int(n) + 1] for row, n in zip(batch.words, batch.lengths, strict=True)]
    assert len(indexer_rows[1]) == 3
    alone = Batch(
        **{name: getattr(batch, name)[1:2, :3] for name in ("words", "vectors", "spellings", "decoder_words")},
        characters=batch.characters,
        lengths=batch.lengths[1:2],
    )
    single = decoder.reconstruction(decoder.context(alone), arcs[1:2, :3, :3])
    torch.testing.assert_close(single[0], together[1], rtol=0, atol=1e-12)
    soft = arcs.clone().requires_grad_()
    context = decoder.context(batch)
    assert torch.autograd.gradcheck(lambda a: decoder.reconstruction(context, a), (soft,), atol=1e-6)
