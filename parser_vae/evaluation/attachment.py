"""Word by word: which heads and labels a system got right, and the two conventions for counting them.

A treebank becomes flat arrays over all of its words (``Words``); a system against gold becomes a ``Match``. A
``Scorer`` is a convention: which words count, and when two labels are the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parser_vae.errors import InputError
from parser_vae.evaluation.alignment import UNALIGNED, align_words, characters, have_same_words
from parser_vae.treebank.sentence import Sentence

NO_HEAD = -1


@dataclass(frozen=True)
class Words:
    """All words of a treebank in order, sentence after sentence.

    Attributes:
        sentence: The 0-based sentence of each word ``[words]``.
        position: The 1-based position of each word in its sentence ``[words]``.
        head: The position of each word's head ``[words]``; 0 is the root, ``NO_HEAD`` a missing or impossible head.
        first: The index of each sentence's first word ``[sentences]``.
        forms, upos, deprels: Columns 2, 4 and 8, one string a word.
    """

    sentence: NDArray[np.int64]
    position: NDArray[np.int64]
    head: NDArray[np.int64]
    first: NDArray[np.int64]
    forms: list[str]
    upos: list[str]
    deprels: list[str]

    @classmethod
    def of(cls, sentences: Sequence[Sentence]) -> Words:
        """Return the words of ``sentences``."""
        lengths = np.array([len(s) for s in sentences], dtype=np.int64)
        heads = [head if head is not None and 0 <= head <= len(s) else NO_HEAD for s in sentences for head in s.heads]
        return cls(
            sentence=np.repeat(np.arange(len(sentences)), lengths),
            position=np.concatenate([np.arange(1, n + 1) for n in lengths]) if len(lengths) else np.array([], int),
            head=np.array(heads, dtype=np.int64),
            first=np.cumsum(lengths) - lengths,
            forms=[form for s in sentences for form in s.forms],
            upos=[tag for s in sentences for tag in s.upos],
            deprels=[label for s in sentences for label in s.deprels],
        )


@dataclass(frozen=True)
class Match:
    """A system's words against gold's.

    Attributes:
        partner: For each gold word the index of the same word in ``system``, or ``UNALIGNED`` ``[gold words]``.
        head_right: Whether the gold word's partner has the gold head ``[gold words]``.
    """

    system: Words
    partner: NDArray[np.int64]
    head_right: NDArray[np.bool_]


def match_words(gold: Sequence[Sentence], system: Sequence[Sentence]) -> Match:
    """Return which words are the same and whose heads are right.

    Raises:
        InputError: The two do not hold the same sentences; the message names the first place where they part.
    """
    _require_same_sentences(gold, system)
    gold_words, system_words = Words.of(gold), Words.of(system)
    partner = np.array(align_words(gold, system), dtype=np.int64)
    return Match(system_words, partner, _heads_right(gold_words, system_words, partner))


def _heads_right(gold: Words, system: Words, partner: NDArray[np.int64]) -> NDArray[np.bool_]:
    aligned = partner != UNALIGNED
    gold_head, system_head = gold.head[aligned], system.head[partner[aligned]]
    # the system's word that stands for the gold head; the clamp only serves rows that `np.where` then discards
    head_word = np.where(gold_head > 0, gold.first[gold.sentence[aligned]] + np.maximum(gold_head, 1) - 1, 0)
    expected = partner[head_word]
    found = system.first[system.sentence[partner[aligned]]] + np.maximum(system_head, 1) - 1
    right = np.zeros(len(partner), dtype=np.bool_)
    right[aligned] = np.where(gold_head > 0, (system_head > 0) & (found == expected), system_head == gold_head)
    right[gold.head == NO_HEAD] = False
    return right


def _place(sentence: Sentence) -> str:
    """Return where the sentence comes from, for messages: ``path:line (sentence id)``."""
    label = "" if sentence.sent_id is None else f" (sentence {sentence.sent_id})"
    return f"{sentence.path}:{sentence.line}{label}"


def _require_same_sentences(gold: Sequence[Sentence], system: Sequence[Sentence]) -> None:
    remedy = "score files that hold the same sentences in the same order"
    for left, right in zip(gold, system, strict=False):
        if have_same_words(left, right):
            continue
        ours, theirs = characters(left), characters(right)
        if ours != theirs:
            at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
            at = min(len(ours), len(theirs)) if at is None else at
            begin = max(0, at - 10)
            raise InputError(
                f"{_place(left)} reads '{ours[begin : at + 15]}' where {_place(right)} "
                f"reads '{theirs[begin : at + 15]}'; {remedy}"
            )
    if len(gold) != len(system):
        extra = max(gold, system, key=len)[min(len(gold), len(system))]
        raise InputError(
            f"gold has {len(gold)} sentences, but there are {len(system)} to be scored: {_place(extra)} has no "
            f"counterpart; {remedy}"
        )


# ------------------------------------------------------------------------------------------------ conventions


@dataclass(frozen=True)
class Scorer:
    """A convention for counting.

    Attributes:
        counts: Whether a word of this form counts.
        label: What is compared of a deprel.
        content: The relations of content words, for CLAS; None where the convention has no such score.
    """

    name: str
    title: str
    convention: str
    counts: Callable[[str], bool]
    label: Callable[[str], str]
    content: frozenset[str] | None = None


def is_punctuation(form: str) -> bool:
    """Return whether ``form`` consists of Unicode punctuation only (categories P*; symbols such as '+' are not)."""
    return all(unicodedata.category(c).startswith("P") for c in form)


# the universal relations between content words (https://universaldependencies.org, CoNLL 2018 shared task)
_CONTENT_RELATIONS = frozenset(
    (
        *("acl", "advcl", "advmod", "amod", "appos", "ccomp", "compound", "conj", "csubj", "dep", "discourse"),
        *("dislocated", "expl", "fixed", "flat", "goeswith", "iobj", "list", "nmod", "nsubj", "nummod", "obj"),
        *("obl", "orphan", "parataxis", "reparandum", "root", "vocative", "xcomp"),
    )
)

SCORERS = (
    Scorer(
        name="nltk",
        title="without punctuation",
        convention="Tokens made of Unicode punctuation only are left out; whole relation labels are compared, "
        "in lower case (the convention of NLTK's DependencyEvaluator, which papers on parsing commonly follow).",
        counts=lambda form: not is_punctuation(form),
        label=str.lower,
    ),
    Scorer(
        name="conll18",
        title="CoNLL 2018",
        convention="All words count, punctuation included; relation subtypes after ':' are cut off; the score is F1 "
        "over words aligned by their characters (the official scorer of the CoNLL 2018 shared task).",
        counts=lambda form: True,
        label=lambda deprel: deprel.split(":")[0],
        content=_CONTENT_RELATIONS,
    ),
)
