"""Damaged files: the reader gives sentences or a ``TreebankError``, keeps every byte, and never fails otherwise.

``PARSER_VAE_FUZZ_BYTES=1000000`` makes the mutations longer than the default run does.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parser_vae.errors import TreebankError
from parser_vae.treebank.catalog import bundled
from parser_vae.treebank.checks import crossing_arcs, is_tree
from parser_vae.treebank.conllu import parse_treebank
from parser_vae.treebank.diagnosis import diagnose
from parser_vae.treebank.sentence import Sentence

FUZZ_BYTES = int(os.environ.get("PARSER_VAE_FUZZ_BYTES", "60000"))

FRAGMENTS = [
    *(b"\t", b"\t\t", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b" ", b"_", b"#", b"# x\n", b"\0", b"\xff", b"\xc3"),
    *(b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc2\x85", b"\xe2\x80\xa8", b"\xc2\xb2", b"-", b".", b"0", b"1", b"2", b"3"),
    *(b"1-2", b"2-3", b"1.1", b"0.1", b"-1", b"99999999999", b"|", b"=", b":", b"1:x|2:y", b"\x1f\x8b"),
    b"1\tw\t_\t_\t_\t_\t0\troot\t_\t_\n",
    b"2\tw\t_\t_\t_\t_\t1\tdep\t_\t_\n",
    b"1-2\tw\t_\t_\t_\t_\t_\t_\t_\t_\n",
    b"1.1\tw\t_\t_\t_\t_\t_\t_\t_\t_\n",
]


def examine(data: bytes) -> int:
    """Check all that is promised for any content of a file, and return the number of sentences in it."""
    total = 0
    for trees in ("check", "ignore"):
        try:
            treebank = parse_treebank(data, "f", trees=trees, on_error="skip")
        except TreebankError as error:
            assert str(error) == "f: the file is empty; give a file with at least one sentence"
            return 0
        assert "".join(block.to_conllu() for block in treebank.blocks).encode(errors="surrogateescape") == data
        first_error = next((block.error for block in treebank.malformed), None)
        try:
            parse_treebank(data, "f", trees=trees)
        except TreebankError as error:
            assert first_error is not None
            assert str(error) == str(first_error)
            assert "\n" not in str(error)
            assert len(str(error)) < 300
        else:
            assert first_error is None
        for sentence in treebank.sentences:
            examine_sentence(sentence, trees == "check")
        total += len(treebank.sentences)
    try:
        parse_treebank(data, "f", input="words")
    except TreebankError as error:
        assert "\n" not in str(error)
    return total


def examine_sentence(sentence: Sentence, has_tree: bool) -> None:
    assert not diagnose(sentence.source.replace("\r\n", "\n"), "f", sentence.line, "check" if has_tree else "ignore")
    assert [word.form for word in sentence.words] == list(sentence.forms)
    assert all(word.features is not None and word.misc_items is not None for word in sentence.words)
    for token in sentence.multiword_tokens:
        assert 1 <= token.first <= token.last <= len(sentence)
    assert len(sentence.rows) == len(sentence) + len(sentence.multiword_tokens) + len(sentence.empty_nodes)
    if has_tree:
        assert is_tree(sentence.heads)
        crossing_arcs([head or 0 for head in sentence.heads])
        assert sentence.with_tree(sentence.heads, sentence.deprels) == sentence
    chain = sentence.with_tree(range(len(sentence)), ["dep"] * len(sentence))
    assert parse_treebank(chain.to_conllu().encode(), "f").sentences == (chain,)


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Return a piece of a file with a few random edits."""
    start = generator.randrange(len(data))
    piece = bytearray(data[start : start + generator.randrange(1, 2000)])
    if generator.random() < 0.7:  # start with a whole sentence
        piece = piece[piece.find(b"\n\n") + 2 :] or piece
    for _ in range(generator.choice([0, 1, 1, 1, 2, 3, 10])):
        place, end = generator.randrange(len(piece) + 1), generator.randrange(1, 8)
        kind = generator.randrange(5)
        if kind == 0:
            piece[place : place + 1] = bytes([generator.randrange(256)])
        elif kind == 1:
            del piece[place : place + end]
        elif kind == 2:
            piece[place:place] = generator.choice(FRAGMENTS)
        elif kind == 3:
            piece[place : place + end] = generator.choice(FRAGMENTS)
        else:
            piece = piece.replace(generator.choice([b"\n", b"\t_", b"_", b"0"]), generator.choice(FRAGMENTS), 1)
    return bytes(piece)


def test_mutations_of_a_treebank() -> None:
    test = bundled("tiny-target").test
    assert test is not None
    data = test.read_bytes()
    generator = random.Random(20)
    seen = sentences = 0
    while seen < FUZZ_BYTES:
        piece = mutated(data, generator)
        sentences += examine(piece)
        seen += len(piece)
    assert sentences > FUZZ_BYTES / 5000  # most pieces keep sentences that are well formed


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join))
def test_heaps_of_fragments(data: bytes) -> None:
    examine(data)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    examine(data)


_field = st.text(st.characters(exclude_characters="\t\n\r\0", exclude_categories=["Cs"]), min_size=1, max_size=5)


@st.composite
def well_formed(draw: st.DrawFn) -> str:
    """Return a sentence with any text in its columns, its words in a chain."""
    count = draw(st.integers(1, 5))
    rows = [f"# {draw(_field)}"] if draw(st.booleans()) else []
    for position in range(1, count + 1):
        if position < count and draw(st.integers(0, 3)) == 0 and not any(row[:3] == f"{position - 1}-" for row in rows):
            rows.append("\t".join([f"{position}-{position}", *[draw(_field) for _ in range(9)]]))
        columns = [draw(_field) for _ in range(9)]
        columns[5] = str(position - 1)
        rows.append("\t".join([str(position), *columns]))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return end.join(rows) + end * draw(st.integers(2, 3))


@settings(max_examples=50, deadline=None)
@given(st.lists(well_formed(), min_size=1, max_size=3))
def test_well_formed_sentences_are_accepted_whatever_their_columns_hold(texts: list[str]) -> None:
    data = "".join(texts).encode()
    treebank = parse_treebank(data, "f")
    assert [sentence.source for sentence in treebank.sentences] == texts
    examine(data)


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_file_cut_off_anywhere(cut: int) -> None:
    dev = bundled("tiny-target").dev
    assert dev is not None
    examine(dev.read_bytes()[:cut])
