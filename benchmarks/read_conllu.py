"""Speed of reading and writing CoNLL-U, beside the readers of other projects where they are installed.

    python benchmarks/read_conllu.py FILE.conllu [--words 100000] [--rounds 5]

The file is repeated up to the wanted number of words. All readers take turns; each figure is a reader's best round, in
words per second of CPU time, which other processes disturb less than the clock on the wall. Peers, each optional:
``pip install udapi conllu pyconll ufal.udpipe``, best in an environment of their own with this checkout on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from parser_vae.treebank.conllu import Treebank, read_treebank, write_treebank


class Reader(NamedTuple):
    """A way to read a file to sentences; ``write`` is None where the writer is another row's."""

    name: str
    module: str
    read: Callable[[Path], Any]
    words: Callable[[Any], int]
    write: Callable[[Any, Path], None] | None = None


def _ours(**options: Any) -> Callable[[Path], Treebank]:
    return lambda path: read_treebank(path, **options)


def _ours_and_columns(path: Path) -> Treebank:
    treebank = read_treebank(path)
    for sentence in treebank.sentences:
        for _ in zip(sentence.forms, sentence.upos, sentence.heads, sentence.deprels, strict=True):
            pass
    return treebank


def _ours_and_words(path: Path) -> Treebank:
    treebank = read_treebank(path)
    for sentence in treebank.sentences:
        _ = sentence.words
    return treebank


def _our_words(treebank: Treebank) -> int:
    return sum(map(len, treebank.sentences))


def _our_write(treebank: Treebank, path: Path) -> None:
    write_treebank(path, treebank.blocks)


def _read_conllu(path: Path) -> Any:
    import conllu

    return conllu.parse(path.read_text(encoding="utf-8"))


def _write_conllu(document: Any, path: Path) -> None:
    path.write_text("".join(sentence.serialize() for sentence in document), encoding="utf-8")


def _read_udapi(path: Path) -> Any:
    import udapi

    return udapi.Document(str(path))


def _read_pyconll(path: Path) -> Any:
    import pyconll

    return pyconll.load_from_file(str(path))


def _write_pyconll(document: Any, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        document.write(file)


def _read_udpipe(path: Path) -> Any:
    from ufal import udpipe

    reader = udpipe.InputFormat.newConlluInputFormat()
    reader.setText(path.read_text(encoding="utf-8"))
    error, sentences = udpipe.ProcessingError(), []
    sentence = udpipe.Sentence()
    while reader.nextSentence(sentence, error):
        sentences.append(sentence)
        sentence = udpipe.Sentence()
    return sentences


def _write_udpipe(sentences: Any, path: Path) -> None:
    from ufal import udpipe

    writer = udpipe.OutputFormat.newConlluOutputFormat()
    path.write_text("".join(map(writer.writeSentence, sentences)), encoding="utf-8")


READERS = [
    Reader("parser_vae", "parser_vae", _ours(), _our_words, _our_write),
    Reader("parser_vae, trees ignored", "parser_vae", _ours(trees="ignore"), _our_words),
    Reader("parser_vae + a loop over form, UPOS, head, deprel", "parser_vae", _ours_and_columns, _our_words),
    Reader("parser_vae + all ten columns of each word", "parser_vae", _ours_and_words, _our_words),
    Reader(
        "udapi",
        "udapi",
        _read_udapi,
        lambda document: sum(len(tree.descendants) for tree in document.trees),
        lambda document, path: document.store_conllu(str(path)),
    ),
    Reader(
        "conllu",
        "conllu",
        _read_conllu,
        lambda document: sum(isinstance(token["id"], int) for sentence in document for token in sentence),
        _write_conllu,
    ),
    Reader(
        "pyconll",
        "pyconll",
        _read_pyconll,
        lambda document: sum(token.id.isdigit() for sentence in document for token in sentence),
        _write_pyconll,
    ),
    Reader(
        "ufal.udpipe (C++)",
        "ufal",
        _read_udpipe,
        lambda sentences: sum(len(sentence.words) - 1 for sentence in sentences),
        _write_udpipe,
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--words", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    readers = [reader for reader in READERS if importlib.util.find_spec(reader.module)]
    data = options.file.read_bytes()
    copies = -(-options.words // _our_words(read_treebank(options.file)))
    read_times: dict[str, list[float]] = {reader.name: [] for reader in readers}
    write_times: dict[str, list[float]] = {reader.name: [] for reader in readers}
    words: dict[str, int] = {}
    exact: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "in.conllu"), Path(folder, "out.conllu")
        path.write_bytes(data * copies)
        for _ in range(options.rounds):
            for reader in readers:
                gc.collect()  # so that nobody pays for another's garbage
                start = time.process_time()
                document = reader.read(path)
                read_times[reader.name].append(time.process_time() - start)
                words[reader.name] = reader.words(document)
                if reader.write:
                    start = time.process_time()
                    reader.write(document, out)
                    write_times[reader.name].append(time.process_time() - start)
                    exact[reader.name] = out.read_bytes() == path.read_bytes()
                del document
    print(f"{words['parser_vae']} words, {len(data) * copies} bytes, Python {sys.version.split()[0]}\n")
    print("| reader | words read a second | parser_vae is faster by | words written a second | same bytes |")
    print("| --- | --- | --- | --- | --- |")
    fastest = min(read_times["parser_vae"])
    for name, times in sorted(read_times.items(), key=lambda item: min(item[1])):
        written = f"{words[name] / min(write_times[name]):,.0f}" if write_times[name] else ""
        same = {True: "yes", False: "no", None: ""}[exact.get(name)]
        print(f"| {name} | {words[name] / min(times):,.0f} | {min(times) / fastest:.2f} | {written} | {same} |")


if __name__ == "__main__":
    main()
