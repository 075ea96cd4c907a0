"""The decoder ``arcs``: every word is generated from its head, on its own.

As in a conditional random field autoencoder (Ammar, Dyer and Smith 2014; for dependency trees Cai, Jiang and Tu 2017),
but with a log-bilinear model in place of a table. The loss of a tree is a sum over its arcs, so its expectation under
a tree distribution is exact by arc marginals, and the tree of least loss is an argmax.

What is generated of a word is its form, among the decoder's words; or its class, a cluster of word vectors; or its
UPOS tag, gold in training and predicted in raw text. The head is seen as a word in any case.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parser_vae.parsing.batches import Batch
from parser_vae.parsing.encoder import external_vectors
from parser_vae.parsing.layers import uniform_
from parser_vae.parsing.tree_decoder import DecoderSettings, TreeDecoder
from parser_vae.parsing.vocabulary import Vocabulary

LONGEST = (1, 2, 4, 8)  # words between which distances share a place; longer ones are the fifth, the root's the last
PLACES = len(LONGEST) + 2


@dataclass(frozen=True)
class ArcContext:
    """The losses of a batch.

    Attributes:
        losses: ``-log p(dependent | head, direction, distance)`` ``[batch, head, dependent]``, in nats; 0 where there
            can be no arc, and of words whose tag is unknown.
        lengths: Words per sentence ``[batch]``.
    """

    losses: Tensor
    lengths: Tensor


class ArcDecoder(TreeDecoder[ArcContext]):
    """``p(word | head, side, distance) = softmax(O (tanh(W_side head + b_side) + e_side,distance) + c)``.

    Attributes:
        classes: The class of each row of vectors ``[rows]``, where classes are generated; set before training.
    """

    is_additive = True

    def __init__(self, settings: DecoderSettings, vocabulary: Vocabulary, vectors: Tensor | None) -> None:
        super().__init__()
        self.settings = settings
        self.vectors: Tensor | None
        self.register_buffer("vectors", vectors, persistent=False)
        size = settings.hidden
        inputs = size if vectors is None else vectors.shape[1]
        if vectors is None:
            self.words = nn.Embedding(len(vocabulary.words), size)
            uniform_(self.words.weight.data, size)
        else:
            self.special_vectors = nn.Parameter(uniform_(torch.empty(2, inputs), inputs))
        self.sides = nn.ModuleList(nn.Linear(inputs, size) for _ in range(2))
        self.places = nn.Parameter(torch.zeros(2, PLACES, size))
        self.classes: Tensor | None
        by_row = torch.zeros(2 if vectors is None else len(vectors) + 2, dtype=torch.int64)
        self.register_buffer("classes", by_row if settings.generates == "classes" else None)
        counts = {"forms": len(vocabulary.decoder_words), "classes": settings.classes + 1, "tags": len(vocabulary.upos)}
        self.output = nn.Linear(size, counts[settings.generates])
        for layer in (*self.sides, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def context(self, batch: Batch) -> ArcContext:
        """Return the loss of every arc; the softmax runs once for each distinct head word, side and distance.

        Its logits are a sum of a term of the head and one of the distance, so the normaliser of all distances at once
        is a product of two matrices of exponentials.
        """
        rows, head = (batch.words if self.vectors is None else batch.vectors).unique(return_inverse=True)
        if self.vectors is None:
            inputs = self.words(rows)
        else:
            inputs = external_vectors(self.vectors, self.special_vectors, rows)
        of_head = self.output(torch.stack([torch.tanh(side(inputs)) for side in self.sides]))  # [side, distinct, class]
        of_place = self.places @ self.output.weight.T  # [side, place, class]
        head_most, place_most = of_head.detach().amax(-1), of_place.detach().amax(-1)
        sums = torch.exp(of_head - head_most[..., None]) @ torch.exp(of_place - place_most[..., None]).transpose(1, 2)
        tiny = torch.finfo(sums.dtype).tiny
        normaliser = sums.clamp_min(tiny).log() + head_most[..., None] + place_most[:, None]  # [side, distinct, place]
        nodes = batch.words.shape[1]
        side, place = _sides_and_places(nodes, head.device)
        generated = self.generated(batch)[:, None]
        head, word = head[:, :, None], generated.clamp_min(0)
        losses = normaliser[side, head, place] - of_head[side, head, word] - of_place[side, place, word]
        position = torch.arange(nodes, device=losses.device)
        possible = batch.word_mask[:, None] & (position <= batch.lengths[:, None])[:, :, None]
        possible = possible & (position[:, None] != position) & (generated >= 0)
        return ArcContext(torch.where(possible, losses, 0.0), batch.lengths)

    def generated(self, batch: Batch) -> Tensor:
        """Return what stands for each word ``[batch, L]``, as an index of the softmax; -1 for an unknown tag."""
        if self.settings.generates == "tags":
            if batch.upos is None:
                raise ValueError("this decoder generates tags, which the batch lacks; see encode_raw")
            return batch.upos
        return batch.decoder_words if self.classes is None else self.classes[batch.vectors]

    def reconstruction(self, context: ArcContext, arcs: Tensor) -> Tensor:
        """Return ``<arcs, losses> / length`` ``[batch]``: the expected loss, where arcs are marginals."""
        return (arcs * context.losses).sum((1, 2)) / context.lengths

    def population_reconstruction(self, context: ArcContext, trees: Tensor) -> Tensor:
        """Return ``reconstruction`` ``[members, batch]`` of 0/1 trees ``[members, batch, head, dependent]``."""
        return torch.stack([self.reconstruction(context, tree.to(context.losses.dtype)) for tree in trees])


def _sides_and_places(nodes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return for each arc ``[head, dependent]`` the side of its dependent (0: left) and the place of its distance."""
    position = torch.arange(nodes, device=device)
    offset = position - position[:, None]
    place = torch.bucketize(offset.abs(), torch.tensor(LONGEST, device=device))
    place[0] = PLACES - 1
    return (offset > 0).long(), place
