"""Supervised training of parser and language model on the source treebank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from parser_vae.errors import ConfigError, InputError
from parser_vae.parsing.arc_decoder import ArcDecoder
from parser_vae.parsing.embeddings import Coverage, coverage, frequent_words, load_vectors
from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.storage import model_manifest, model_tensors
from parser_vae.parsing.vocabulary import Vocabulary
from parser_vae.parsing.word_classes import word_classes
from parser_vae.training.card import pretrain_card
from parser_vae.training.checkpoint import write_model
from parser_vae.training.config import dump_settings
from parser_vae.training.heldout import HeldOut, encode, hold_out
from parser_vae.training.loop import Loop, Outcome, Selection
from parser_vae.training.progress import Progress
from parser_vae.training.settings import PretrainSettings
from parser_vae.training.supervised import Schedule, supervised_plan
from parser_vae.treebank.conllu import read_treebank
from parser_vae.treebank.sentence import Sentence


@dataclass(frozen=True)
class PretrainResult:
    """What a pretraining came to.

    Attributes:
        dev: The scores of the kept weights on the dev sentences: ``dev_uas``, ``dev_las`` (percent, without
            punctuation) and ``dev_reconstruction`` (nats a word, the mean over sentences).
        outcome: The course of the training.
        coverage: Share of the source's words that have a vector; None without vectors.
    """

    dev: dict[str, float]
    outcome: Outcome
    coverage: Coverage | None


def pretrain(
    settings: PretrainSettings, out: Path, *, resume: bool, progress: Progress, begin: Callable[[], None] = lambda: None
) -> PretrainResult:
    """Train on the source, write the model folder ``out`` and return how it went.

    ``begin`` is called once all input is read and found right, before anything is written.

    Raises:
        InputError: A file is missing or malformed, or there is too little to train on.
        KeyboardInterrupt: The user asked to stop; the run can be resumed.
    """
    train, dev = source_sentences(settings.data.train, settings.data.dev)
    options = settings.training
    torch.manual_seed(options.seed)
    vocabulary = Vocabulary.build(((s.forms, s.upos, s.deprels) for s in train), settings.encoder.numbers)
    words: list[str] = []
    vectors: Tensor | None = None
    covered: Coverage | None = None
    if settings.data.vectors is not None:
        words, vectors, covered = _vectors(settings, train)
        progress.event("vectors", words=len(words), coverage=str(covered))
    model = ParserModel(settings.encoder, settings.decoder, vocabulary, words, vectors, settings.structure)
    _check_generated(settings, model)
    if isinstance(model.decoder, ArcDecoder) and model.decoder.classes is not None and vectors is not None:
        model.decoder.classes.copy_(word_classes(vectors, settings.decoder.classes, options.seed))
    held_out = HeldOut(model.indexer, dev)
    sentences = [encode(model.indexer, sentence) for sentence in train]
    progress.event(
        "start",
        train_sentences=len(train),
        dev_sentences=len(dev),
        words=sum(len(s) for s in train),
        parameters=sum(p.numel() for p in model.parameters()),
    )

    plan = supervised_plan(
        model,
        [s.length for s in sentences],
        lambda indices: model.indexer.batch([sentences[index] for index in indices]),
        Schedule(options.epochs, options.batch_size, options.learning_rate, options.clip, options.average),
        evaluate=lambda: held_out.values(model),
        selections=(Selection("encoder.", "dev_uas", True), Selection("decoder.", "dev_reconstruction", False)),
        what="pretraining",
        decoder_epochs=options.decoder_epochs,
    )
    begin()
    out.mkdir(parents=True, exist_ok=True)
    outcome = Loop(plan, out, options.seed, progress, resume).run()
    result = PretrainResult(held_out.values(model), outcome, covered)
    manifest = model_manifest(model) | {
        "source": {
            "train": str(settings.data.train),
            "dev": None if settings.data.dev is None else str(settings.data.dev),
        },
        "scores": result.dev,
    }
    write_model(out, model_tensors(model), manifest, dump_settings(settings), pretrain_card(settings, result))
    return result


def source_sentences(train: Path, dev: Path | None) -> tuple[Sequence[Sentence], Sequence[Sentence]]:
    """Return the labelled sentences of train and dev; without a dev file a tenth of train is held out.

    Raises:
        InputError: A file cannot be read or has malformed trees, or fewer than two sentences are left to learn from.
    """
    labelled = read_treebank(train).sentences
    if dev is not None:
        return labelled, read_treebank(dev).sentences
    learnt, held_out = hold_out(labelled)
    if not held_out or not learnt:
        raise InputError(f"{train}: too few sentences to hold some out for selection; give labelled ones with --dev")
    return learnt, held_out


def _check_generated(settings: PretrainSettings, model: ParserModel) -> None:
    """Raise ``ConfigError`` where there is nothing to make word classes of, or nobody to tag raw text."""
    generates = settings.decoder.generates
    if generates == "classes" and settings.data.vectors is None:
        raise ConfigError("decoder.generates is classes, which are clusters of word vectors; give some with --vectors")
    if generates == "tags" and model.encoder.tags is None:
        raise ConfigError(
            "decoder.generates is tags, which raw text gets from the encoder; add --set encoder.tagging=true"
        )


def _vectors(settings: PretrainSettings, train: Sequence[Sentence]) -> tuple[list[str], Tensor, Coverage]:
    """Return words, standardised vectors and source coverage: the source's words and the frequent ones of the file."""
    path = settings.data.vectors
    assert path is not None
    forms = (form for sentence in train for form in sentence.forms)
    loaded = load_vectors(path, [*forms, *frequent_words(path, settings.data.vector_words)])
    found = loaded.found
    words = [word for word, there in zip(loaded.words, found.tolist(), strict=True) if there]
    if not words:
        raise InputError(f"{path}: has a vector for none of the source's words; check that language and spelling match")
    table = loaded.table[found]
    return words, table / table.std(), coverage(loaded, (sentence.forms for sentence in train))
