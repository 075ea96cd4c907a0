"""New parsers made after an old one: its sizes, vectors and language model, weights of their own."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from parser_vae.parsing.encoder import Encoder
from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.storage import model_manifest, model_tensors, restore
from parser_vae.parsing.vocabulary import Vocabulary, normalise
from parser_vae.training.checkpoint import MANIFEST, has_state, read_model, remove_state, write_model
from parser_vae.training.loop import Loop, Plan
from parser_vae.training.progress import Progress

Start = Literal["scratch", "base"]


@dataclass(frozen=True)
class Student:
    """A trained student, with the steps and seconds that its training took."""

    model: ParserModel
    steps: int
    seconds: float


class Students:
    """Trains parsers after the pattern of one, each in a folder where it is kept, so a stopped run goes on.

    Attributes:
        blank: A parser with the words of source and target, to index sentences with; its encoder is untrained.
    """

    def __init__(self, base: ParserModel, target: Sequence[Sequence[str]]) -> None:
        """Take over sizes, vectors and language model of ``base``, and count the words of the target sentences."""
        self.base = base
        self.blank = ParserModel(
            base.encoder.settings,
            base.decoder.settings,
            with_counts(base.vocabulary, target),
            base.vector_words,
            base.encoder.embedding.vectors,
            base.family,
        )
        self.blank.decoder.load_state_dict(base.decoder.state_dict())
        self.blank.decoder.requires_grad_(False)

    def train(
        self, folder: Path, seed: int, start: Start, plan_of: Callable[[ParserModel], Plan], progress: Progress
    ) -> Student:
        """Return a student trained by the plan made for it, or read from ``folder`` where it was trained before."""
        if (folder / MANIFEST).exists() and not has_state(folder):
            stored = read_model(folder)
            model = restore(stored.tensors, stored.manifest, folder).eval()
            return Student(model, stored.manifest["steps"], stored.manifest["seconds"])
        torch.manual_seed(seed)
        model = self._new(start)
        outcome = Loop(plan_of(model), folder, seed, progress, has_state(folder)).run()
        record = {"steps": outcome.steps, "seconds": round(outcome.seconds, 1)}
        card = "# A student of an adaptation\n"
        write_model(folder, model_tensors(model), model_manifest(model) | record, "", card)
        remove_state(folder)
        return Student(model.eval(), outcome.steps, outcome.seconds)

    def _new(self, start: Start) -> ParserModel:
        """Return a parser with new weights, or the old ones, that shares the frozen language model."""
        model = copy.copy(self.blank)
        model._modules = dict(self.blank._modules)
        former = self.base.encoder
        model.encoder = Encoder(former.settings, self.blank.vocabulary, former.embedding.vectors)
        if start == "base":
            model.encoder.load_state_dict(former.state_dict())
        return model


def with_counts(vocabulary: Vocabulary, target: Sequence[Sequence[str]]) -> Vocabulary:
    """Return the vocabulary with the target's occurrences counted as well.

    Word dropout replaces a word the more often the rarer it is, and always one that was never counted: a student is to
    learn the target's words too.
    """
    counts = Counter(normalise(form, vocabulary.numbers) for forms in target for form in forms)
    summed = [count + counts[word] for word, count in zip(vocabulary.words, vocabulary.counts, strict=True)]
    return replace(vocabulary, counts=summed, _index={})
