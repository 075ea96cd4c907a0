"""CoNLL-U files read and written: one line of message for what is wrong, and not a byte changed in what is right.

A file is cut at its blank lines into blocks; each becomes a ``Sentence`` or, if it is not well formed, a ``Malformed``.
Joining the text of the blocks gives the file back. The quick checks of ``_columns`` accept most sentences; the others
go through ``diagnosis``, which has the last word.
"""

from __future__ import annotations

import gzip
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import BinaryIO, Literal

from parser_vae.errors import TreebankError
from parser_vae.treebank.checks import is_tree
from parser_vae.treebank.diagnosis import LONGEST_LINE, diagnose, line_problems, parse_number
from parser_vae.treebank.sentence import COLUMNS, Sentence

_BLANK_LINES = re.compile(r"\n\r?\n(?:\r?\n)*")
_LEADING_BLANK_LINES = re.compile(r"(?:\r?\n)*")
_VALUE = "[^\t\n]++"
_ROW = re.compile(
    rf"^({_VALUE})\t({_VALUE})\t{_VALUE}\t({_VALUE})(?:\t{_VALUE}){{2}}\t({_VALUE})\t({_VALUE})\t{_VALUE}\t{_VALUE}$",
    re.MULTILINE,
)
"""A line of ten columns; its groups are ID, FORM, UPOS, HEAD and DEPREL."""
_GZIP_MAGIC = b"\x1f\x8b"
_WORD_IDS = [str(number) for number in range(1, 1001)]


@dataclass(frozen=True)
class Malformed:
    """A block that is not well formed: its raw text, written through unchanged, and all that is wrong with it."""

    source: str
    path: str
    line: int
    errors: tuple[TreebankError, ...]

    @property
    def error(self) -> TreebankError:
        """Return the first problem."""
        return self.errors[0]

    def to_conllu(self) -> str:
        """Return the raw text of the block."""
        return self.source


@dataclass(frozen=True)
class Treebank:
    """The blocks of a file in order; the texts of all blocks, joined, are the text of the file."""

    path: str
    blocks: tuple[Sentence | Malformed, ...]

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        """Return the well-formed sentences."""
        return tuple(block for block in self.blocks if isinstance(block, Sentence))

    @cached_property
    def malformed(self) -> tuple[Malformed, ...]:
        """Return the blocks that were skipped."""
        return tuple(block for block in self.blocks if isinstance(block, Malformed))


class _HeadNumbers(dict[str, int | None]):
    """HEAD as written to HEAD as a number; a table, since the same few numbers make up the whole column."""

    def __missing__(self, text: str) -> int | None:
        return parse_number(text)


_head = _HeadNumbers((str(number), number) for number in range(1000)).__getitem__


def read_treebank(
    path: str | Path | BinaryIO,
    *,
    trees: Literal["check", "ignore"] = "check",
    on_error: Literal["stop", "skip"] = "stop",
    input: Literal["conllu", "words"] = "conllu",
) -> Treebank:
    """Return the sentences of a file, in UTF-8, gzipped or not.

    Args:
        path: The file; ``-`` is standard input. Or an open binary file.
        trees: ``check`` demands a tree with one root in HEAD (projective or not); ``ignore`` does not look at HEAD,
            DEPREL and DEPS, so that unlabelled sentences, whose HEAD is ``_``, are fine.
        on_error: ``stop`` raises the first problem; ``skip`` keeps what is malformed as ``Malformed`` blocks.
        input: ``words`` reads plain text, one tokenised sentence a line, words separated by blanks; blank lines are
            left out, and a problem always stops.

    Raises:
        TreebankError: The file cannot be read, is empty, or (with ``stop``) is not well formed.
    """
    name, data = read_bytes(path)
    return parse_treebank(data, name, trees=trees, on_error=on_error, input=input)


def parse_treebank(
    data: bytes,
    name: str,
    *,
    trees: Literal["check", "ignore"] = "check",
    on_error: Literal["stop", "skip"] = "stop",
    input: Literal["conllu", "words"] = "conllu",
) -> Treebank:
    """Return the sentences in the content of a file, called ``name`` in messages; see :func:`read_treebank`."""
    try:
        text, decoded = data.decode(), True
    except UnicodeDecodeError:
        text, decoded = data.decode(errors="surrogateescape"), False
    plain = decoded and "\0" not in text and not text.startswith("\ufeff")
    blocks: list[Sentence | Malformed] = []
    if input == "words":
        blocks.extend(_read_words(text, name))
    elif text.strip("\r\n"):
        for source, line in _split(text):
            block = _read_block(source, name, line, trees, plain)
            if on_error == "stop" and isinstance(block, Malformed):
                raise block.error
            blocks.append(block)
    if not blocks:
        raise TreebankError(name, None, "the file is empty", "give a file with at least one sentence")
    return Treebank(name, tuple(blocks))


