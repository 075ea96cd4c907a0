"""Adapt a dependency parser to a new domain without labelled trees there.

The parse tree is the latent variable of a variational auto-encoder: an encoder scores arcs, a structured
argmax picks a tree, and a tree-conditioned language model reconstructs the sentence.

    from parser_vae import load, read_treebank
    sentences = load("runs/target").parse(read_treebank("in.conllu", trees="ignore").sentences)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from parser_vae.treebank.conllu import Treebank, read_treebank, write_treebank
from parser_vae.treebank.sentence import Sentence

if TYPE_CHECKING:
    from parser_vae.parser import Analysis, Parser

__version__ = "0.1.0"
__all__ = ["Analysis", "Parser", "Sentence", "Treebank", "__version__", "load", "read_treebank", "write_treebank"]


def load(folder: str | Path, device: str = "cpu") -> Parser:
    """Return the parser in a model folder, ready to ``parse`` sentences.

    Raises:
        ModelFolderError: There is no model, it is damaged, or it needs a newer version.
    """
    from parser_vae.parser import Parser  # torch takes a second to import; reading treebanks does not need it

    return Parser.load(folder, device)


def __getattr__(name: str) -> object:
    if name in {"Analysis", "Parser"}:
        from parser_vae import parser

        return getattr(parser, name)
    raise AttributeError(f"module 'parser_vae' has no attribute {name!r}")
