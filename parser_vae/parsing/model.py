"""The whole model: encoder and decoder over one vocabulary, one table of word vectors and one family of trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from parser_vae.parsing.arc_decoder import ArcDecoder
from parser_vae.parsing.batches import Batch, Encoded, Indexer, token_batches
from parser_vae.parsing.decoder import Decoder
from parser_vae.parsing.encoder import Encoder, EncoderSettings
from parser_vae.parsing.tree_decoder import DecoderKind, DecoderSettings, TreeDecoder
from parser_vae.parsing.vocabulary import Vocabulary
from parser_vae.structures.projective import ProjectiveTrees
from parser_vae.structures.spanning import SpanningTrees
from parser_vae.structures.trees import TreeStructure

TreeFamily = Literal["projective", "spanning"]
TREE_FAMILIES: dict[TreeFamily, type[TreeStructure]] = {"projective": ProjectiveTrees, "spanning": SpanningTrees}

DECODERS: dict[DecoderKind, type[TreeDecoder[Any]]] = {"lm": Decoder, "arcs": ArcDecoder}


class ParserModel(nn.Module):
    """A parser (encoder) and a judge of trees (decoder) that share words and vectors.

    Attributes:
        vector_words: The words of ``vectors``, in row order; empty without external vectors.
        structure: The family of trees that ``parse`` searches.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        decoder: DecoderSettings,
        vocabulary: Vocabulary,
        vector_words: Sequence[str],
        vectors: Tensor | None,
        family: TreeFamily,
    ) -> None:
        super().__init__()
        self.vocabulary, self.vector_words, self.family = vocabulary, list(vector_words), family
        self.indexer = Indexer(vocabulary, self.vector_words)
        self.encoder = Encoder(encoder, vocabulary, vectors)
        self.decoder = DECODERS[decoder.kind](decoder, vocabulary, vectors)
        self.structure = TREE_FAMILIES[family](single_root=True)

    @torch.inference_mode()
    def predict(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return heads ``[batch, L]``, relation indices ``[batch, L]`` and ``arc_scores [batch, head, dependent]``."""
        states = self.encoder.states(batch)[-1]
        scores = self.encoder.arc_scores(states)
        heads = self.structure.argmax_heads(scores, batch.lengths)
        return heads, self.encoder.label_scores(states, heads).argmax(-1), scores


@torch.inference_mode()
def encode_raw(indexer: Indexer, sentences: Sequence[Sequence[str]], source: ParserModel) -> list[Encoded]:
    """Return raw sentences as indices, with the tags that ``source`` predicts where its decoder generates tags.

    What is to be reconstructed must not change while a parser is adapted, so tags are predicted once.
    """
    encoded = [indexer.encode(forms) for forms in sentences]
    if source.decoder.settings.generates != "tags":
        return encoded
    was_training = source.training
    source.eval()
    own = [source.indexer.encode(forms) for forms in sentences]
    for group in token_batches([sentence.length for sentence in own], 4000, 256):
        batch = source.indexer.batch([own[index] for index in group])
        tags = source.encoder.tag_scores(source.encoder.states(batch)).argmax(-1)
        for row, index in enumerate(group):
            predicted = tags[row, 1 : own[index].length + 1].tolist()
            encoded[index] = replace(encoded[index], upos=[-1, *predicted])
    source.train(was_training)
    return encoded


def head_log_probabilities(arc_scores: Tensor, lengths: Tensor) -> Tensor:
    """Return ``log p(head | dependent)`` ``[batch, head, dependent]``, each word choosing its head on its own.

    A word may not be its own head; padding is no head.
    """
    nodes = arc_scores.shape[1]
    position = torch.arange(nodes, device=arc_scores.device)
    forbidden = (position > lengths[:, None])[:, :, None] | (position[:, None] == position)
    forbidden = forbidden & (position > 0)  # column 0 is never read; keep it finite
    return arc_scores.masked_fill(forbidden, -torch.inf).log_softmax(1)


def supervised_losses(model: ParserModel, batch: Batch) -> dict[str, Tensor]:
    """Return the mean losses per word of a batch with gold trees: ``arcs``, ``labels`` and, if learnt, ``tags``.

    Head choice is a softmax over possible heads of each word; relations are scored on gold heads. ``arc_weights``
    scale the first two, word by word.
    """
    assert batch.heads is not None and batch.deprels is not None
    layers = model.encoder.states(batch)
    states = layers[-1]
    mask = batch.word_mask
    weights = mask.to(states.dtype) if batch.arc_weights is None else batch.arc_weights.to(states.dtype) * mask
    total = mask.sum()
    choices = head_log_probabilities(model.encoder.arc_scores(states), batch.lengths)
    if batch.head_targets is None:
        chosen = choices.gather(1, batch.heads[:, None]).squeeze(1)
    else:
        chosen = (batch.head_targets * choices.clamp_min(torch.finfo(choices.dtype).min)).sum(1)
    losses = {"arcs": -torch.where(mask, chosen, 0.0).mul(weights).sum() / total}
    label_scores = model.encoder.label_scores(states, batch.heads)
    labels = nn.functional.cross_entropy(
        label_scores.flatten(0, 1), batch.deprels.flatten(), ignore_index=-1, reduction="none"
    )
    losses["labels"] = (labels.view_as(weights) * weights).sum() / total
    if model.encoder.tags is not None and batch.upos is not None and bool((batch.upos >= 0).any()):
        tags = model.encoder.tag_scores(layers)
        losses["tags"] = nn.functional.cross_entropy(tags.flatten(0, 1), batch.upos.flatten(), ignore_index=-1)
    return losses
