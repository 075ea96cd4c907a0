"""Every problem of a piece of CoNLL-U, one ``TreebankError`` each, in the order of the lines.

The reader comes here only with sentences that failed its quick checks, so this module prefers clear messages to speed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from parser_vae.errors import TreebankError
from parser_vae.treebank.checks import tree_problems
from parser_vae.treebank.sentence import COLUMNS

LONGEST_LINE = 1_000_000
"""Characters; no word, comment or MISC column comes near it, but a file that is not CoNLL-U may."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_RANGE = re.compile(r"([1-9][0-9]{0,8})-([1-9][0-9]{0,8})")
_EMPTY_NODE = re.compile(r"(0|[1-9][0-9]{0,8})\.([1-9][0-9]{0,8})")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_UNDECODED = re.compile("[\udc80-\udcff]")
_BYTE_ORDER_MARK = "\ufeff"


class Problem(NamedTuple):
    """A problem of one line, counted from 0 within the lines it was found in."""

    offset: int
    what: str
    remedy: str


def parse_number(text: str) -> int | None:
    """Return a whole number as written in ID and HEAD (no sign, no leading zero, at most nine digits), or None."""
    return int(text) if _NUMBER.fullmatch(text) else None


def diagnose(text: str, path: str, first_line: int, trees: Literal["check", "ignore"]) -> tuple[TreebankError, ...]:
    """Return every problem of one sentence; none means that it is well formed.

    Args:
        text: The sentence with its blank lines, CR LF replaced by LF.
        path: The file, as the user named it.
        first_line: The number in that file of the first line of ``text`` that is not blank.
        trees: Whether HEAD is looked at.
    """
    lines = text.strip("\n").split("\n")
    problems = [*_text_problems(lines, first_line), *_row_problems(lines)]
    rows = [(offset, line.split("\t")) for offset, line in enumerate(lines) if not line.startswith("#")]
    if not rows:
        problems.append(Problem(0, "comments without a sentence", "remove them, or add the words below them"))
    if not text.endswith("\n"):
        what = "the file ends inside this line, its last sentence may be cut off"
        problems.append(Problem(len(lines) - 1, what, "complete the file; each line ends with a line end"))
    if not problems:
        problems.extend(
            Problem(rows[index][0], what, remedy) for index, what, remedy in id_problems([row[0] for _, row in rows])
        )
    if not problems and trees == "check":
        words = [(offset, row[6]) for offset, row in rows if row[0].isdigit()]
        hint = "" if text.endswith("\n\n") else " (the file ends here, without a blank line: is it complete?)"
        problems.extend(Problem(offset, what + hint, remedy) for offset, what, remedy in _head_problems(words))
    problems.sort(key=lambda problem: problem.offset)
    return tuple(TreebankError(path, first_line + offset, what, remedy) for offset, what, remedy in problems)


def id_problems(ids: Sequence[str]) -> list[Problem]:
    """Return the problems of column 1 of the rows of a sentence.

    Words count 1, 2, 3, ...; a range ``4-5`` stands before its first word and shares no word with another range; an
    empty node ``8.1`` stands behind word 8, and these count 8.1, 8.2, ...
    """
    problems: list[Problem] = []
    word = empty = 0
    open_range = 0
    range_index, range_text = 0, ""
    for index, text in enumerate(ids):
        if text == str(word + 1):
            word, empty = word + 1, 0
        elif (number := parse_number(text)) is not None:
            problems.append(Problem(index, f"ID is {number}, expected {word + 1}", "number the words 1, 2, 3, ..."))
            word, empty = number, 0
        elif match := _RANGE.fullmatch(text):
            first, last = int(match[1]), int(match[2])
            if first <= open_range:
                what = f"the range {text} overlaps the range {range_text}"
                problems.append(Problem(index, what, "let each word belong to one multiword token at most"))
            elif first != word + 1 or last < first:
                what = f"the range {text} stands before word {word + 1}"
                problems.append(Problem(index, what, "put a range before its first word, the lower number first"))
            open_range, range_index, range_text = max(open_range, last), index, text
        elif match := _EMPTY_NODE.fullmatch(text):
            if (int(match[1]), int(match[2])) != (word, empty + 1):
                what = f"the empty node {text} stands where {word}.{empty + 1} is expected"
                problems.append(Problem(index, what, "put empty node 8.1 behind word 8, and 8.2 behind 8.1"))
            empty += 1
        else:
            what = f"ID is {shown(text)}, expected {word + 1}"
            problems.append(Problem(index, what, "write a word number, a range (4-5) or an empty node (8.1)"))
            word += 1
    if open_range > word and not problems:
        what = f"the range {range_text} ends behind the last word, {word}"
        problems.append(Problem(range_index, what, "correct the range, or add the words that are missing"))
    if not word and not problems:
        problems.append(Problem(0, "the sentence has no words", "remove it, or add its words"))
    return problems


