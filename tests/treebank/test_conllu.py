"""Reading and writing: what goes in comes out, byte for byte; files, zipped files, streams and plain text."""

from __future__ import annotations

import gzip
import io
import os
import sys
from pathlib import Path

import conllu
import pytest

from parser_vae.errors import TreebankError
from parser_vae.treebank.catalog import BUNDLED, bundled
from parser_vae.treebank.checks import is_tree
from parser_vae.treebank.conllu import Malformed, Treebank, parse_treebank, read_treebank, write_treebank
from parser_vae.treebank.sentence import Sentence

ROW = "1\tw\t_\t_\t_\t_\t0\troot\t_\t_\n"
SAMPLES = sorted(path for name in BUNDLED for path in vars(bundled(name)).values() if isinstance(path, Path))
REAL = sorted(Path(os.environ.get("PARSER_VAE_DATA", "/nowhere"), "treebanks").glob("*/*.conllu"))


def text_of(treebank: Treebank) -> bytes:
    return "".join(block.to_conllu() for block in treebank.blocks).encode(errors="surrogateescape")


def assert_round_trip(path: Path) -> Treebank:
    """Check that a file survives reading, and a second writing of the trees that it has."""
    treebank = read_treebank(path, trees="ignore" if "unlabeled" in path.name else "check")
    data = path.read_bytes()
    assert text_of(treebank) == data
    rewritten = [sentence.with_tree(sentence.heads, sentence.deprels) for sentence in treebank.sentences]
    assert "".join(sentence.to_conllu() for sentence in rewritten).encode() == data
    return treebank


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_bundled_files_survive(path: Path) -> None:
    assert_round_trip(path)


@pytest.mark.skipif(not REAL, reason="PARSER_VAE_DATA does not name a folder with treebanks/")
@pytest.mark.parametrize("path", REAL, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_real_files_survive(path: Path) -> None:
    assert_round_trip(path)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_our_reader_agrees_with_the_conllu_package(path: Path) -> None:
    ours = read_treebank(path, trees="ignore").sentences
    theirs = conllu.parse(path.read_text(encoding="utf-8"))
    assert len(ours) == len(theirs)
    for sentence, tokens in zip(ours, theirs, strict=True):
        words = [token for token in tokens if isinstance(token["id"], int)]
        assert sentence.sent_id == tokens.metadata["sent_id"]
        assert sentence.text == tokens.metadata["text"]
        assert len(sentence.multiword_tokens) == len(tokens) - len(words)
        for word, token in zip(sentence.words, words, strict=True):
            assert word.position == token["id"]
            assert (word.form, word.lemma, word.upos) == (token["form"], token["lemma"], token["upos"])
            assert (word.head, word.deprel) == (token["head"], token["deprel"])
            assert word.features == (token["feats"] or {})
            assert word.misc_items == (token["misc"] or {})


@pytest.mark.parametrize(
    "text",
    [
        ROW,
        ROW + "\n",
        ROW + "\n\n\n" + ROW + "\n",
        "\n\n" + ROW + "\n" + ROW,
        (ROW + "\n" + ROW + "\n").replace("\n", "\r\n"),
        "\r\n\n" + ROW + "\r\n" + ROW.replace("\n", "\r\n") + "\n\r\n" + ROW + "\n",
        "# a\tb\t\tc\n#\n" + ROW + "\n",
        "1\tun mot\xa0\u2028\x85\x0b\t\ufeff\t_\t_\t_\t0\troot\t_\ta=b=c|_|\n\n",
    ],
)
def test_oddities_survive(text: str) -> None:
    treebank = parse_treebank(text.encode(), "f")
    assert text_of(treebank) == text.encode()
    assert len(treebank.sentences) == len(treebank.blocks) == text.count("\t0\t")
    assert all(len(sentence.words) == len(sentence) == 1 for sentence in treebank.sentences)


def test_line_numbers_are_those_of_the_file() -> None:
    text = "\n\n# a\n" + ROW + "\n\n\n" + ROW + "\r\n" + "# b\r\n" + ROW
    assert [sentence.line for sentence in parse_treebank(text.encode(), "f").sentences] == [3, 8, 10]


def test_long_sentences_and_empty_nodes_are_fine() -> None:
    rows = "".join(f"{n}\tw\t_\t_\t_\t_\t{n - 1}\tdep\t_\t_\n" for n in range(1, 3001))
    empty = "0.1\te\t_\t_\t_\t_\t_\t_\t0:root\t_\n0.2\te\t_\t_\t_\t_\t_\t_\t0:root\t_\n"
    (sentence,) = parse_treebank(f"{empty}{rows}\n".encode(), "f").sentences
    assert sentence.heads == tuple(range(3000))
    assert [node.id for node in sentence.empty_nodes] == ["0.1", "0.2"]


def test_multiword_tokens_around_empty_nodes() -> None:
    ids = ["1-2", "1", "1.1", "2", "3", "4-6", "4", "5", "6"]
    rows = "".join(f"{id}\tw\t_\t_\t_\t_\t{'0' if id == '1' else '1'}\tdep\t_\t_\n" for id in ids)
    (sentence,) = parse_treebank(f"{rows}\n".encode(), "f").sentences
    assert len(sentence) == 6
    assert [(token.first, token.last) for token in sentence.multiword_tokens] == [(1, 2), (4, 6)]


def test_heads_that_are_ignored_are_none_unless_they_are_numbers() -> None:
    text = "1\tw\t_\t_\t_\t_\t_\t_\t_\t_\n2\tw\t_\t_\t_\t_\tx\t_\t_\t_\n3\tw\t_\t_\t_\t_\t77\t_\t_\t_\n\n"
    (sentence,) = parse_treebank(text.encode(), "f", trees="ignore").sentences
    assert sentence.heads == (None, None, 77)


def test_skipping_keeps_order_and_text() -> None:
    text = ROW + "\nbad\n\n" + ROW + "\n"
    blocks = parse_treebank(text.encode(), "f", on_error="skip").blocks
    assert [type(block) for block in blocks] == [Sentence, Malformed, Sentence]
    assert blocks[1].to_conllu() == "bad\n\n"
    assert blocks[1].line == 3


# ------------------------------------------------------------------------------------------------ files


def test_write_and_read_a_file(tmp_path: Path) -> None:
    treebank = read_treebank(SAMPLES[0])
    write_treebank(tmp_path / "a.conllu", treebank.blocks)
    assert (tmp_path / "a.conllu").read_bytes() == SAMPLES[0].read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a.conllu"]


def test_gzip_is_written_by_name_and_read_by_content(tmp_path: Path) -> None:
    treebank = read_treebank(SAMPLES[0])
    for path in (tmp_path / "a.conllu.gz", tmp_path / "b.gz"):
        write_treebank(path, treebank.blocks)
    zipped = (tmp_path / "a.conllu.gz").read_bytes()
    assert zipped == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress(zipped) == SAMPLES[0].read_bytes()
    (tmp_path / "c").write_bytes(zipped)
    assert read_treebank(tmp_path / "c").sentences == treebank.sentences


def test_standard_input_and_output(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    data = SAMPLES[0].read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    treebank = read_treebank("-")
    assert treebank.path == "<stdin>"
    write_treebank("-", treebank.blocks)
    assert capfdbinary.readouterr().out == data
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"bad\n\n")))
    with pytest.raises(TreebankError, match=r"^<stdin>:1: the line has 1 column"):
        read_treebank("-")


