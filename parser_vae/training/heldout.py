"""Labelled sentences that judge a model while it trains."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parser_vae.evaluation.attachment import is_punctuation
from parser_vae.parsing.batches import Batch, Encoded, Indexer, token_batches
from parser_vae.parsing.model import ParserModel
from parser_vae.structures.trees import heads_to_arcs
from parser_vae.treebank.sentence import Sentence

TOKENS_PER_BATCH = 4000


def encode(indexer: Indexer, sentence: Sentence) -> Encoded:
    """Return the sentence as indices, with its gold annotation."""
    return indexer.encode(sentence.forms, sentence.upos, [head or 0 for head in sentence.heads], sentence.deprels)


def hold_out(sentences: Sequence[Sentence], share: float = 0.1) -> tuple[list[Sentence], list[Sentence]]:
    """Return (train, dev): about ``share`` of the sentences as dev, the same ones in every run.

    A sentence's words decide its part, so repeated sentences stay together and order does not matter.
    """
    train: list[Sentence] = []
    dev: list[Sentence] = []
    for sentence in sentences:
        digest = hashlib.sha256("\t".join(sentence.forms).encode()).digest()
        (dev if int.from_bytes(digest[:4]) < share * 2**32 else train).append(sentence)
    return train, dev


@dataclass(frozen=True)
class _Judged:
    """A batch with the words that count."""

    batch: Batch
    counted: Tensor


class HeldOut:
    """Attachment scores (punctuation excluded, in percent) and reconstruction on fixed sentences."""

    def __init__(self, indexer: Indexer, sentences: Sequence[Sentence]) -> None:
        encoded = [encode(indexer, sentence) for sentence in sentences]
        self._batches: list[_Judged] = []
        for group in token_batches([s.length for s in encoded], TOKENS_PER_BATCH, 256):
            batch = indexer.batch([encoded[index] for index in group])
            counted = torch.zeros_like(batch.words, dtype=torch.bool)
            for row, index in enumerate(group):
                for position, form in enumerate(sentences[index].forms, start=1):
                    counted[row, position] = not is_punctuation(form)
            self._batches.append(_Judged(batch, counted))

    @torch.no_grad()
    def values(self, model: ParserModel) -> dict[str, float]:
        """Return ``dev_uas`` and ``dev_las`` in percent and ``dev_reconstruction`` of gold trees, in nats a word,
        the mean over sentences.
        """
        attached = labelled = total = sentences = 0
        reconstruction = 0.0
        for judged in self._batches:
            batch, counted = judged.batch, judged.counted
            assert batch.heads is not None and batch.deprels is not None
            heads, relations, _ = model.predict(batch)
            right = (heads == batch.heads) & counted
            attached += int(right.sum())
            labelled += int((right & (relations == batch.deprels)).sum())
            total += int(counted.sum())
            arcs = heads_to_arcs(batch.heads, batch.lengths)
            losses = model.decoder.reconstruction(model.decoder.context(batch), arcs)
            reconstruction += float(losses.sum())
            sentences += len(batch)
        return {
            "dev_uas": 100 * attached / max(1, total),
            "dev_las": 100 * labelled / max(1, total),
            "dev_reconstruction": reconstruction / max(1, sentences),
        }
