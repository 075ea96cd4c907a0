"""Sentences to padded tensors, once; everything after this module works on whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from parser_vae.parsing.vocabulary import ROOT, UNKNOWN, Vocabulary, normalise

MAX_CHARACTERS = 24  # a longer word is seen by its first and last twelve characters


@dataclass(frozen=True)
class Encoded:
    """One sentence as indices, position 0 the root; lists, so that encoding is cheap and device-free.

    ``vectors`` indexes the table of external word vectors, ``spellings`` the batch-independent list of distinct forms.
    """

    words: list[int]
    vectors: list[int]
    spellings: list[int]
    decoder_words: list[int]
    upos: list[int] | None
    heads: list[int] | None
    deprels: list[int] | None

    @property
    def length(self) -> int:
        """Return the number of words, root excluded."""
        return len(self.words) - 1


@dataclass(frozen=True)
class Batch:
    """A padded batch; ``L`` is the longest length + 1 and position 0 the root.

    Attributes:
        words: Indices ``[batch, L]`` into ``Vocabulary.words``.
        vectors: Rows ``[batch, L]`` of the external vectors.
        spellings: Rows ``[batch, L]`` of ``characters``.
        characters: Character indices ``[distinct, widest]`` of the distinct forms of this batch, padding 0.
        decoder_words: Language-model classes ``[batch, L]``.
        lengths: Words per sentence ``[batch]``, root excluded.
        upos: Tags ``[batch, L]``, -1 where unknown or padding: gold, or predicted where a decoder generates those of
            raw text; None without.
        heads: Gold heads ``[batch, L]``, 0 at the root and padding; None without annotation.
        deprels: Gold relations ``[batch, L]``, -1 where unknown or padding; None without annotation.
        arc_weights: How much each word's head counts in the supervised loss ``[batch, L]``; None means 1.
        head_targets: Probabilities of the heads to learn ``[batch, head, dependent]``; None means ``heads``.
    """

    words: Tensor
    vectors: Tensor
    spellings: Tensor
    characters: Tensor
    decoder_words: Tensor
    lengths: Tensor
    upos: Tensor | None = None
    heads: Tensor | None = None
    deprels: Tensor | None = None
    arc_weights: Tensor | None = None
    head_targets: Tensor | None = None

    def __len__(self) -> int:
        return self.words.shape[0]

    @property
    def word_mask(self) -> Tensor:
        """Return True ``[batch, L]`` at real words (not the root, not padding)."""
        position = torch.arange(self.words.shape[1], device=self.words.device)
        return (position > 0) & (position <= self.lengths[:, None])

    def part(self, rows: slice) -> Batch:
        """Return some of the sentences, without padding and spellings that only the others need; tags, but no trees."""
        lengths = self.lengths[rows]
        width = int(lengths.max()) + 1
        words, vectors, spellings, decoder_words = (
            values[rows, :width] for values in (self.words, self.vectors, self.spellings, self.decoder_words)
        )
        used, spellings = spellings.unique(return_inverse=True)
        characters = self.characters[used]
        longest = int((characters != 0).sum(1).max())
        upos = None if self.upos is None else self.upos[rows, :width]
        return Batch(words, vectors, spellings, characters[:, :longest], decoder_words, lengths, upos)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: t.to(device) for name, t in moved.items() if t is not None})


class Indexer:
    """Turns sentences into ``Encoded`` ones and those into batches, for one vocabulary and one vector table."""

    def __init__(self, vocabulary: Vocabulary, vector_words: Sequence[str]) -> None:
        self.vocabulary = vocabulary
        self._words = vocabulary.index("words")
        self._characters = vocabulary.index("characters")
        self._decoder = vocabulary.index("decoder_words")
        self._upos = vocabulary.index("upos")
        self._deprels = vocabulary.index("deprels")
        self._vectors = {word: row for row, word in enumerate(vector_words, start=2)}
        self._forms: dict[str, tuple[int, int, int, int]] = {}
        self._spelled: list[list[int]] = [[ROOT]]

    def encode(
        self,
        forms: Sequence[str],
        upos: Sequence[str] | None = None,
        heads: Sequence[int] | None = None,
        deprels: Sequence[str] | None = None,
    ) -> Encoded:
        """Return one sentence as indices; unknown tags and relations become -1 and are left out of every loss."""
        known = self._forms
        rows = [known.get(form) or self._new(form) for form in forms]
        words, vectors, spellings, decoder = zip(*rows, strict=True) if rows else ((), (), (), ())
        return Encoded(
            words=[ROOT, *words],
            vectors=[ROOT, *vectors],
            spellings=[0, *spellings],
            decoder_words=[UNKNOWN, *decoder],
            upos=None if upos is None else [-1, *(self._upos.get(tag, -1) for tag in upos)],
            heads=None if heads is None else [0, *heads],
            deprels=None if deprels is None else [-1, *(self._deprels.get(name, -1) for name in deprels)],
        )

    def _new(self, form: str) -> tuple[int, int, int, int]:
        word = normalise(form, self.vocabulary.numbers)
        vectors = self._vectors
        row = vectors.get(form) or vectors.get(form.lower()) or vectors.get(word) or UNKNOWN
        shown = form if len(form) <= MAX_CHARACTERS else form[: MAX_CHARACTERS // 2] + form[-MAX_CHARACTERS // 2 :]
        self._spelled.append([self._characters.get(character, 1) for character in shown])
        entry = (self._words.get(word, UNKNOWN), row, len(self._spelled) - 1, self._decoder.get(word, UNKNOWN))
        self._forms[form] = entry
        return entry

    def batch(self, sentences: Sequence[Encoded], arc_weights: Sequence[Sequence[float]] | None = None) -> Batch:
        """Return a padded batch, sentences in the order given."""
        width = max(len(sentence.words) for sentence in sentences)
        distinct = sorted({row for sentence in sentences for row in sentence.spellings})
        local = {row: number for number, row in enumerate(distinct)}
        spelled = [self._spelled[row] for row in distinct]

        def pad(rows: Sequence[Sequence[int]], fill: int, size: int = width) -> Tensor:
            return torch.tensor([[*row, *[fill] * (size - len(row))] for row in rows], dtype=torch.int64)

        def gold(name: str, fill: int) -> Tensor | None:
            rows = [getattr(sentence, name) for sentence in sentences]
            return None if any(row is None for row in rows) else pad(rows, fill)

        weights = None
        if arc_weights is not None:
            weights = torch.tensor([[0.0, *row, *[0.0] * (width - 1 - len(row))] for row in arc_weights])
        return Batch(
            words=pad([s.words for s in sentences], UNKNOWN),
            vectors=pad([s.vectors for s in sentences], UNKNOWN),
            spellings=pad([[local[row] for row in s.spellings] for s in sentences], 0),
            characters=pad(spelled, 0, max(len(row) for row in spelled)),
            decoder_words=pad([s.decoder_words for s in sentences], UNKNOWN),
            lengths=torch.tensor([s.length for s in sentences], dtype=torch.int64),
            upos=gold("upos", -1),
            heads=gold("heads", 0),
            deprels=gold("deprels", -1),
            arc_weights=weights,
        )


def token_batches(lengths: Sequence[int], max_tokens: int, max_sentences: int) -> list[list[int]]:
    """Return groups of sentence indices, similar lengths together, each at most ``max_tokens`` padded tokens."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    groups: list[list[int]] = []
    current: list[int] = []
    for index in order:
        if current and ((lengths[index] + 1) * (len(current) + 1) > max_tokens or len(current) == max_sentences):
            groups.append(current)
            current = []
        current.append(index)
    if current:
        groups.append(current)
    return groups


def shuffled_batches(
    lengths: Sequence[int], batch_size: int, generator: torch.Generator, spread: float = 0.15
) -> list[list[int]]:
    """Return one epoch of batches: sentences of similar length together, in random order.

    Lengths are jittered by up to ``spread`` of themselves before sorting, so that batches differ between epochs.
    """
    size = torch.tensor(lengths, dtype=torch.float64)
    jitter = (torch.rand(len(lengths), generator=generator, dtype=torch.float64) - 0.5) * 2 * spread
    order = torch.argsort(size * (1 + jitter) + torch.rand(len(lengths), generator=generator), stable=True).tolist()
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [groups[index] for index in torch.randperm(len(groups), generator=generator).tolist()]
