"""Word vectors: train them on raw text, load them for the words that a model will meet, say how many it found.

Three kinds of file are read, told apart by name: fastText models (``.bin``: vectors of unseen words come from their
character n-grams), text (``.vec``, ``.vec.gz``: one word and its numbers a line, with or without a first line of two
counts) and our own ``.safetensors``, which holds just the words of a model. Only training needs the fastText package.
"""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from parser_vae.errors import InputError
from parser_vae.parsing.fasttext_model import END_OF_SENTENCE, FastTextModel, Floats

Origin = Literal["exact", "lower", "subwords", "missing"]
SUFFIXES = (".bin", ".vec", ".vec.gz", ".safetensors")


@dataclass(frozen=True)
class WordVectors:
    """One row for each word that was asked for, in that order, without repetitions.

    Attributes:
        words: The words; row i of the table belongs to word i.
        table: Float32 [words, dimension]; zeros for a word without a vector.
        origins: For each word where its row comes from: ``exact`` the form itself, ``lower`` its lower-cased form,
            ``subwords`` the mean of its character n-grams, ``missing`` nowhere.
        skipped_rows: Rows of a text file that were passed over as malformed or of another dimension.
    """

    words: tuple[str, ...]
    table: Tensor
    origins: tuple[Origin, ...]
    skipped_rows: int = 0

    @property
    def dimension(self) -> int:
        """Numbers in a row."""
        return self.table.shape[1]

    @property
    def found(self) -> Tensor:
        """Boolean [words]: which words have a vector."""
        return torch.tensor([origin != "missing" for origin in self.origins], dtype=torch.bool)


@dataclass(frozen=True)
class Coverage:
    """How many words of a text have a vector; counted per running word (tokens) and per distinct form (types)."""

    tokens: int
    tokens_found: int
    types: int
    types_found: int

    def __str__(self) -> str:
        tokens, types = self.tokens_found / max(self.tokens, 1), self.types_found / max(self.types, 1)
        return f"{tokens:.1%} of {self.tokens} words, {types:.1%} of {self.types} distinct words"


def coverage(vectors: WordVectors, sentences: Iterable[Sequence[str]], *, count_subwords: bool = True) -> Coverage:
    """The share of the words of sentences (each a sequence of forms) that have a vector.

    Args:
        vectors: Loaded for at least these words; a word that was not asked for counts as not found.
        sentences: The forms.
        count_subwords: Whether a vector put together from character n-grams counts as found.
    """
    absent = {"missing"} if count_subwords else {"missing", "subwords"}
    known = {word for word, origin in zip(vectors.words, vectors.origins, strict=True) if origin not in absent}
    counts = Counter(form for sentence in sentences for form in sentence)
    return Coverage(
        tokens=counts.total(),
        tokens_found=sum(count for form, count in counts.items() if form in known),
        types=len(counts),
        types_found=sum(form in known for form in counts),
    )


def load_vectors(path: Path, words: Collection[str], *, subwords: bool = True) -> WordVectors:
    """The vectors of the words asked for: of the form, else of its lower-cased form, else (``.bin``) of its n-grams.

    Args:
        path: ``.bin``, ``.vec``, ``.vec.gz`` or ``.safetensors``.
        words: Word forms as they stand in the treebanks; repetitions are dropped.
        subwords: Whether words unseen by a ``.bin`` model get a vector from their character n-grams.

    Raises:
        InputError: The file is missing, empty, damaged, or not of the kind its name says.
    """
    _require_file(path)
    asked = tuple(dict.fromkeys(words))
    wanted = {form for word in asked for form in (word, word.lower())}
    model: FastTextModel | None = None
    skipped = 0
    if path.suffix == ".bin":
        model = FastTextModel(path)
        dimension = model.dimension
        rows = {word: model.vector(word) for word in wanted if word in model.rows}
        known = {word: row for word, row in rows.items() if row is not None}
    elif path.name.endswith((".vec", ".vec.gz")):
        known, dimension, skipped = _read_text(path, wanted)
    elif path.suffix == ".safetensors":
        words, table = _read_safetensors(path)
        known, dimension = dict(zip(words, table, strict=True)), table.shape[1]
    else:
        raise InputError(f"{path}: cannot tell what kind of vectors these are; the name must end in {_listed()}")

    table = numpy.zeros((len(asked), dimension), dtype=numpy.float32)
    origins: list[Origin] = []
    for index, word in enumerate(asked):
        origin: Origin = "exact"
        row = known.get(word)
        if row is None:
            row, origin = known.get(word.lower()), "lower"
        if row is None and subwords and model is not None:
            row, origin = model.vector(word), "subwords"
        if row is not None:
            table[index] = row
        origins.append("missing" if row is None else origin)
    return WordVectors(asked, torch.from_numpy(table), tuple(origins), skipped)


