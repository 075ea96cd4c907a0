"""Train word vectors with fastText on raw text or on the words of treebanks.

fastText runs in a process of its own: it holds Python's lock while it trains, so in this process nothing else could run
and Ctrl-C would wait for the end, and it writes to the terminal by itself.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from parser_vae.errors import InputError
from parser_vae.parsing.fasttext_model import FastTextModel
from parser_vae.treebank.conllu import read_treebank

_TRAIN = """
import fasttext, json, sys
settings = json.load(sys.stdin)
fasttext.train_unsupervised(**settings["arguments"]).save_model(settings["out"])
"""
# Hash buckets of character n-grams. fastText's two million make a file of 800 MB whatever the text; texts of a few
# million words have a few hundred thousand n-grams, and sharing buckets cost nothing measurable (docs/word-vectors.md).
_BUCKETS = 200_000


@dataclass(frozen=True)
class VectorsReport:
    """What a training of word vectors saw and made.

    Attributes:
        out: The file written.
        dimension: Numbers in a vector.
        sentences: Lines of text, or sentences of treebanks.
        tokens: Running words read.
        words: Distinct words that got a row of their own.
        epochs: Passes over the text.
        seconds: Wall time, reading and writing included.
    """

    out: Path
    dimension: int
    sentences: int
    tokens: int
    words: int
    epochs: int
    seconds: float


def train_vectors(
    texts: Sequence[Path],
    out: Path,
    *,
    dimension: int = 100,
    epochs: int | None = None,
    window: int = 2,
    min_count: int = 2,
    threads: int = 1,
) -> VectorsReport:
    """What was trained, after writing skipgram vectors with subwords (Bojanowski et al., 2017) to ``out``.

    With one thread the same text and settings give the same file; with more, fastText's updates race.

    Args:
        texts: Tokenised text, one sentence a line (``.gz`` too), or ``.conllu`` treebanks, whose trees are ignored.
        out: ``.bin`` (a fastText model, able to make vectors of unseen words), or ``.vec`` or ``.vec.gz`` (text).
        dimension: Numbers in a vector.
        epochs: Passes over the text; None takes what fits its length (``fitting_epochs``).
        window: Words of context on either side; small windows suit syntax.
        min_count: Words seen less often get no row of their own.
        threads: Of fastText.

    Raises:
        InputError: A text is missing, empty or not UTF-8, no word reaches ``min_count``, a number is out of range,
            fastText is not installed, or the name of ``out`` says no known kind.
    """
    start = time.monotonic()
    numbers = {"dimension": dimension, "epochs": epochs, "window": window, "min-count": min_count, "threads": threads}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} {value}: must be at least 1")
    if not out.name.endswith((".bin", ".vec", ".vec.gz")):
        raise InputError(f"{out}: cannot tell what to write; the name must end in .bin, .vec or .vec.gz")
    if not texts:
        raise InputError("no text to train word vectors on; name files with --text")
    if importlib.util.find_spec("fasttext") is None:
        raise InputError(
            "training word vectors needs the fastText package; `pip install fasttext-numpy2` (wheels), or "
            "`pip install fasttext` where a C++ compiler is at hand, or give ready vectors as .bin or .vec"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        corpus, model_path = Path(folder, "corpus.txt"), Path(folder, "model.bin")
        sentences, tokens = _gather(texts, corpus)
        epochs = epochs or fitting_epochs(tokens)
        arguments = {
            "input": str(corpus), "model": "skipgram", "dim": dimension, "epoch": epochs, "ws": window,
            "minCount": min_count, "bucket": _BUCKETS, "thread": threads, "verbose": 0,
        }  # fmt: skip
        _run_fasttext({"arguments": arguments, "out": str(model_path)})
        model = FastTextModel(model_path)
        finished = model_path
        if out.suffix != ".bin":
            finished = Path(folder, out.name)
            _write_text(model, finished)
        finished.replace(out)
    return VectorsReport(out, dimension, sentences, tokens, len(model.rows), epochs, time.monotonic() - start)


def fitting_epochs(tokens: int) -> int:
    """The passes over a text of so many words that gave good vectors for parsing: 5 to 100, by the square root."""
    return min(max(round(50 * (100_000 / tokens) ** 0.5), 5), 100)


def _gather(texts: Sequence[Path], corpus: Path) -> tuple[int, int]:
    """The sentences and tokens of all texts, which are written to one plain file, as fastText wants it."""
    sentences = tokens = 0
    with corpus.open("w", encoding="utf-8", newline="\n") as file:
        for path in texts:
            before = tokens
            for words in _sentences(path):
                file.write(" ".join(words) + "\n")
                sentences += 1
                tokens += len(words)
            if tokens == before:
                raise InputError(
                    f"{path}: there are no words in this file; give text with one tokenised sentence a line"
                )
    return sentences, tokens


def _sentences(path: Path) -> Iterator[Sequence[str]]:
    """The words of each line or sentence that has any."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; give text with one tokenised sentence a line, or a .conllu treebank")
    if path.name.endswith((".conllu", ".conllu.gz")):
        yield from (sentence.forms for sentence in read_treebank(path, trees="ignore").sentences)
        return
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, line in enumerate(file, start=1):
                if words := line.decode("utf-8-sig" if number == 1 else "utf-8").split():
                    yield words
        except UnicodeDecodeError as error:
            raise InputError(f"{path}:{number}: not UTF-8 text; convert it, for example with iconv") from error
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path}: not a complete gzip file; fetch it again, or drop .gz from its name") from error


def _run_fasttext(settings: dict[str, object]) -> None:
    """Nothing; trains in a child process, whose messages are kept back but for the reason of a failure."""
    finished = subprocess.run(
        [sys.executable, "-P", "-c", _TRAIN],
        input=json.dumps(settings),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if finished.returncode != 0:
        lines = finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"]
        if "Empty vocabulary" in lines[-1]:
            raise InputError("no word of the text occurs often enough; give more text, or lower --min-count")
        raise InputError(f"fastText could not train word vectors: {lines[-1].strip()}")


def _write_text(model: FastTextModel, path: Path) -> None:
    with gzip.open(path, "wt", encoding="utf-8") if path.suffix == ".gz" else path.open("w", encoding="utf-8") as file:
        file.write(f"{len(model.rows)} {model.dimension}\n")
        for word in model.rows:
            vector = model.vector(word)
            if vector is not None:
                file.write(f"{word} {' '.join(f'{number:.5g}' for number in vector)}\n")
