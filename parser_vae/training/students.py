"""New parsers made after an old one: its sizes, vectors and language model, weights of their own."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from parser_vae.errors import ConfigError, InputError
from parser_vae.parsing.encoder import Encoder
from parser_vae.parsing.model import ParserModel, encode_raw
from parser_vae.parsing.storage import model_manifest, model_tensors, restore
from parser_vae.parsing.vocabulary import Vocabulary, normalise
from parser_vae.training.checkpoint import MANIFEST, has_state, read_model, remove_state, write_model
from parser_vae.training.heldout import HeldOut, encode
from parser_vae.training.latent import LatentTerm
from parser_vae.training.loop import Loop, Plan
from parser_vae.training.material import Material
from parser_vae.training.progress import Progress
from parser_vae.training.settings import AdaptSettings


@dataclass(frozen=True)
class Student:
    """A trained student, with the steps and seconds that its training took."""

    model: ParserModel
    steps: int
    seconds: float


class Students:
    """What recipes share: the material as students read it, and their training, each in a folder where it is kept.

    A stopped run goes on: finished students are read from their folders.

    Attributes:
        settings: What the adaptation was told.
        blank: A parser with the words of source and target, to index sentences with; its encoder is untrained.
        base: The parser before adaptation, which also knows the target's words.
        target: Forms of the raw target sentences.
        source: The labelled source sentences, as indices.
        silver: Target sentences with trees by somebody else, as indices.
    """

    def __init__(self, settings: AdaptSettings, material: Material) -> None:
        """Take over sizes, vectors and language model of the parser before, and count the words of the target.

        Raises:
            InputError: The source's labelled sentences are not at hand.
            ConfigError: The method of ``[latent]`` is unknown, or told what goes for gradient methods alone.
            IncompatibleError: It cannot be used with these trees.
        """
        self.settings = settings
        if material.source is None:
            raise InputError(
                f"{settings.method} reads the labelled source, and the model's own is not where it was; "
                "give it by --source"
            )
        self.base = base = material.model
        self.target = [sentence.forms for sentence in material.target]
        given = [sentence.forms for sentence in [*material.silver, *material.labelled]]
        self.blank = ParserModel(
            base.encoder.settings,
            base.decoder.settings,
            with_counts(base.vocabulary, [*self.target, *given]),
            base.vector_words,
            base.encoder.embedding.vectors,
            base.family,
        )
        self.blank.decoder.load_state_dict(base.decoder.state_dict())
        self.blank.decoder.requires_grad_(False)
        self.source = [encode(self.blank.indexer, sentence) for sentence in material.source]
        self.silver = [encode(self.blank.indexer, sentence) for sentence in material.silver]
        if settings.latent.method is not None:
            self._check_objective()
            self._raw = encode_raw(self.blank.indexer, self.target, base)
            self._latent(settings.latent.method, self.blank)
        self._watch = material.watch
        self._held_out = None if material.dev is None else HeldOut(self.blank.indexer, material.dev)

    def values(self, model: ParserModel) -> dict[str, float]:
        """Return the values of a parser on the source's dev sentences and on held-out target ones."""
        values = self._watch.values(model.eval())
        if self._held_out is not None:
            values |= self._held_out.values(model)
        return values

    def train(
        self,
        folder: Path,
        seed: int,
        start: ParserModel | None,
        plan_of: Callable[[ParserModel], Plan],
        progress: Progress,
    ) -> Student:
        """Return a student trained by the plan made for it, or read from ``folder`` where it was trained before.

        Its first weights are those of the encoder of ``start``, or new ones.
        """
        if (folder / MANIFEST).exists() and not has_state(folder):
            stored = read_model(folder)
            model = restore(stored.tensors, stored.manifest, folder).eval()
            return Student(model, stored.manifest["steps"], stored.manifest["seconds"])
        torch.manual_seed(seed)
        model = self._new(start)
        plan = plan_of(model)
        if self.settings.latent.method is not None:
            plan = self._latent(self.settings.latent.method, model).beside(plan, self.settings.latent.weight)
        outcome = Loop(plan, folder, seed, progress, has_state(folder)).run()
        record = {"steps": outcome.steps, "seconds": round(outcome.seconds, 1)}
        card = "# A student of an adaptation\n"
        write_model(folder, model_tensors(model), model_manifest(model) | record, "", card)
        remove_state(folder)
        return Student(model.eval(), outcome.steps, outcome.seconds)

    def _latent(self, method: str, model: ParserModel) -> LatentTerm:
        """Return the latent-tree objective for a student; the source parser anchors all, whoever taught them."""
        return LatentTerm(method, self.settings, model, self._raw, self.base.encoder)

    def _check_objective(self) -> None:
        """Raise ``ConfigError`` where ``[objective]`` asks for what students have otherwise, or cannot do."""
        objective = self.settings.objective
        if objective.supervised_weight:
            raise ConfigError(
                f"objective.supervised_weight is {objective.supervised_weight:g}, but {self.settings.method} learns "
                "from the labelled source anyway; leave it out, latent.weight balances the two"
            )
        if not objective.freeze_decoder:
            raise ConfigError(
                f"objective.freeze_decoder is false, but the students of {self.settings.method} share the source "
                "model's decoder, which stays as it is; leave it out"
            )

    def _new(self, start: ParserModel | None) -> ParserModel:
        """Return a parser with the encoder's weights of ``start``, or new ones, that shares the frozen decoder."""
        model = copy.copy(self.blank)
        model._modules = dict(self.blank._modules)
        former = self.base.encoder
        model.encoder = Encoder(former.settings, self.blank.vocabulary, former.embedding.vectors)
        if start is not None:
            model.encoder.load_state_dict(start.encoder.state_dict())
        return model


def with_counts(vocabulary: Vocabulary, target: Sequence[Sequence[str]]) -> Vocabulary:
    """Return the vocabulary with the target's occurrences counted as well.

    Word dropout replaces a word the more often the rarer it is, and always one that was never counted: a student is to
    learn the target's words too.
    """
    counts = Counter(normalise(form, vocabulary.numbers) for forms in target for form in forms)
    summed = [count + counts[word] for word, count in zip(vocabulary.words, vocabulary.counts, strict=True)]
    return replace(vocabulary, counts=summed, _index={})
