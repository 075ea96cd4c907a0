"""Every score as a ratio of sums over sentences, so that all of them can be resampled together.

UAS, an F1 per relation, the accuracy at some sentence length, the share of exact matches: each is
``100 * sum(numerator) / sum(denominator)`` over sentences. ``Ratios`` holds these per-sentence numbers for a list of
measures; resampling sentences is then a matrix product (:mod:`parser_vae.evaluation.significance`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parser_vae.evaluation.alignment import UNALIGNED
from parser_vae.evaluation.attachment import NO_HEAD, Match, Scorer, Words

Counts = NDArray[np.float64]

BREAKDOWNS = {
    "relations": ("Relation", "labelled F1"),
    "lengths": ("Words in the sentence", "UAS"),
    "distances": ("Distance to the head", "unlabelled F1"),
    "upos": ("Part of speech", "UAS"),
}
LENGTHS = ("1-10", "11-20", "21-30", "31-40", "41+")
DISTANCES = ("root", "1", "2", "3-6", "7+")


@dataclass(frozen=True, order=True)
class Key:
    """The name of a measure: ``("nltk", "uas")``, or with a group, ``("nltk", "relations", "nsubj")``."""

    scorer: str
    measure: str
    group: str = ""


@dataclass(frozen=True)
class Ratios:
    """Per-sentence numerators and denominators of measures, both ``[sentence, measure]``, and what they count.

    Attributes:
        support: How many gold items (words, or sentences) each measure rests on ``[measure]``.
    """

    keys: tuple[Key, ...]
    numerator: Counts
    denominator: Counts
    support: NDArray[np.int64]

    def percent(self) -> Counts:
        """Return the value of each measure over all sentences, in percent ``[measure]``; 0 where nothing counts."""
        return percent(self.numerator.sum(0), self.denominator.sum(0), empty=0.0)


def percent(numerator: Counts, denominator: Counts, empty: float) -> Counts:
    """Return ``100 * numerator / denominator``, or ``empty`` where the denominator is 0."""
    safe = np.where(denominator == 0, 1.0, denominator)
    return np.where(denominator == 0, empty, 100.0 * numerator / safe)


def joined(parts: Sequence[Ratios]) -> Ratios:
    """Return the measures of all ``parts`` (over the same sentences) as one."""
    return Ratios(
        tuple(key for part in parts for key in part.keys),
        np.concatenate([part.numerator for part in parts], axis=1),
        np.concatenate([part.denominator for part in parts], axis=1),
        np.concatenate([part.support for part in parts]),
    )


class _Collector:
    """Gathers measures over the words of one gold treebank and one system."""

    def __init__(self, sentences: int) -> None:
        self.sentences = sentences
        self.keys: list[Key] = []
        self.columns: list[tuple[Counts, Counts, int]] = []

    def add(self, key: Key, numerator: Counts, denominator: Counts, support: float) -> None:
        self.keys.append(key)
        self.columns.append((numerator, denominator, int(support)))

    def per_sentence(self, words: Words, mask: NDArray[np.bool_]) -> Counts:
        return np.bincount(words.sentence[mask], minlength=self.sentences).astype(np.float64)

    def ratios(self) -> Ratios:
        return Ratios(
            tuple(self.keys),
            np.stack([column[0] for column in self.columns], axis=1),
            np.stack([column[1] for column in self.columns], axis=1),
            np.array([column[2] for column in self.columns], dtype=np.int64),
        )


def tree_measures(gold: Words, match: Match, valid: Sequence[bool]) -> Ratios:
    """Return the share of valid trees and of sentences whose root is right; neither depends on a convention."""
    sentences = len(gold.first)
    collector = _Collector(sentences)
    ones = np.ones(sentences)
    collector.add(Key("trees", "valid"), np.array(valid, dtype=np.float64), ones, sentences)
    gold_roots, system_roots = gold.head == 0, match.system.head == 0
    agreeing = collector.per_sentence(gold, gold_roots & match.head_right)
    right = (agreeing == collector.per_sentence(gold, gold_roots)) & (
        agreeing == collector.per_sentence(match.system, system_roots)
    )
    collector.add(Key("trees", "root"), right.astype(np.float64), ones, sentences)
    return collector.ratios()


def scorer_measures(gold: Words, match: Match, scorer: Scorer, relations: Sequence[str]) -> Ratios:
    """Return every measure of one convention for one system.

    Args:
        gold: The words of the gold treebank.
        match: The system against them.
        scorer: The convention.
        relations: The relations to report, already in the scorer's own notation.
    """
    system = match.system
    collector = _Collector(len(gold.first))
    gold_label, system_label = _labels(gold, scorer), _labels(system, scorer)
    gold_counts, system_counts = _counted(gold, scorer), _counted(system, scorer)
    aligned = match.partner != UNALIGNED
    label_right = aligned & (gold_label == system_label[match.partner])
    heads = gold_counts & match.head_right
    both = heads & label_right

    def add(
        measure: str,
        right: NDArray[np.bool_],
        gold_group: NDArray[np.bool_],
        system_group: NDArray[np.bool_],
        group: str = "",
    ) -> None:
        """F1, which is accuracy where the groups of both sides hold the same words."""
        in_gold = collector.per_sentence(gold, gold_group)
        in_system = collector.per_sentence(system, system_group)
        both_sides = collector.per_sentence(gold, right & gold_group)
        collector.add(Key(scorer.name, measure, group), 2 * both_sides, in_gold + in_system, in_gold.sum())

    add("uas", heads, gold_counts, system_counts)
    add("las", both, gold_counts, system_counts)
    add("label", label_right & gold_counts, gold_counts, system_counts)
    if scorer.content is not None:
        content = np.array(sorted(scorer.content), dtype=object)
        add("clas", both, gold_counts & np.isin(gold_label, content), system_counts & np.isin(system_label, content))

    counted = collector.per_sentence(gold, gold_counts)
    for measure, right in (("exact", heads), ("labelled_exact", both)):
        all_right = (collector.per_sentence(gold, right) == counted) & (counted > 0)
        complete = all_right & (collector.per_sentence(system, system_counts) == counted)
        has_words = (counted > 0).astype(np.float64)
        collector.add(Key(scorer.name, measure), complete.astype(np.float64), has_words, has_words.sum())

    for relation in relations:
        add(
            "relations",
            both,
            gold_counts & (gold_label == relation),
            system_counts & (system_label == relation),
            relation,
        )
    gold_distance, system_distance = _distances(gold), _distances(system)
    for index, bucket in enumerate(DISTANCES):
        add(
            "distances",
            heads,
            gold_counts & (gold_distance == index),
            system_counts & (system_distance == index),
            bucket,
        )
    # the groups below belong to gold words and sentences, so a system's word goes where its partner is
    lengths = _lengths(gold)
    for index, bucket in enumerate(LENGTHS):
        in_bucket = lengths == index
        add(
            "lengths", heads, gold_counts & in_bucket[gold.sentence], system_counts & in_bucket[system.sentence], bucket
        )
    gold_tag = np.array(gold.upos, dtype=object)
    system_tag = np.array(system.upos, dtype=object)
    system_tag[match.partner[aligned]] = gold_tag[aligned]
    for tag in sorted(set(gold.upos)):
        add("upos", heads, gold_counts & (gold_tag == tag), system_counts & (system_tag == tag), tag)
    return collector.ratios()


def relations_of(treebanks: Sequence[Words], scorer: Scorer) -> list[str]:
    """Return the relations used in any of the treebanks, in the scorer's notation, sorted."""
    return sorted({scorer.label(label) for words in treebanks for label in set(words.deprels)})


