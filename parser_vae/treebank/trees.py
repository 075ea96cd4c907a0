"""Trees without their sentences: what a parser said of a treebank, in a file a thirtieth of the treebank's size."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from parser_vae.errors import InputError
from parser_vae.files import replacing
from parser_vae.treebank.sentence import Sentence


def write_trees(path: Path, sentences: Sequence[Sentence]) -> None:
    """Write a line per sentence, ``HEAD:DEPREL`` for each word, gzipped; equal trees give equal bytes."""
    lines = (
        " ".join(f"{head}:{relation}" for head, relation in zip(sentence.heads, sentence.deprels, strict=True)) + "\n"
        for sentence in sentences
    )
    with replacing(path) as file:
        file.write(gzip.compress("".join(lines).encode(), mtime=0))


def read_trees(path: Path, sentences: Sequence[Sentence]) -> list[Sentence]:
    """Return the sentences with the trees of a file in place of their own.

    Raises:
        InputError: The file cannot be read, or holds trees of other sentences.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        words = [[word.partition(":") for word in line.split(" ")] for line in lines]
        trees = [([int(head) for head, _, _ in line], [relation for _, _, relation in line]) for line in words]
        return [sentence.with_tree(*tree) for sentence, tree in zip(sentences, trees, strict=True)]
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: no trees of these {len(sentences)} sentences: {error}") from None
