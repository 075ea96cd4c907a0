"""Word vectors: every kind of file, every way it can be wrong, and fastText's own reader as the oracle of ours."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from parser_vae.errors import InputError
from parser_vae.parsing.embeddings import Coverage, coverage, frequent_words, load_vectors, save_vectors
from parser_vae.parsing.vector_training import fitting_epochs, train_vectors

HEADER = "3 2\n"
ROWS = "casa 1 2\nGalicia 3 -4.5\no 0.25 1e-3 \n"  # fastText ends its rows in a space


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = random.Random(0)
    words = ["a", "casa", "ñandú", "Дом", "дома", "日本語", "e", "verde", "rápida", "🙂"]
    path = tmp_path_factory.mktemp("vectors") / "text.txt"
    lines = [" ".join(generator.choices(words, k=8)) for _ in range(200)]
    path.write_text("\n".join([*lines, "única vez"]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def model(text: Path) -> Path:
    out = text.with_name("model.bin")
    report = train_vectors([text], out, dimension=8, epochs=1)
    assert (report.sentences, report.tokens, report.words) == (201, 1602, 11)  # ten words and fastText's </s>
    return out


@pytest.mark.parametrize("content", [HEADER + ROWS, ROWS, ROWS.replace("\n", "\r\n"), ROWS.rstrip("\n")])
@pytest.mark.parametrize("name", ["v.vec", "v.vec.gz"])
def test_text_vectors_are_looked_up_by_form_then_lower_case(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    vectors = load_vectors(tmp_path / name, ["O", "Galicia", "galicia", "casa", "casa"])
    assert vectors.words == ("O", "Galicia", "galicia", "casa")
    assert vectors.origins == ("lower", "exact", "missing", "exact")
    assert vectors.table.tolist() == [[0.25, pytest.approx(1e-3)], [3, -4.5], [0, 0], [1, 2]]
    assert vectors.found.tolist() == [True, True, False, True]
    assert (vectors.dimension, vectors.table.dtype, vectors.skipped_rows) == (2, torch.float32, 0)


@pytest.mark.parametrize("row", ["bad 1", "bad 1 2 3", "bad 1 x", "bad 1 nan", "bad 1 1e60", " 1 2", "1 2"])
@pytest.mark.parametrize("header", [HEADER, ""])
def test_malformed_rows_are_skipped_and_counted(tmp_path: Path, row: str, header: str) -> None:
    path = tmp_path / "v.vec"
    path.write_text(header + ROWS + row + "\n")
    vectors = load_vectors(path, ["bad", "o"])
    assert vectors.origins == ("missing", "exact")
    assert vectors.skipped_rows == 1


def test_a_row_that_is_not_utf8_is_skipped_and_a_form_may_contain_spaces(tmp_path: Path) -> None:
    path = tmp_path / "v.vec"
    path.write_bytes(ROWS.encode() + b"caf\xe9 1 2\n10 000 7 8\n")
    vectors = load_vectors(path, ["10 000"])
    assert vectors.table.tolist() == [[7, 8]]
    assert vectors.skipped_rows == 1


def test_the_first_row_of_a_word_counts(tmp_path: Path) -> None:
    path = tmp_path / "v.vec"
    path.write_text("o 1 2\no 3 4\n")
    assert load_vectors(path, ["o"]).table.tolist() == [[1, 2]]


def test_models_give_what_fasttext_gives(model: Path) -> None:
    import fasttext

    oracle = fasttext.load_model(str(model))
    words = ["casa", "Casa", "ñandú", "Дом", "unseen", "日本", "日本語", "🙂🙂", "x", "</s>", "10 000", "ö" * 40]
    vectors = load_vectors(model, words)
    lowered = {"Casa"}
    for word, row, origin in zip(words, vectors.table, vectors.origins, strict=True):
        expected = oracle.get_word_vector(word.lower() if word in lowered else word)
        torch.testing.assert_close(row, torch.from_numpy(expected))
        assert origin == ("lower" if word in lowered else "exact" if word in oracle.words else "subwords")


def test_subwords_can_be_left_out(model: Path) -> None:
    vectors = load_vectors(model, ["unseen", "casa"], subwords=False)
    assert vectors.origins == ("missing", "exact")
    assert not vectors.table[0].any()


def test_one_thread_trains_the_same_model_each_time(model: Path, text: Path, tmp_path: Path) -> None:
    packed = tmp_path / "text.txt.gz"
    packed.write_bytes(gzip.compress(text.read_bytes()))
    train_vectors([packed], tmp_path / "again.bin", dimension=8, epochs=1)
    words = ["casa", "unseen"]
    torch.testing.assert_close(
        load_vectors(tmp_path / "again.bin", words).table, load_vectors(model, words).table, rtol=0, atol=0
    )


def test_treebanks_are_trained_on_by_their_words(model: Path, text: Path, tmp_path: Path) -> None:
    blocks = []
    for line in text.read_text(encoding="utf-8").splitlines():
        rows = [f"{number}\t{form}" + "\t_" * 8 for number, form in enumerate(line.split(), start=1)]
        rows[0:0] = ["1-2\tnever" + "\t_" * 8]
        rows[3:3] = ["2.1\tnever" + "\t_" * 8]
        blocks.append("\n".join(["# text = never", *rows]) + "\n\n")
    (tmp_path / "t.conllu.gz").write_bytes(gzip.compress("".join(blocks).encode()))
    train_vectors([tmp_path / "t.conllu.gz"], tmp_path / "v.bin", dimension=8, epochs=1)
    words = ["casa", "Дом", "never"]
    torch.testing.assert_close(load_vectors(tmp_path / "v.bin", words).table, load_vectors(model, words).table)


def test_training_learns_which_words_keep_company(tmp_path: Path) -> None:
    generator = random.Random(0)
    groups = [["uno", "dos", "tres"], ["verde", "azul", "rojo"]]
    lines = [" ".join(generator.choices(generator.choice(groups), k=8)) for _ in range(200)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    train_vectors(
        [tmp_path / "text.txt"], tmp_path / "v.bin", dimension=10, epochs=500
    )  # frequent words are mostly passed over
    table = load_vectors(tmp_path / "v.bin", [*groups[0], *groups[1]]).table
    cosine = torch.nn.functional.cosine_similarity(table[:, None], table[None], dim=-1)
    assert cosine[:3, :3].min() > cosine[:3, 3:].max()


@pytest.mark.parametrize("name", ["v.vec", "v.vec.gz"])
def test_trained_text_vectors_equal_the_model(model: Path, text: Path, tmp_path: Path, name: str) -> None:
    train_vectors([text], tmp_path / name, dimension=8, epochs=1)
    expected, found = load_vectors(model, ["casa", "Дом"]), load_vectors(tmp_path / name, ["casa", "Дом"])
    torch.testing.assert_close(found.table, expected.table, rtol=1e-4, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_saved_vectors_come_back_without_the_missing_ones(model: Path, tmp_path: Path) -> None:
    vectors = load_vectors(model, ["casa", "none", "Дом"], subwords=False)
    save_vectors(vectors, tmp_path / "v.safetensors")
    again = load_vectors(tmp_path / "v.safetensors", ["Дом", "none", "casa"])
    assert again.origins == ("exact", "missing", "exact")
    assert torch.equal(again.table, vectors.table.flip(0))


@pytest.mark.parametrize("content", [HEADER + ROWS, "caf\xe9 1 2\n" + ROWS])
def test_frequent_words_are_the_first_of_a_text_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "v.vec").write_bytes(content.encode("latin-1"))
    assert frequent_words(tmp_path / "v.vec", 2) == ["casa", "Galicia"]
    assert frequent_words(tmp_path / "v.vec", 9) == ["casa", "Galicia", "o"]
    assert frequent_words(tmp_path / "v.vec", 0) == []


def test_frequent_words_of_models(model: Path, text: Path, tmp_path: Path) -> None:
    words = text.read_text(encoding="utf-8").split()
    expected = sorted(set(words) - {"única", "vez"}, key=words.count, reverse=True)
    found = frequent_words(model, 99)
    assert sorted(found) == sorted(expected)
    assert [words.count(word) for word in found] == [words.count(word) for word in expected]
    save_vectors(load_vectors(model, found), tmp_path / "v.safetensors")
    assert frequent_words(tmp_path / "v.safetensors", 3) == found[:3]


def test_coverage_counts_tokens_and_types(tmp_path: Path) -> None:
    (tmp_path / "v.vec").write_text(ROWS)
    vectors = load_vectors(tmp_path / "v.vec", ["o", "O", "casa", "none"])
    measured = coverage(vectors, [["O", "casa"], ["none", "casa", "never asked for"]])
    assert measured == Coverage(tokens=5, tokens_found=3, types=4, types_found=2)
    assert str(measured) == "60.0% of 5 words, 50.0% of 4 distinct words"


def test_coverage_tells_vectors_of_subwords_apart(model: Path) -> None:
    vectors = load_vectors(model, ["casa", "unseen"])
    assert coverage(vectors, [["casa", "unseen"]]).tokens_found == 2
    assert coverage(vectors, [["casa", "unseen"]], count_subwords=False).tokens_found == 1


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def cut_early(data: bytes) -> bytes:
    return data[:70]


def quantised(data: bytes) -> bytes:
    at = data.index(b"\0" + struct.pack("<qq", 200_011, 8))  # the flag stands before the shape of the matrix
    return data[:at] + b"\1" + data[at + 1 :]


def newer(data: bytes) -> bytes:
    return data[:4] + struct.pack("<i", 99) + data[8:]


def huge_counts(data: bytes) -> bytes:
    return data[:64] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + data[72:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "damaged or cut short; fetch or train it again"),
        (cut_early, "damaged or cut short; fetch or train it again"),
        (huge_counts, "damaged or cut short; fetch or train it again"),
        (quantised, "is compressed (.ftz); use the full .bin or .vec text"),
        (newer, "has format 99, newer than 12; export it as .vec text"),
        (lambda data: b"\x07" * 500, "is not a fastText model (it starts with the wrong bytes); name text vectors"),
        (lambda data: b"ab", "damaged or cut short; fetch or train it again"),
        (lambda data: b"", "the file is empty"),
    ],
)
def test_damaged_models_end_in_one_line(
    model: Path, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "v.bin"
    path.write_bytes(damage(model.read_bytes()))
    with pytest.raises(InputError) as caught:
        load_vectors(path, ["casa"])
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_flipped_header_byte_gives_vectors_or_one_line(model: Path, tmp_path: Path) -> None:
    original, path, generator = model.read_bytes(), tmp_path / "v.bin", random.Random(0)
    for _ in range(150):
        data = bytearray(original[:400] + original[-400:])
        data[generator.randrange(400)] = generator.randrange(256)
        path.write_bytes(data)
        try:
            load_vectors(path, ["casa", "unseen"])
        except InputError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.vec", bytes(range(1, 256)) * 20, "expected text vectors in UTF-8, one word a line"),
        ("v.vec", b"5 300\no 1 2\nde 1 3\n", "2 of 2 rows are not a word and 300 numbers"),
        ("v.vec", b"this is prose\nand more of it\n", "rows are not a word and its numbers"),
        ("v.vec.gz", b"o 1 2\n", "not a complete gzip file; fetch it again, or drop .gz from its name"),
        ("v.vec.gz", gzip.compress(ROWS.encode() * 100, mtime=0)[:60], "not a complete gzip file"),
        ("v.safetensors", b"\x07" * 100, "not word vectors saved by parser-vae"),
        ("v.txt", b"o 1 2\n", "the name must end in .bin, .vec, .vec.gz or .safetensors"),
    ],
)
def test_other_files_end_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_vectors(tmp_path / name, ["o"])
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"v\.bin: no such file"):
        load_vectors(tmp_path / "v.bin", ["o"])
    with pytest.raises(InputError, match=r"v\.vec: no such file"):
        frequent_words(tmp_path / "v.vec", 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; give text with one tokenised sentence a line"),
        (b"", "there are no words in this file"),
        (b" \n\n", "there are no words in this file"),
        (b"uno dos\ncaf\xe9\n", ":2: not UTF-8 text; convert it, for example with iconv"),
        (
            b"every word is here only once\n",
            "no word of the text occurs often enough; give more text, or lower --min-count",
        ),
    ],
)
def test_text_that_cannot_be_trained_on(tmp_path: Path, content: bytes | None, message: str) -> None:
    path, out = tmp_path / "text.txt", tmp_path / "out" / "v.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        train_vectors([path], out, epochs=1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(out.parent.iterdir()) == []


def test_less_text_gets_more_epochs() -> None:
    assert [fitting_epochs(tokens) for tokens in (1, 100_000, 400_000, 10**9)] == [100, 50, 25, 5]


@pytest.mark.parametrize("setting", ["dimension", "epochs", "window", "min_count", "threads"])
def test_settings_below_one_are_refused(text: Path, tmp_path: Path, setting: str) -> None:
    with pytest.raises(InputError, match=f"--{setting.replace('_', '-')} 0: must be at least 1"):
        train_vectors([text], tmp_path / "v.bin", **{setting: 0})


def test_another_failure_of_fasttext_is_reported(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parser_vae.parsing.vector_training._TRAIN", "raise RuntimeError('Encountered NaN.')")
    with pytest.raises(InputError, match=r"fastText could not train word vectors: RuntimeError: Encountered NaN\.$"):
        train_vectors([text], tmp_path / "v.bin")


def test_other_refusals(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"the name must end in \.bin, \.vec or \.vec\.gz"):
        train_vectors([text], tmp_path / "v.model")
    with pytest.raises(InputError, match="no text to train word vectors on"):
        train_vectors([], tmp_path / "v.bin")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install fasttext-numpy2"):
        train_vectors([text], tmp_path / "v.bin")
