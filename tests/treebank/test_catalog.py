"""Treebanks by name: the bundled ones and those of a UD release."""

from __future__ import annotations

from pathlib import Path

import pytest

from parser_vae.errors import InputError
from parser_vae.treebank.catalog import BUNDLED, TreebankFiles, bundled, find_release, find_treebank


def test_the_bundled_treebanks_have_their_parts() -> None:
    source, target = map(bundled, BUNDLED)
    assert [path and path.name for path in (source.train, source.dev, source.test, source.unlabeled)] == [
        "train.conllu",
        "dev.conllu",
        None,
        None,
    ]
    assert [path and path.name for path in (target.train, target.dev, target.test, target.unlabeled)] == [
        None,
        "dev.conllu",
        "test.conllu",
        "unlabeled.conllu",
    ]


def test_an_unknown_bundled_treebank() -> None:
    with pytest.raises(InputError) as caught:
        bundled("tiny")
    assert str(caught.value) == "no bundled treebank is called 'tiny'; choose tiny-source or tiny-target"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for name in ("UD_A-X/a_x-ud-train", "UD_A-X/a_x-ud-test", "UD_B-Y/b_y-ud-test", "own/train", "own/unlabeled"):
        path = tmp_path / f"{name}.conllu"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_a_release_has_its_treebanks_by_folder(release: Path) -> None:
    assert dict(find_release(release)) == {
        "UD_A-X": TreebankFiles(
            "UD_A-X", release / "UD_A-X/a_x-ud-train.conllu", None, release / "UD_A-X/a_x-ud-test.conllu"
        ),
        "UD_B-Y": TreebankFiles("UD_B-Y", test=release / "UD_B-Y/b_y-ud-test.conllu"),
        "own": TreebankFiles("own", train=release / "own/train.conllu", unlabeled=release / "own/unlabeled.conllu"),
    }
    assert list(find_release(release / "UD_A-X")) == ["UD_A-X"]
    assert find_treebank(release, "own") == find_release(release)["own"]


def test_what_is_not_there(release: Path) -> None:
    with pytest.raises(InputError, match=r"/no is not a folder; give the folder of a UD release$"):
        find_release(release / "no")
    with pytest.raises(InputError, match=r"/notes has no treebank; expected files such as UD_Galician-TreeGal/gl_"):
        find_release(release / "notes")
    with pytest.raises(InputError, match=r"has no treebank 'UD_A_X'; did you mean 'UD_A-X'\?$"):
        find_treebank(release, "UD_A_X")
    with pytest.raises(InputError, match=r"has no treebank 'zzz'; there are 3, such as 'UD_A-X'$"):
        find_treebank(release, "zzz")
