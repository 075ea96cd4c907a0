"""Strings to indices: words, characters, tags and relations of the source, words of raw target text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

NumberNormalisation = Literal["kg_prefix", "fullmatch", "off"]

UNKNOWN = 0
ROOT = 1
END_OF_SENTENCE = 1  # among the decoder's words
PADDING = 0  # for characters; word padding is masked by length and may carry any index

_STARTS_WITH_DIGIT = re.compile(r"[0-9]")
_IS_NUMBER = re.compile(r"[0-9]+([.,:/-][0-9]+)*")


def normalise(form: str, numbers: NumberNormalisation) -> str:
    """Return the lower-cased form, or ``NUM`` for a number.

    ``kg_prefix`` calls everything that starts with a digit a number ("3D" too), as Kiperwasser and Goldberg's parser
    does; ``fullmatch`` only digits with inner separators; ``off`` nothing.
    """
    if numbers == "kg_prefix" and _STARTS_WITH_DIGIT.match(form):
        return "NUM"
    if numbers == "fullmatch" and _IS_NUMBER.fullmatch(form):
        return "NUM"
    return form.lower()


@dataclass
class Vocabulary:
    """The strings a model knows. Index 0 is the unknown string of each list; index 1 of ``words`` is the root.

    Attributes:
        numbers: How numbers are normalised before a word is looked up.
        words: Normalised words of the source's training sentences, then those added from target text.
        source_words: How many of ``words`` came from the source; the rest have no labelled occurrence.
        counts: Source occurrences of each entry of ``words`` (0 for target words), for word dropout.
        characters: Characters of the source; index 0 is padding, 1 the unknown character.
        upos: Universal part-of-speech tags of the source.
        deprels: Dependency relations of the source.
        decoder_words: The language model's classes: index 0 every other word, 1 the end of the sentence, then words.
        source_decoder_words: How many of ``decoder_words`` came from the source.
    """

    numbers: NumberNormalisation
    words: list[str]
    source_words: int
    counts: list[int]
    characters: list[str]
    upos: list[str]
    deprels: list[str]
    decoder_words: list[str]
    source_decoder_words: int
    _index: dict[str, dict[str, int]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(
        cls,
        sentences: Iterable[tuple[Sequence[str], Sequence[str], Sequence[str]]],
        numbers: NumberNormalisation,
        decoder_min_count: int = 2,
    ) -> Vocabulary:
        """Return the vocabulary of source sentences given as (forms, UPOS, relations)."""
        words: Counter[str] = Counter()
        characters: Counter[str] = Counter()
        upos: set[str] = set()
        deprels: set[str] = set()
        for forms, tags, relations in sentences:
            words.update(normalise(form, numbers) for form in forms)
            for form in forms:
                characters.update(form)
            upos.update(tags)
            deprels.update(relations)
        ranked = sorted(words, key=lambda word: (-words[word], word))
        kept = [word for word in ranked if words[word] >= decoder_min_count]
        return cls(
            numbers=numbers,
            words=["<unknown>", "<root>", *ranked],
            source_words=len(ranked) + 2,
            counts=[0, 0, *(words[word] for word in ranked)],
            characters=["<padding>", "<unknown>", *sorted(characters)],
            upos=sorted(upos),
            deprels=sorted(deprels),
            decoder_words=["<other>", "<end>", *kept],
            source_decoder_words=len(kept) + 2,
        )

    def extend(self, sentences: Iterable[Sequence[str]], decoder_min_count: int = 2) -> Vocabulary:
        """Return a copy that also knows the words of raw target sentences; existing indices keep their meaning."""
        counts = Counter(normalise(form, self.numbers) for forms in sentences for form in forms)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        known, decodable = set(self.words), set(self.decoder_words)
        words = [word for word in ranked if word not in known]
        decoder = [word for word in ranked if word not in decodable and counts[word] >= decoder_min_count]
        return Vocabulary(
            numbers=self.numbers,
            words=self.words + words,
            source_words=self.source_words,
            counts=self.counts + [0] * len(words),
            characters=self.characters,
            upos=self.upos,
            deprels=self.deprels,
            decoder_words=self.decoder_words + decoder,
            source_decoder_words=self.source_decoder_words,
        )

    def index(self, kind: str) -> dict[str, int]:
        """Return string -> index of one of the lists (``words``, ``characters``, ``upos``, ...), built once."""
        if kind not in self._index:
            self._index[kind] = {string: number for number, string in enumerate(getattr(self, kind))}
        return self._index[kind]

    def to_json(self) -> dict[str, Any]:
        """Return the lists as plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "_index"}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Vocabulary:
        """Return the vocabulary written by ``to_json``."""
        return cls(**value)
