"""Trees in files of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from parser_vae.errors import InputError
from parser_vae.treebank.sentence import Sentence
from parser_vae.treebank.trees import read_trees, write_trees

GOLD = (
    Sentence.from_words(["the", "dog", "barks"], heads=[2, 3, 0], deprels=["det", "nsubj", "root"]),
    Sentence.from_words(["who"], heads=[0], deprels=["root"]),
)
PREDICTED = (GOLD[0].with_tree([3, 0, 2], ["acl:relcl", "root", "dep"]), GOLD[1])


def test_trees_come_back_and_equal_trees_give_equal_bytes(tmp_path: Path) -> None:
    write_trees(tmp_path / "a.gz", PREDICTED)
    write_trees(tmp_path / "b.gz", PREDICTED)
    assert read_trees(tmp_path / "a.gz", GOLD) == list(PREDICTED)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("sentences", [GOLD[:1], GOLD[::-1], ()])
def test_trees_of_other_sentences_are_refused(tmp_path: Path, sentences: tuple[Sentence, ...]) -> None:
    write_trees(tmp_path / "a.gz", PREDICTED)
    with pytest.raises(InputError, match=rf"a\.gz: no trees of these {len(sentences)} sentences: "):
        read_trees(tmp_path / "a.gz", sentences)


@pytest.mark.parametrize("content", [b"", b"not gzipped", b"\x1f\x8b\x08"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.gz: no trees of these 2 sentences: "):
        read_trees(tmp_path / "a.gz", GOLD)
