"""Which predicted word is which gold word, where the two sides may split tokens into words differently.

The two sides of a sentence must hold the same characters (spaces aside). Words that are tokens by themselves are the
same word when they cover the same characters. The words of multiword tokens have no place of their own among the
characters, so within the stretch that multiword tokens of either side cover, words are matched in order by a longest
common subsequence of their lower-cased forms. This is the rule of the CoNLL 2018 shared task (Zeman et al. 2018,
section 5), in this module's own words. As there, one walk goes through the whole text and sentence ends are not looked
at, so that the result is the same even where the two sides part at the end of a sentence.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from parser_vae.treebank.sentence import Sentence

UNALIGNED = -1


class PlacedWord(NamedTuple):
    """A word and the characters it covers, ``[start, end)``; words of a multiword token cover those of the token."""

    start: int
    end: int
    in_multiword: bool
    form: str

    def is_within(self, limit: int) -> bool:
        """Return whether the word belongs to a stretch of characters that ends at ``limit``."""
        return self.start < limit if self.in_multiword else self.end <= limit


def align_words(gold: Sequence[Sentence], system: Sequence[Sentence]) -> list[int]:
    """Return for each gold word the 0-based index of the system's word that is the same, or ``UNALIGNED``.

    Words are counted through all sentences. Both sides must hold the same ``characters``; the caller has checked that.
    """
    if all(map(have_same_words, gold, system)):
        return list(range(sum(map(len, gold))))
    left, right = _place(gold), _place(system)
    partners = [UNALIGNED] * len(left)
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i].in_multiword or right[j].in_multiword:
            first_i, first_j, i, j = _multiword_stretch(left, right, i, j)
            for a, b in _common_subsequence([w.form for w in left[first_i:i]], [w.form for w in right[first_j:j]]):
                partners[first_i + a] = first_j + b
        elif left[i][:2] == right[j][:2]:
            partners[i] = j
            i, j = i + 1, j + 1
        elif left[i].start <= right[j].start:
            i += 1
        else:
            j += 1
    return partners


def have_same_words(gold: Sentence, system: Sentence) -> bool:
    """Return whether both sentences split the same text in the same way."""
    return gold.forms == system.forms and _ranges(gold) == _ranges(system)


def characters(sentence: Sentence) -> str:
    """Return the sentence's characters: the forms of its tokens joined, without spaces of any kind (Unicode Zs)."""
    return "".join(_without_spaces(form) for _, _, form in _tokens(sentence))


def _without_spaces(form: str) -> str:
    return "".join(c for c in form if unicodedata.category(c) != "Zs")


def _tokens(sentence: Sentence) -> list[tuple[int, int, str]]:
    """Return ``(first word, last word, form)`` of every surface token, words numbered from 1."""
    ranges = {token[0]: token for token in _ranges(sentence)}
    tokens: list[tuple[int, int, str]] = []
    word = 1
    while word <= len(sentence):
        tokens.append(ranges.get(word, (word, word, sentence.forms[word - 1])))
        word = tokens[-1][1] + 1
    return tokens


def _ranges(sentence: Sentence) -> list[tuple[int, int, str]]:
    return [(token.first, token.last, token.form) for token in sentence.multiword_tokens]


def _place(sentences: Sequence[Sentence]) -> list[PlacedWord]:
    placed: list[PlacedWord] = []
    start = 0
    for sentence in sentences:
        multiword_starts = {first for first, _, _ in _ranges(sentence)}
        for first, last, form in _tokens(sentence):
            bare = _without_spaces(form)
            end = start + len(bare)
            if first in multiword_starts:
                placed += [PlacedWord(start, end, True, sentence.forms[w - 1].lower()) for w in range(first, last + 1)]
            else:
                placed.append(PlacedWord(start, end, False, bare.lower()))
            start = end
    return placed


def _multiword_stretch(left: list[PlacedWord], right: list[PlacedWord], i: int, j: int) -> tuple[int, int, int, int]:
    """Return where the stretch of overlapping multiword tokens at ``i, j`` begins and ends on either side."""
    limit = (left[i] if left[i].in_multiword else right[j]).end
    if not right[j].in_multiword and right[j].start < left[i].start:
        j += 1  # this word begins before the multiword token, so it cannot be one of its words
    elif not left[i].in_multiword and left[i].start < right[j].start:
        i += 1
    first_i, first_j = i, j
    while (i < len(left) and left[i].is_within(limit)) or (j < len(right) and right[j].is_within(limit)):
        if i < len(left) and (j == len(right) or left[i].start <= right[j].start):
            word, i = left[i], i + 1
        else:
            word, j = right[j], j + 1
        if word.in_multiword:
            limit = max(limit, word.end)
    return first_i, first_j, i, j


def _common_subsequence(left: list[str], right: list[str]) -> list[tuple[int, int]]:
    """Return the index pairs of a longest common subsequence; among equals, the one that skips on the left first."""
    longest = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for a in reversed(range(len(left))):
        for b in reversed(range(len(right))):
            if left[a] == right[b]:
                longest[a][b] = 1 + longest[a + 1][b + 1]
            else:
                longest[a][b] = max(longest[a + 1][b], longest[a][b + 1])
    pairs: list[tuple[int, int]] = []
    a = b = 0
    while a < len(left) and b < len(right):
        if left[a] == right[b]:
            pairs.append((a, b))
            a, b = a + 1, b + 1
        elif longest[a][b] == longest[a + 1][b]:
            a += 1
        else:
            b += 1
    return pairs