def frequent_words(path: Path, count: int) -> list[str]:
    """The first ``count`` words of a vector file, which lists them by frequency.

    Raises:
        InputError: The file is missing, damaged, or not of the kind its name says.
    """
    if count == 0:
        return []
    _require_file(path)
    if path.suffix == ".bin":
        words = itertools.islice(FastTextModel(path).rows, count)
        return [word for word in words if word != END_OF_SENTENCE and word.isprintable()]
    if path.suffix == ".safetensors":
        return _read_safetensors(path)[0][:count]
    found: list[str] = []
    for number, line in enumerate(_lines(path)):
        word, *numbers = line.split(b" ")
        if len(found) == count:
            break
        if number == 0 and len(numbers) == 1:
            continue
        try:
            found.append(word.decode())
        except UnicodeDecodeError:
            continue
    return found


def save_vectors(vectors: WordVectors, path: Path) -> None:
    """Nothing; writes the words that have a vector to a ``.safetensors`` file."""
    kept = vectors.found
    words = [word for word, keep in zip(vectors.words, kept.tolist(), strict=True) if keep]
    partial = path.with_name(path.name + ".partial")
    metadata = {"words": json.dumps(words, ensure_ascii=False)}
    safetensors.torch.save_file({"table": vectors.table[kept].contiguous()}, partial, metadata)
    partial.replace(path)


def _listed() -> str:
    return ", ".join(SUFFIXES[:-1]) + f" or {SUFFIXES[-1]}"


def _require_file(path: Path) -> None:
    remedy = "give word vectors, or train some with `parser-vae vectors`"
    if not path.is_file():
        raise InputError(f"{path}: no such file; {remedy}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; {remedy}")


def _read_safetensors(path: Path) -> tuple[list[str], Floats]:
    """The words and their rows."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            words = list(json.loads((file.metadata() or {})["words"]))
            table: Floats = file.get_tensor("table")
        if table.ndim != 2 or len(words) != len(table):
            raise ValueError("words and rows differ")
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: these are not word vectors saved by parser-vae; give the original .bin or .vec"
        ) from error
    return words, table


def _read_text(path: Path, wanted: Collection[str]) -> tuple[dict[str, Floats], int, int]:
    """The rows of the wanted words, the dimension, and the number of rows skipped, in one pass over a text file."""
    known: dict[str, Floats] = {}
    dimension = usable = skipped = 0
    for number, line in enumerate(_lines(path)):
        fields = line.split(b" ")
        if number == 0 and len(fields) == 2 and all(field.isdigit() for field in fields):
            dimension = int(fields[1])
            continue
        if not line:
            continue
        if dimension == 0:  # no header: the first row that reads as one says how long rows are
            dimension = len(fields) - 1 if _numbers(fields[1:]) is not None else 0
        # A form may itself contain spaces ("10 000"): numbers are counted from the end of the line.
        try:
            word = b" ".join(fields[:-dimension]).decode() if 0 < dimension < len(fields) else ""
        except UnicodeDecodeError:
            word = ""
        fits = len(fields) == dimension + 1 or word in wanted
        if not word or not fits:
            skipped += 1
        elif word in wanted and word not in known:
            row = _numbers(fields[-dimension:])
            if row is None:
                skipped += 1
            else:
                known[word] = row
                usable += 1
        else:
            usable += 1
    if usable <= skipped:
        raise InputError(
            f"{path}: {skipped} of {usable + skipped} rows are not a word and {dimension or 'its'} numbers; "
            "expected text vectors in UTF-8, one word a line"
        )
    return known, dimension, skipped


def _lines(path: Path) -> Iterator[bytes]:
    """The lines without the line end and trailing spaces, decompressed where the name ends in .gz."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for line in file:
                yield line.rstrip(b" \r\n")
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path}: not a complete gzip file; fetch it again, or drop .gz from its name") from error


def _numbers(fields: Sequence[bytes]) -> Floats | None:
    try:
        with numpy.errstate(over="ignore"):
            row = numpy.array([float(field) for field in fields], dtype=numpy.float32)
    except ValueError:
        return None
    return row if len(row) and numpy.isfinite(row).all() else None
