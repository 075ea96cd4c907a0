"""Sentences of a treebank: immutable values that keep the text they were read from.

Prediction rewrites two columns (:meth:`Sentence.with_tree`) and leaves every other character alone, so comments,
multiword tokens, empty nodes, MISC and line ends survive by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from parser_vae.treebank.columns import parse_dependencies, parse_features, parse_items

COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")


class Word(NamedTuple):
    """A syntactic word: the ten columns as they stand in the file, ID and HEAD as numbers.

    Attributes:
        position: 1 for the first word of the sentence; 0 is the artificial root.
        head: Position of the head, 0 for the root's dependent, None where the file has ``_`` (or no number at all).
    """

    position: int
    form: str
    lemma: str
    upos: str
    xpos: str
    feats: str
    head: int | None
    deprel: str
    deps: str
    misc: str

    @property
    def features(self) -> dict[str, str | None]:
        """Return FEATS as a mapping, e.g. ``{"Number": "Sing"}``; empty for ``_``."""
        return parse_features(self.feats)

    @property
    def misc_items(self) -> dict[str, str | None]:
        """Return MISC as a mapping, e.g. ``{"SpaceAfter": "No"}``; an item without ``=`` has the value None."""
        return parse_items(self.misc)

    @property
    def enhanced(self) -> tuple[tuple[str, str], ...]:
        """Return DEPS as ``(deprel, head ID)`` pairs, the ID as text since it may name an empty node (``8.1``)."""
        return parse_dependencies(self.deps)


class MultiwordToken(NamedTuple):
    """A surface token of several words, such as ``don't``: the words ``first`` to ``last``, both included."""

    first: int
    last: int
    form: str
    misc: str