def _labels(words: Words, scorer: Scorer) -> NDArray[np.object_]:
    return _mapped(words.deprels, scorer.label).astype(object)


def _counted(words: Words, scorer: Scorer) -> NDArray[np.bool_]:
    return _mapped(words.forms, scorer.counts).astype(np.bool_)


def _mapped(values: Sequence[str], function: Callable[[str], object]) -> NDArray[np.object_]:
    known = {value: function(value) for value in set(values)}
    mapped = np.empty(len(values), dtype=object)
    mapped[:] = [known[value] for value in values]
    return mapped


def _distances(words: Words) -> NDArray[np.int64]:
    """Return the index into ``DISTANCES`` of the arc into each word; -1 where there is no arc."""
    distance = np.abs(words.position - words.head)
    bucket: NDArray[np.int64] = np.searchsorted([1, 2, 3, 7], distance, side="right")
    bucket[words.head == 0] = 0
    bucket[words.head == NO_HEAD] = -1
    return bucket


def _lengths(words: Words) -> NDArray[np.int64]:
    """Return the index into ``LENGTHS`` of each sentence."""
    counts = np.bincount(words.sentence, minlength=len(words.first))
    bucket: NDArray[np.int64] = np.searchsorted([11, 21, 31, 41], counts, side="right")
    return bucket
