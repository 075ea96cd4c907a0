"""A trained model as its user sees it: a folder to load, sentences to parse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parser_vae.parsing.batches import Batch, token_batches
from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.storage import restore
from parser_vae.training.checkpoint import read_model
from parser_vae.treebank.sentence import Sentence

TOKENS_PER_BATCH = 2000  # about what the caches hold; larger batches parse up to a quarter slower on one core
SENTENCES_PER_BATCH = 512


@dataclass(frozen=True)
class Analysis:
    """What the model finds for one sentence of n words; position 0 of the matrices is the root.

    Attributes:
        heads: The head of each word, 0 for the root.
        deprels: The relation of each word.
        arc_scores: ``[head, dependent]`` of shape ``[n + 1, n + 1]``; column 0 and the diagonal mean nothing.
        marginals: The probability of each arc, ``[head, dependent]``, where asked for.
    """

    heads: list[int]
    deprels: list[str]
    arc_scores: Tensor
    marginals: Tensor | None


class Parser:
    """A trained parser.

    Attributes:
        model: The network.
        manifest: What the model folder says of itself: settings, data, scores.
    """

    def __init__(self, model: ParserModel, manifest: dict[str, Any], device: torch.device | str = "cpu") -> None:
        self.model = model.to(device).eval()
        self.manifest = manifest
        self.device = torch.device(device)

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> Parser:
        """Return the parser in a model folder.

        Raises:
            ModelFolderError: There is no model, it is damaged, or it needs a newer version.
        """
        stored = read_model(Path(folder))
        return cls(restore(stored.tensors, stored.manifest, Path(folder)), stored.manifest, device)

    def parse(
        self, sentences: Iterable[Sentence], confidence: bool = False, clear_deps: bool = False
    ) -> list[Sentence]:
        """Return the sentences with the predicted trees in HEAD and DEPREL, everything else as it was.

        Args:
            sentences: In any order; existing trees are not looked at.
            confidence: Also write the probability of each word's arc into MISC, as ``ArcConfidence=0.98``.
            clear_deps: Also empty the DEPS column, whose old content may contradict the new tree.
        """
        wanted = list(sentences)
        parsed: list[Sentence | None] = [None] * len(wanted)
        labels = self.model.vocabulary.deprels
        for group, batch in self._batches(wanted):
            heads, relations, scores = self.model.predict(batch)
            head_rows, relation_rows = heads.tolist(), relations.tolist()
            sure = None
            if confidence:
                marginals = self.model.structure.marginals(scores, batch.lengths)
                sure = marginals.gather(1, heads[:, None]).squeeze(1).tolist()
            for row, index in enumerate(group):
                end = len(wanted[index]) + 1
                parsed[index] = wanted[index].with_tree(
                    head_rows[row][1:end],
                    [labels[relation] for relation in relation_rows[row][1:end]],
                    misc=None if sure is None else [f"ArcConfidence={value:.4f}" for value in sure[row][1:end]],
                    clear_deps=clear_deps,
                )
        return [sentence for sentence in parsed if sentence is not None]

    def analyse(self, sentences: Iterable[Sentence], marginals: bool = False) -> list[Analysis]:
        """Return heads, relations, arc scores and, if asked for, arc marginals of each sentence."""
        wanted = list(sentences)
        found: list[Analysis | None] = [None] * len(wanted)
        labels = self.model.vocabulary.deprels
        for group, batch in self._batches(wanted):
            heads, relations, scores = self.model.predict(batch)
            soft = self.model.structure.marginals(scores, batch.lengths) if marginals else None
            for row, index in enumerate(group):
                end = len(wanted[index]) + 1
                found[index] = Analysis(
                    heads=heads[row, 1:end].tolist(),
                    deprels=[labels[relation] for relation in relations[row, 1:end].tolist()],
                    arc_scores=scores[row, :end, :end],
                    marginals=None if soft is None else soft[row, :end, :end],
                )
        return [analysis for analysis in found if analysis is not None]

    def _batches(self, sentences: Sequence[Sentence]) -> Iterator[tuple[list[int], Batch]]:
        indexer = self.model.indexer
        encoded = [indexer.encode(sentence.forms) for sentence in sentences]
        for group in token_batches([s.length for s in encoded], TOKENS_PER_BATCH, SENTENCES_PER_BATCH):
            yield group, indexer.batch([encoded[index] for index in group]).to(self.device)