def test_an_open_file_is_read(tmp_path: Path) -> None:
    with SAMPLES[0].open("rb") as file:
        assert read_treebank(file).path == str(SAMPLES[0])
    assert read_treebank(io.BytesIO(ROW.encode())).path == "<stream>"


def test_blocks_from_several_files_are_kept_apart(tmp_path: Path) -> None:
    first = parse_treebank(ROW.encode(), "f").blocks
    cut_off = parse_treebank(b"bad", "f", on_error="skip").blocks
    write_treebank(tmp_path / "a", [*first, *cut_off, *first])
    assert (tmp_path / "a").read_text() == f"{ROW}\nbad\n\n{ROW}"


def test_undecodable_bytes_are_written_back(tmp_path: Path) -> None:
    data = ROW.encode() + b"\n# caf\xe9\n" + ROW.encode() + b"\n"
    write_treebank(tmp_path / "a", parse_treebank(data, "f", on_error="skip").blocks)
    assert (tmp_path / "a").read_bytes() == data


def test_a_file_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(TreebankError) as caught:
        write_treebank(tmp_path / "no" / "a", parse_treebank(ROW.encode(), "f").blocks)
    place = tmp_path / "no" / "a"
    assert str(caught.value) == f"{place}: cannot be written (No such file or directory); choose another place"
    (tmp_path / "folder").mkdir()
    with pytest.raises(TreebankError, match="Is a directory"):
        write_treebank(tmp_path / "folder", parse_treebank(ROW.encode(), "f").blocks)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_link_is_followed_and_a_device_stays_one(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_treebank(tmp_path / "link", parse_treebank(ROW.encode(), "f").blocks)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == ROW
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_treebank(tmp_path / "pipe", parse_treebank(ROW.encode(), "f").blocks)
    assert os.read(reader, 1000) == ROW.encode()
    assert (tmp_path / "pipe").is_fifo()
    os.close(reader)


# ------------------------------------------------------------------------------------------------ plain text


def test_plain_text_has_a_sentence_a_line() -> None:
    treebank = parse_treebank("  Ein  Satz\t.\r\n\n# 1 2\nun\xa0mot".encode(), "f", input="words")
    assert [sentence.forms for sentence in treebank.sentences] == [
        ("Ein", "Satz", "."),
        ("#", "1", "2"),
        ("un\xa0mot",),
    ]
    assert [sentence.line for sentence in treebank.sentences] == [1, 3, 4]
    assert treebank.sentences[0].to_conllu() == (
        "# sent_id = 1\n# text = Ein Satz .\n"
        "1\tEin\t_\t_\t_\t_\t_\t_\t_\t_\n2\tSatz\t_\t_\t_\t_\t_\t_\t_\t_\n3\t.\t_\t_\t_\t_\t_\t_\t_\t_\n\n"
    )
    again = parse_treebank(text_of(treebank), "f", trees="ignore")
    assert again.sentences == treebank.sentences
    tree = [sentence.with_tree(range(len(sentence)), ["x"] * len(sentence)) for sentence in treebank.sentences]
    assert all(is_tree(sentence.heads) for sentence in tree)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ROW.encode(), "f:1: this looks like CoNLL-U; read it without --input words, or name it .conllu"),
        (b"a\n\xff b\n", "f:2: byte 0xff is not UTF-8; convert the file to UTF-8, for instance with iconv"),
        (b"a\0\n", "f:1: the line contains a NUL character; remove it; is the file UTF-8 text?"),
        (b"a\rb\n", "f:1: the line contains a carriage return; end lines with LF or CR LF, nothing else"),
        (b"\xef\xbb\xbfa\n", "f:1: the file starts with a byte order mark; save it as UTF-8 without one"),
        (b" \n", "f: the file is empty; give a file with at least one sentence"),
    ],
)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_plain_text_that_is_none(data: bytes, message: str, on_error: str) -> None:
    with pytest.raises(TreebankError) as caught:
        parse_treebank(data, "f", input="words", on_error=on_error)  # type: ignore[arg-type]
    assert str(caught.value) == message