def write_treebank(path: str | Path, blocks: Iterable[Sentence | Malformed]) -> None:
    """Write blocks to a file, gzipped if its name ends in ``.gz``; ``-`` is standard output.

    The file appears under its name once it is complete. A block without a closing blank line gets one if another
    follows.

    Raises:
        TreebankError: The file cannot be written.
    """
    texts: list[str] = []
    for block in blocks:
        if texts and not texts[-1].endswith(("\n\n", "\n\r\n")):
            texts.append("\n" if texts[-1].endswith("\n") else "\n\n")
        texts.append(block.to_conllu())
    data = "".join(texts).encode(errors="surrogateescape")
    if str(path) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if str(path).endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    target = Path(path).resolve()
    try:
        if target.exists() and not target.is_file():  # a device or a pipe: nothing to replace
            target.write_bytes(data)
            return
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise TreebankError(str(path), None, f"cannot be written ({reason})", "choose another place") from error


def read_bytes(path: str | Path | BinaryIO) -> tuple[str, bytes]:
    """Return the name of a file for messages, and its content, unzipped if it is gzipped; ``-`` is standard input.

    Raises:
        TreebankError: The file cannot be read or unzipped.
    """
    name = str(path) if isinstance(path, str | Path) else str(getattr(path, "name", "<stream>"))
    if name == "-":
        name, path = "<stdin>", sys.stdin.buffer
    try:
        data = Path(path).read_bytes() if isinstance(path, str | Path) else path.read()
    except OSError as error:
        reason = error.strerror or str(error)
        raise TreebankError(name, None, f"cannot be read ({reason})", "check the name of the file") from error
    if data.startswith(_GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise TreebankError(name, None, f"cannot be unzipped ({error})", "fetch or zip it again") from error
    return name, data


def _split(text: str) -> Iterator[tuple[str, int]]:
    """Yield each block with its closing blank lines, and the number of its first line that is not blank."""
    start = _LEADING_BLANK_LINES.match(text).end()  # type: ignore[union-attr]  # it matches the empty string too
    line = 1 + text.count("\n", 0, start)
    begin = 0
    for blank in _BLANK_LINES.finditer(text, start):
        end = blank.end()
        yield text[begin:end], line
        line += text.count("\n", start, end)
        begin = start = end
    if begin < len(text):
        yield text[begin:], line


def _read_block(
    source: str, path: str, line: int, trees: Literal["check", "ignore"], plain: bool
) -> Sentence | Malformed:
    """Return what a block holds; ``plain`` says that the file is free of undecoded bytes, NUL and byte order mark."""
    normal = source.replace("\r\n", "\n") if "\r" in source else source
    if plain and len(source) <= LONGEST_LINE and normal.endswith("\n") and "\r" not in normal:
        columns = _columns(normal)
        if columns is not None:
            sentence = _sentence(source, path, line, columns)
            if trees == "ignore" or is_tree(sentence.heads):
                return sentence
    errors = diagnose(normal, path, line, trees)
    if errors:
        return Malformed(source, path, line, errors)
    rows = [row for row in (text.split("\t") for text in normal.split("\n")) if row[0].isdigit()]
    columns = list(zip(*rows, strict=True))
    return _sentence(source, path, line, (columns[1], columns[3], columns[6], columns[7]))


def _sentence(source: str, path: str, line: int, columns: Sequence[tuple[str, ...]]) -> Sentence:
    """Return a sentence of FORM, UPOS, HEAD and DEPREL."""
    forms, upos, heads, deprels = columns
    return Sentence(source, path, line, forms, upos, tuple(map(_head, heads)), deprels)


def _columns(normal: str) -> Sequence[tuple[str, ...]] | None:
    """Return FORM, UPOS, HEAD, DEPREL of the words if the block is plainly well formed so far; None is no verdict."""
    start = 0
    while normal.startswith("#", start):
        start = normal.find("\n", start) + 1
    body = normal[start:].strip("\n")
    rows = _ROW.findall(body)
    if len(rows) != body.count("\n") + 1:
        return None
    ids = [row[0] for row in rows]
    if ids != _WORD_IDS[: len(ids)]:
        is_word = list(map(str.isdigit, ids))
        rows = list(compress(rows, is_word))
        if [row[0] for row in rows] != _WORD_IDS[: len(rows)] or not _ranges_fit(ids, is_word):
            return None
    return list(zip(*rows, strict=True))[1:]


def _ranges_fit(ids: Sequence[str], is_word: Sequence[bool]) -> bool:
    """Return whether all IDs but those of words are ranges in their right places; the words count 1, 2, 3, ..."""
    others = [index for index, word in enumerate(is_word) if not word]
    count, covered = len(ids) - len(others), 0
    for nth, index in enumerate(others):
        first, _, last = map(parse_number, ids[index].partition("-"))
        if first != index - nth + 1 or last is None or not covered < first <= last <= count:
            return False
        covered = last
    return True


def _read_words(text: str, path: str) -> Iterator[Sentence]:
    """Yield a sentence for each line of plain text that is not blank."""
    for number, ended_line in enumerate(text.split("\n"), start=1):
        line = ended_line.removesuffix("\r")
        for what, remedy in line_problems(line, starts_file=number == 1):
            raise TreebankError(path, number, what, remedy)
        words = re.findall("[^ \t]+", line)
        if not words:
            continue
        if words[0] == "1" and line.count("\t") == len(COLUMNS) - 1:
            remedy = "read it without --input words, or name it .conllu"
            raise TreebankError(path, number, "this looks like CoNLL-U", remedy)
        comments = (f"# sent_id = {number}", f"# text = {' '.join(words)}")
        yield Sentence.from_words(words, comments=comments, path=path, line=number)
