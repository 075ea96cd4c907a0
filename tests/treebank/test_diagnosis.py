"""Malformed input: each case gives its whole message, with the line; skipped, it is passed through unchanged."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from parser_vae.errors import TreebankError
from parser_vae.treebank.conllu import parse_treebank, read_treebank

REST = "\t_\t_\t_\t_\t"
GOOD = f"1\tok{REST}0\troot\t_\t_\n\n".encode()


def row(word: object, head: object, form: str = "w") -> str:
    return f"{word}\t{form}{REST}{head}\tdep\t_\t_\n"


CASES: dict[str, tuple[bytes | str, str]] = {
    "nine columns": (
        f"1\tw{REST}0\troot\t_\n\n",
        "f:3: the line has 9 columns, expected 10; write _ for a missing value",
    ),
    "eleven columns": (
        f"1\tw{REST}0\troot\t_\t_\t_\n\n",
        "f:3: the line has 11 columns, expected 10; remove the surplus tabs",
    ),
    "blanks for tabs": (
        "1 w _ _ _ _ 0 root _ _\n\n",
        "f:3: the line has 1 column, expected 10; put tabs between the columns; "
        "plain text with a sentence a line needs --input words",
    ),
    "two tabs": (
        "1\tw\t\t_\t_\t_\t_\t0\troot\t_\t_\n\n",
        "f:3: the line has 11 columns, expected 10; remove the surplus tabs",
    ),
    "empty column": (
        "1\tw\t\t_\t_\t_\t0\troot\t_\t_\n\n",
        "f:3: column 3 (LEMMA) is empty; write _ for a missing value, and one tab between columns",
    ),
    "empty last column": (
        f"1\tw{REST}0\troot\t_\t\n\n",
        "f:3: column 10 (MISC) is empty; write _ for a missing value, and one tab between columns",
    ),
    "white space": (
        f"{row(1, 0)} \t\n\n",
        "f:4: the line has only white space; make it empty to end the sentence, or remove it",
    ),
    "skipped ID": (row(1, 0) + row(3, 1) + "\n", "f:4: ID is 3, expected 2; number the words 1, 2, 3, ..."),
    "repeated ID": (row(1, 0) + row(1, 1) + "\n", "f:4: ID is 1, expected 2; number the words 1, 2, 3, ..."),
    "ID from 0": (row(0, 0) + "\n", "f:3: ID is 0, expected 1; number the words 1, 2, 3, ..."),
    "bad ID": (
        row(1, 0) + row("x2", 1) + "\n",
        "f:4: ID is x2, expected 2; write a word number, a range (4-5) or an empty node (8.1)",
    ),
    "leading zero": (
        row("01", 0) + "\n",
        "f:3: ID is 01, expected 1; write a word number, a range (4-5) or an empty node (8.1)",
    ),
    "other digits": (
        row("²", 0) + "\n",
        "f:3: ID is '²', expected 1; write a word number, a range (4-5) or an empty node (8.1)",
    ),
    "endless ID": (
        row("1" * 5000, 0) + "\n",
        f"f:3: ID is '{'1' * 30}...', expected 1; write a word number, a range (4-5) or an empty node (8.1)",
    ),
    "overlapping ranges": (
        row("1-2", "_") + row(1, 0) + row("2-3", "_") + row(2, 1) + row(3, 1) + "\n",
        "f:5: the range 2-3 overlaps the range 1-2; let each word belong to one multiword token at most",
    ),
    "range in the wrong place": (
        row(1, 0) + row("1-2", "_") + row(2, 1) + "\n",
        "f:4: the range 1-2 stands before word 2; put a range before its first word, the lower number first",
    ),
    "range backwards": (
        row("1-0", "_") + row(1, 0) + "\n",
        "f:3: ID is 1-0, expected 1; write a word number, a range (4-5) or an empty node (8.1)",
    ),
    "range too long": (
        row("1-3", "_") + row(1, 0) + row(2, 1) + "\n",
        "f:3: the range 1-3 ends behind the last word, 2; correct the range, or add the words that are missing",
    ),
    "empty node in the wrong place": (
        row(1, 0) + row("2.1", "_") + "\n",
        "f:4: the empty node 2.1 stands where 1.1 is expected; put empty node 8.1 behind word 8, and 8.2 behind 8.1",
    ),
    "only an empty node": (row("0.1", "_") + "\n", "f:3: the sentence has no words; remove it, or add its words"),
    "only comments": ("# text = a\n\n", "f:3: comments without a sentence; remove them, or add the words below them"),
    "comment inside": (
        row(1, 0) + "# text = b\n" + row(2, 1) + "\n",
        "f:4: a comment stands inside the sentence; "
        "move it before the first word, or put the blank line that is missing",
    ),
    "HEAD out of range": (
        row(1, 0) + row(2, 31) + "\n",
        "f:4: HEAD is 31, but the sentence has 2 words; give it a head from 0 to 2",
    ),
    "HEAD not a number": (
        row(1, 0) + row(2, "one two") + "\n",
        "f:4: HEAD is 'one two', expected a whole number from 0 to 2; annotate the sentence, or correct the number",
    ),
    "HEAD negative": (
        row(1, 0) + row(2, -1) + "\n",
        "f:4: HEAD is -1, expected a whole number from 0 to 2; annotate the sentence, or correct the number",
    ),
    "HEAD missing": (
        row(1, 0) + row(2, "_") + "\n",
        "f:4: HEAD is _, expected a whole number from 0 to 2; annotate the sentence, or correct the number",
    ),
    "HEAD endless": (
        row(1, "9" * 5000) + "\n",
        f"f:3: HEAD is '{'9' * 30}...', expected a whole number from 0 to 1; "
        "annotate the sentence, or correct the number",
    ),
    "cycle": (
        row(1, 0) + row(2, 3) + row(3, 2) + "\n",
        "f:4: the heads form a cycle (2 -> 3 -> 2); give one of these words a head outside the cycle",
    ),
    "own head": (
        row(1, 0) + row(2, 2) + "\n",
        "f:4: the word is its own head (2 -> 2); give one of these words a head outside the cycle",
    ),
    "no root": (row(1, 2) + row(2, 1) + "\n", "f:3: no word has HEAD 0; give the root of the sentence HEAD 0"),
    "several roots": (
        row(1, 0) + row(2, 0) + "\n",
        "f:4: HEAD is 0, but word 1 is the root already; attach one of the two to the other, or split the sentence",
    ),
    "not UTF-8": (
        row(1, 0, "caf").encode()[:5] + b"\xe9" + row(1, 0, "caf").encode()[5:] + b"\n",
        "f:3: byte 0xe9 is not UTF-8; convert the file to UTF-8, for instance with iconv",
    ),
    "NUL": (
        row(1, 0, "a\0b") + "\n",
        "f:3: the line contains a NUL character; remove it; is the file UTF-8 text?",
    ),
    "carriage return": (
        row(1, 0, "a\rb") + "\n",
        "f:3: the line contains a carriage return; end lines with LF or CR LF, nothing else",
    ),
    "cut off in a line": (
        row(1, 0) + row(2, 1)[:-6],
        "f:4: the line has 8 columns, expected 10; write _ for a missing value",
    ),
    "cut off at the end of a line": (
        row(1, 0) + row(2, 1).rstrip("\n"),
        "f:4: the file ends inside this line, its last sentence may be cut off; "
        "complete the file; each line ends with a line end",
    ),
    "cut off between lines": (
        row(1, 0) + row(2, 3),
        "f:4: HEAD is 3, but the sentence has 2 words (the file ends here, without a blank line: is it complete?); "
        "give it a head from 0 to 2",
    ),
    "10 MB line": (
        "x" * 10_000_000 + "\n\n",
        "f:3: the line has 10000000 characters, more than 1000000; "
        "check that the file has one word, or one sentence of words, a line",
    ),
    "1 MB form": (
        row(1, 0, "x" * 1_000_000) + "\n",
        "f:3: the line has 1000020 characters, more than 1000000; "
        "check that the file has one word, or one sentence of words, a line",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_each_case_gives_its_message_and_is_skipped_unchanged(case: str, line_end: bytes) -> None:
    content, message = CASES[case]
    data = GOOD + (content if isinstance(content, bytes) else content.encode())
    if not case.startswith("cut off"):
        data += GOOD
    data = data.replace(b"\n", line_end)
    with pytest.raises(TreebankError) as caught:
        parse_treebank(data, "f")
    assert str(caught.value) == message
    treebank = parse_treebank(data, "f", on_error="skip")
    assert [str(block.error) for block in treebank.malformed] == [message]
    assert len(treebank.sentences) == (1 if case.startswith("cut off") else 2)
    assert "".join(block.to_conllu() for block in treebank.blocks).encode(errors="surrogateescape") == data


TREE_CASES = ("HEAD", "cycle", "own head", "no root", "several roots", "cut off between lines")


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith(TREE_CASES)])
def test_trees_are_not_looked_at_when_they_are_not_used(case: str) -> None:
    content, _ = CASES[case]
    assert isinstance(content, str)
    (sentence,) = parse_treebank(content.encode(), "f", trees="ignore").blocks
    assert sentence.to_conllu() == content


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith(TREE_CASES)])
def test_ids_and_columns_are_checked_always(case: str) -> None:
    content, message = CASES[case]
    data = GOOD + (content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TreebankError) as caught:
        parse_treebank(data, "f", trees="ignore")
    assert str(caught.value) == message


def test_byte_order_mark() -> None:
    with pytest.raises(TreebankError) as caught:
        parse_treebank(b"\xef\xbb\xbf# text = ok\n" + GOOD, "f")
    assert str(caught.value) == "f:1: the file starts with a byte order mark; save it as UTF-8 without one"
    treebank = parse_treebank(b"\xef\xbb\xbf" + GOOD + GOOD, "f", on_error="skip")
    assert len(treebank.malformed) == len(treebank.sentences) == 1


def test_a_zero_width_space_inside_the_file_is_no_byte_order_mark() -> None:
    parse_treebank(row(1, 0, "\ufeff").encode() + b"\n", "f")


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\n\n"])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_empty_file(data: bytes, on_error: str) -> None:
    with pytest.raises(TreebankError) as caught:
        parse_treebank(data, "f", on_error=on_error)  # type: ignore[arg-type]
    assert str(caught.value) == "f: the file is empty; give a file with at least one sentence"


def test_all_problems_of_a_sentence_are_kept_in_the_order_of_the_lines() -> None:
    text = "# a\n1\tw\t\t_\t_\t_\t0\troot\t_\n# b\n2 w\n\n"
    (block,) = parse_treebank(text.encode(), "f", on_error="skip").malformed
    assert [(error.line, error.what) for error in block.errors] == [
        (2, "the line has 9 columns, expected 10"),
        (2, "column 3 (LEMMA) is empty"),
        (3, "a comment stands inside the sentence"),
        (4, "the line has 1 column, expected 10"),
    ]


def test_several_bad_ids_are_reported_once_each() -> None:
    text = row(1, 0) + row(3, 1) + row(4, 1) + row("x", 1) + row(6, 1) + "\n"
    (block,) = parse_treebank(text.encode(), "f", on_error="skip").malformed
    assert [error.what for error in block.errors] == ["ID is 3, expected 2", "ID is x, expected 5"]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TreebankError) as caught:
        read_treebank(tmp_path / "no.conllu")
    path = tmp_path / "no.conllu"
    assert str(caught.value) == f"{path}: cannot be read (No such file or directory); check the name of the file"
    with pytest.raises(TreebankError, match="Is a directory"):
        read_treebank(tmp_path)


def test_broken_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu.gz"
    path.write_bytes(gzip.compress(GOOD)[:-9])
    with pytest.raises(TreebankError) as caught:
        read_treebank(path)
    assert str(caught.value).startswith(f"{path}: cannot be unzipped (")
    assert str(caught.value).endswith("); fetch or zip it again")
