"""Treebanks by name: the samples that come with the package, and the folders of a local UD release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from parser_vae.errors import InputError

BUNDLED = ("tiny-source", "tiny-target")
"""News with trees to learn from; recipes and chat to adapt to. Both were written for this project."""

_PARTS = ("train", "dev", "test", "unlabeled")


@dataclass(frozen=True)
class TreebankFiles:
    """The files of one treebank; None for a part that it does not have."""

    name: str
    train: Path | None = None
    dev: Path | None = None
    test: Path | None = None
    unlabeled: Path | None = None


def bundled(name: str) -> TreebankFiles:
    """Return the files of a treebank that comes with the package (``BUNDLED``).

    Raises:
        InputError: There is none of that name.
    """
    if name not in BUNDLED:
        raise InputError(f"no bundled treebank is called '{name}'; choose {' or '.join(BUNDLED)}")
    return _files_in(Path(str(files("parser_vae.data"))) / name)


def find_release(folder: str | Path) -> Mapping[str, TreebankFiles]:
    """Return the treebanks below a folder, by the name of the folder each lies in.

    A treebank is a folder with files such as ``gl_treegal-ud-train.conllu``, as a UD release has them, or plainly
    ``train.conllu``; parts are ``train``, ``dev``, ``test`` and ``unlabeled``.

    Raises:
        InputError: There is no such folder, or no treebank in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder of a UD release")
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    treebanks = {found.name: found for found in map(_files_in, candidates) if found != TreebankFiles(found.name)}
    if not treebanks:
        raise InputError(
            f"{folder} has no treebank; expected files such as UD_Galician-TreeGal/gl_treegal-ud-train.conllu"
        )
    return treebanks


def find_treebank(folder: str | Path, name: str) -> TreebankFiles:
    """Return one treebank of a release by the name of its folder.

    Raises:
        InputError: There is none of that name; the message has the nearest one.
    """
    treebanks = find_release(folder)
    if name not in treebanks:
        near = get_close_matches(name, treebanks, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {len(treebanks)}, such as '{min(treebanks)}'"
        raise InputError(f"{folder} has no treebank '{name}'; {hint}")
    return treebanks[name]


def _files_in(folder: Path) -> TreebankFiles:
    parts: dict[str, Path] = {}
    for part in _PARTS:
        found = sorted([*folder.glob(f"*-ud-{part}.conllu"), *folder.glob(f"{part}.conllu")])
        if found:
            parts[part] = found[0]
    return TreebankFiles(folder.resolve().name, **parts)
