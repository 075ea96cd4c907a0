"""A small model over a few invented sentences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from parser_vae.parsing.arc_decoder import ArcDecoder
from parser_vae.parsing.batches import Batch
from parser_vae.parsing.encoder import EncoderSettings
from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.tree_decoder import DecoderSettings
from parser_vae.parsing.vocabulary import Vocabulary
from parser_vae.parsing.word_classes import word_classes

FORMS = [
    ["The", "old", "dog", "saw", "a", "cat", "."],
    ["Dogs", "bark"],
    ["A", "cat", "saw", "12", "old", "dogs", "and", "the", "dog", "."],
    ["Bark", "!"],
]
UPOS = [
    ["DET", "ADJ", "NOUN", "VERB", "DET", "NOUN", "PUNCT"],
    ["NOUN", "VERB"],
    ["DET", "NOUN", "VERB", "NUM", "ADJ", "NOUN", "CCONJ", "DET", "NOUN", "PUNCT"],
    ["VERB", "PUNCT"],
]
HEADS = [[3, 3, 4, 0, 6, 4, 4], [2, 0], [2, 3, 0, 6, 6, 3, 9, 9, 6, 3], [0, 1]]
DEPRELS = [
    ["det", "amod", "nsubj", "root", "det", "obj", "punct"],
    ["nsubj", "root"],
    ["det", "nsubj", "root", "nummod", "amod", "obj", "cc", "det", "conj", "punct"],
    ["root", "punct"],
]

Build = Callable[..., ParserModel]


@pytest.fixture
def build() -> Build:
    def make(
        preset: str = "default",
        vectors: bool = True,
        family: str = "projective",
        decoder: str = "lm",
        generates: str = "forms",
        **encoder: object,
    ) -> ParserModel:
        torch.manual_seed(0)
        small = {"word_size": 8, "hidden": 9, "arc_size": 7, "label_size": 5}
        if preset == "default":
            small["character_size"] = 4
        settings = EncoderSettings.model_validate({"preset": preset} | small | encoder)
        vocabulary = Vocabulary.build(zip(FORMS, UPOS, DEPRELS, strict=True), settings.numbers, decoder_min_count=1)
        words = vocabulary.words[2:]
        table = torch.randn(len(words), 6) if vectors else None
        told = DecoderSettings(kind=decoder, generates=generates, classes=3)
        model = ParserModel(settings, told, vocabulary, words if vectors else [], table, family)
        if generates == "classes" and table is not None:
            assert isinstance(model.decoder, ArcDecoder) and model.decoder.classes is not None
            model.decoder.classes.copy_(word_classes(table, 3, seed=0))
        return model

    return make


def gold_batch(model: ParserModel, which: tuple[int, ...] = (0, 1, 2, 3)) -> Batch:
    encoded = [model.indexer.encode(FORMS[i], UPOS[i], HEADS[i], DEPRELS[i]) for i in which]
    return model.indexer.batch(encoded)
