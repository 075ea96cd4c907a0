"""Silver trees: what one parser or several agree on about raw sentences, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parser_vae.parsing.batches import Encoded, Indexer, token_batches
from parser_vae.parsing.model import ParserModel

TOKENS_PER_BATCH = 2000


@dataclass(frozen=True)
class SilverTree:
    """The tree of one sentence of n words by the mean of several parsers.

    Attributes:
        heads: The head of each word ``[n]``, 0 for the root.
        relations: Index of the relation of each word ``[n]`` among the parsers' relations.
        confidence: Mean probability of each word's arc ``[n]``.
        marginals: Mean probability of every arc ``[n + 1, n + 1]``, head by dependent.
    """

    heads: list[int]
    relations: list[int]
    confidence: list[float]
    marginals: Tensor


@torch.inference_mode()
def silver_trees(teachers: Sequence[ParserModel], sentences: Sequence[Sequence[str]]) -> list[SilverTree]:
    """Return the trees that maximise the expected number of arcs right under the teachers' mean arc marginals.

    The teachers share one list of relations; each has its own vocabulary and vectors. Relations maximise the mean
    of the teachers' relation probabilities given the chosen heads.
    """
    lengths = [len(forms) for forms in sentences]
    trees: list[SilverTree | None] = [None] * len(sentences)
    encoded = [[teacher.indexer.encode(forms) for forms in sentences] for teacher in teachers]
    for group in token_batches(lengths, TOKENS_PER_BATCH, 512):
        batches = [
            teacher.indexer.batch([rows[index] for index in group])
            for teacher, rows in zip(teachers, encoded, strict=True)
        ]
        states = [teacher.eval().encoder.states(batch)[-1] for teacher, batch in zip(teachers, batches, strict=True)]
        size = batches[0].lengths
        marginals = torch.stack(
            [
                teacher.structure.marginals(teacher.encoder.arc_scores(state), size)
                for teacher, state in zip(teachers, states, strict=True)
            ]
        ).mean(0)
        heads = teachers[0].structure.argmax_heads(marginals, size)
        relations = torch.stack(
            [
                teacher.encoder.label_scores(state, heads).softmax(-1)
                for teacher, state in zip(teachers, states, strict=True)
            ]
        ).mean(0)
        best = relations.argmax(-1)
        sure = marginals.gather(1, heads[:, None]).squeeze(1)
        for row, index in enumerate(group):
            end = lengths[index] + 1
            trees[index] = SilverTree(
                heads[row, 1:end].tolist(),
                best[row, 1:end].tolist(),
                sure[row, 1:end].tolist(),
                marginals[row, :end, :end].clone(),
            )
    return [tree for tree in trees if tree is not None]


def annotated(indexer: Indexer, forms: Sequence[str], tree: SilverTree) -> Encoded:
    """Return a sentence as indices with its silver tree; its tags stay unknown."""
    unknown = [-1] * (len(forms) + 1)
    return replace(indexer.encode(forms), upos=unknown, heads=[0, *tree.heads], deprels=[-1, *tree.relations])