def shown(value: str, longest: int = 30) -> str:
    """Return a value of a file, fit for a one-line message: shortened, and quoted unless it is a plain word."""
    text = value if len(value) <= longest else value[:longest] + "..."
    return text if _PLAIN.fullmatch(value) and text == value else repr(text)


def line_problems(line: str, starts_file: bool) -> list[tuple[str, str]]:
    """Return what is wrong with the characters of one line, and what to do about each."""
    problems = []
    if starts_file and line.startswith(_BYTE_ORDER_MARK):
        problems.append(("the file starts with a byte order mark", "save it as UTF-8 without one"))
    if len(line) > LONGEST_LINE:
        what = f"the line has {len(line)} characters, more than {LONGEST_LINE}"
        problems.append((what, "check that the file has one word, or one sentence of words, a line"))
    if match := _UNDECODED.search(line):
        what = f"byte 0x{ord(match[0]) - 0xDC00:02x} is not UTF-8"
        problems.append((what, "convert the file to UTF-8, for instance with iconv"))
    if "\0" in line:
        problems.append(("the line contains a NUL character", "remove it; is the file UTF-8 text?"))
    if "\r" in line:
        problems.append(("the line contains a carriage return", "end lines with LF or CR LF, nothing else"))
    return problems


def _text_problems(lines: Sequence[str], first_line: int) -> Iterator[Problem]:
    words_seen = False
    for offset, line in enumerate(lines):
        for what, remedy in line_problems(line, starts_file=first_line + offset == 1):
            yield Problem(offset, what, remedy)
        if not line.startswith("#"):
            words_seen = True
        elif words_seen:
            what = "a comment stands inside the sentence"
            yield Problem(offset, what, "move it before the first word, or put the blank line that is missing")


def _row_problems(lines: Sequence[str]) -> Iterator[Problem]:
    for index, line in enumerate(lines):
        if line.startswith("#"):
            continue
        if not line.strip():
            yield Problem(index, "the line has only white space", "make it empty to end the sentence, or remove it")
            continue
        columns = line.split("\t")
        if len(columns) != len(COLUMNS):
            plural = "s" if len(columns) > 1 else ""
            remedy = "write _ for a missing value" if len(columns) < len(COLUMNS) else "remove the surplus tabs"
            if len(columns) == 1:
                remedy = "put tabs between the columns; plain text with a sentence a line needs --input words"
            yield Problem(index, f"the line has {len(columns)} column{plural}, expected {len(COLUMNS)}", remedy)
        for number, value in enumerate(columns[: len(COLUMNS)], start=1):
            if not value:
                what = f"column {number} ({COLUMNS[number - 1]}) is empty"
                yield Problem(index, what, "write _ for a missing value, and one tab between columns")


def _head_problems(words: Sequence[tuple[int, str]]) -> Iterator[Problem]:
    heads = [parse_number(text) for _, text in words]
    for (index, text), head in zip(words, heads, strict=True):
        if head is None:
            what = f"HEAD is {shown(text)}, expected a whole number from 0 to {len(words)}"
            yield Problem(index, what, "annotate the sentence, or correct the number")
    if None in heads:
        return
    for position, what, remedy in tree_problems(heads):
        yield Problem(words[max(position, 1) - 1][0], what, remedy)