class EmptyNode(NamedTuple):
    """An elided word of an enhanced graph (ID such as ``8.1``), with its ten columns; never part of a basic tree."""

    id: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Sentence:
    """One sentence with the exact text it was read from; equality compares that text.

    ``forms``, ``upos``, ``heads`` and ``deprels`` have one entry per syntactic word and are ready to use; everything
    else is taken from ``source`` on first access.

    Attributes:
        source: The text of the sentence in the file, with its comments, line ends and closing blank line.
        path: The file it comes from, as the user named it.
        line: The 1-based number of its first line there.
        forms: Column 2 of each word.
        upos: Column 4 of each word.
        heads: Column 7 as numbers; None for ``_``.
        deprels: Column 8 of each word.
    """

    source: str
    path: str = field(compare=False, repr=False)
    line: int = field(compare=False, repr=False)
    forms: tuple[str, ...] = field(compare=False, repr=False)
    upos: tuple[str, ...] = field(compare=False, repr=False)
    heads: tuple[int | None, ...] = field(compare=False, repr=False)
    deprels: tuple[str, ...] = field(compare=False, repr=False)

    @classmethod
    def from_words(
        cls,
        forms: Sequence[str],
        upos: Sequence[str] | None = None,
        heads: Sequence[int | None] | None = None,
        deprels: Sequence[str] | None = None,
        *,
        comments: Sequence[str] = (),
        path: str = "<words>",
        line: int = 1,
    ) -> Sentence:
        """Return a sentence of ten columns made from words; columns that are not given are ``_``.

        Args:
            forms: The words.
            upos: A part of speech for each word.
            heads: A head for each word.
            deprels: A relation for each word.
            comments: Comment lines, each starting with ``#``.
            path: Where the sentence comes from, for messages.
            line: The line there, for messages.

        Raises:
            ValueError: No words, columns of different lengths, or text that does not fit in a column.
        """
        count = len(forms)
        if not count:
            raise ValueError("a sentence needs at least one word")
        blank = ("_",) * count
        upos, deprels = upos or blank, deprels or blank
        heads = heads or (None,) * count
        for name, column in (("upos", upos), ("heads", heads), ("deprels", deprels)):
            if len(column) != count:
                raise ValueError(f"{name} has {len(column)} entries for {count} words")
        _require_fields((*forms, *upos, *deprels))
        if any(not comment.startswith("#") or "\n" in comment for comment in comments):
            raise ValueError("a comment is one line that starts with '#'")
        lines = list(comments)
        for position, (form, tag, head, deprel) in enumerate(zip(forms, upos, heads, deprels, strict=True), start=1):
            lines.append(f"{position}\t{form}\t_\t{tag}\t_\t_\t{_head_text(head, count)}\t{deprel}\t_\t_")
        return cls("\n".join(lines) + "\n\n", path, line, tuple(forms), tuple(upos), tuple(heads), tuple(deprels))

    def __len__(self) -> int:
        """Return the number of syntactic words."""
        return len(self.forms)

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """Return the syntactic words with all ten columns."""
        rows = [row for row in self.rows if row[0].isdigit()]
        words = []
        for position, (row, head) in enumerate(zip(rows, self.heads, strict=True), start=1):
            _, form, lemma, upos, xpos, feats, _, deprel, deps, misc = row
            words.append(Word(position, form, lemma, upos, xpos, feats, head, deprel, deps, misc))
        return tuple(words)

    @property
    def rows(self) -> list[list[str]]:
        """Return the ten columns of each line that is no comment: words, multiword tokens and empty nodes."""
        return [line.split("\t") for line in self._lines if line and not line.startswith("#")]

    @property
    def multiword_tokens(self) -> tuple[MultiwordToken, ...]:
        """Return the multiword tokens in order."""
        found = []
        for row in self.rows:
            first, dash, last = row[0].partition("-")
            if dash:
                found.append(MultiwordToken(int(first), int(last), row[1], row[9]))
        return tuple(found)

    @property
    def empty_nodes(self) -> tuple[EmptyNode, ...]:
        """Return the empty nodes in order."""
        return tuple(EmptyNode(row[0], tuple(row)) for row in self.rows if "." in row[0])

    @property
    def comments(self) -> tuple[str, ...]:
        """Return the comment lines, each with its ``#`` and without its line end."""
        return tuple(line for line in self._lines if line.startswith("#"))

    @property
    def sent_id(self) -> str | None:
        """Return the value of the ``# sent_id =`` comment, or None."""
        return self._comment_value("sent_id")

    @property
    def text(self) -> str | None:
        """Return the value of the ``# text =`` comment, or None."""
        return self._comment_value("text")

    def to_conllu(self) -> str:
        """Return the exact text of the sentence, line ends and closing blank line included."""
        return self.source

    def with_tree(
        self,
        heads: Sequence[int | None],
        deprels: Sequence[str] | None = None,
        *,
        misc: Sequence[str | None] | None = None,
        clear_deps: bool = False,
    ) -> Sentence:
        """Return this sentence with other heads (and relations); no other character changes unless asked for.

        Args:
            heads: For each word the position of its head, 0 for the root, None for ``_``. Whether they form a tree
                is not looked at.
            deprels: A relation for each word; None keeps column 8.
            misc: For each word an item such as ``"Confidence=0.93"`` to put into MISC, in place of an item of the same
                name; None leaves that word's MISC alone.
            clear_deps: Write ``_`` into DEPS, whose enhanced graph may contradict the new tree.

        Raises:
            ValueError: A sequence of the wrong length, a head out of range, or text that does not fit in a column.
        """
        count = len(self)
        for name, column in (("heads", heads), ("deprels", deprels), ("misc", misc)):
            if column is not None and len(column) != count:
                raise ValueError(f"{name} has {len(column)} entries, but the sentence has {count} words")
        _require_fields(set(deprels or ()) | {item for item in misc or () if item is not None})
        lines = self.source.split("\n")
        word = 0
        for number, line in enumerate(lines):
            row = line.split("\t")
            if len(row) != len(COLUMNS) or not row[0].isdigit():
                continue
            row[6] = _head_text(heads[word], count)
            if deprels is not None:
                row[7] = deprels[word]
            if clear_deps:
                row[8] = "_"
            item = misc[word] if misc is not None else None
            if item is not None:
                end = "\r" if row[9].endswith("\r") else ""
                row[9] = _with_item(row[9].removesuffix("\r"), item) + end
            lines[number] = "\t".join(row)
            word += 1
        return Sentence(
            "\n".join(lines),
            self.path,
            self.line,
            self.forms,
            self.upos,
            tuple(heads),
            self.deprels if deprels is None else tuple(deprels),
        )

    @property
    def _lines(self) -> list[str]:
        return [line.removesuffix("\r") for line in self.source.split("\n")]

    def _comment_value(self, key: str) -> str | None:
        for comment in self.comments:
            name, equals, value = comment[1:].partition("=")
            if equals and name.strip() == key:
                return value.strip()
        return None


def _head_text(head: int | None, count: int) -> str:
    if head is None:
        return "_"
    if not 0 <= head <= count:
        raise ValueError(f"head {head} is out of range: the sentence has {count} words")
    return str(head)


def _require_fields(values: Sequence[str] | set[str]) -> None:
    for value in values:
        if not value or "\t" in value or "\n" in value or "\r" in value:
            raise ValueError(f"{value!r} does not fit in a column: it is empty or contains a tab or a line end")


def _with_item(misc: str, item: str) -> str:
    """Return MISC with ``item`` in the place of the item of the same name, or at the end."""
    name = item.partition("=")[0]
    items = [] if misc == "_" else misc.split("|")
    for index, existing in enumerate(items):
        if existing.partition("=")[0] == name:
            items[index] = item
            return "|".join(items)
    return "|".join([*items, item])
