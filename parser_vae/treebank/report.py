"""What is in a treebank, and everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from parser_vae.errors import TreebankError
from parser_vae.treebank.checks import crossing_arcs
from parser_vae.treebank.conllu import Treebank, parse_treebank, read_bytes


@dataclass(frozen=True)
class FileReport:
    """One file: its problems, and counts over its well-formed sentences.

    Attributes:
        path: The file, as the user named it.
        problems: Everything that is wrong, in the order of the lines.
        malformed: Sentences with a problem; they are in no count below.
        has_trees: False if HEAD is ``_`` throughout, which is fine for a target; then nothing below is about trees.
        lengths: Words of each sentence.
        non_projective_sentences: Sentences with a non-projective arc.
        non_projective_arcs: Arcs with a word between their ends that does not descend from the head.
        upos: How often each part of speech occurs.
        deprels: How often each relation occurs.
        multiword_tokens: Surface tokens of several words.
        empty_nodes: Elided words of enhanced graphs.
    """

    path: str
    problems: tuple[TreebankError, ...] = ()
    malformed: int = 0
    has_trees: bool = True
    lengths: tuple[int, ...] = ()
    non_projective_sentences: int = 0
    non_projective_arcs: int = 0
    upos: Counter[str] = field(default_factory=Counter)
    deprels: Counter[str] = field(default_factory=Counter)
    multiword_tokens: int = 0
    empty_nodes: int = 0

    @property
    def sentences(self) -> int:
        """Return the number of well-formed sentences."""
        return len(self.lengths)

    @property
    def words(self) -> int:
        """Return the number of words in well-formed sentences."""
        return sum(self.lengths)

    @property
    def non_projective_share(self) -> float:
        """Return the share of sentences, 0 to 1, with a non-projective arc."""
        return self.non_projective_sentences / self.sentences if self.sentences else 0.0


@dataclass(frozen=True)
class CheckReport:
    """The reports of several files."""

    files: tuple[FileReport, ...]

    @property
    def problems(self) -> tuple[TreebankError, ...]:
        """Return the problems of all files."""
        return tuple(problem for report in self.files for problem in report.problems)


def check(files: Sequence[str | Path]) -> CheckReport:
    """Return what is in each file and all that is wrong with it; a file that cannot be read is a problem, too."""
    return CheckReport(tuple(map(check_file, files)))


def check_file(path: str | Path) -> FileReport:
    """Return what is in one file, ``-`` for standard input, and all that is wrong with it."""
    try:
        name, data = read_bytes(path)
        treebank = parse_treebank(data, name, on_error="skip")
    except TreebankError as error:
        return FileReport(error.path, (error,))
    has_trees = True
    if treebank.malformed and not treebank.sentences:
        without_trees = parse_treebank(data, name, trees="ignore", on_error="skip")
        if without_trees.sentences and _is_unlabelled(without_trees):
            treebank, has_trees = without_trees, False
    sentences = treebank.sentences
    crossing = [len(crossing_arcs([head or 0 for head in sentence.heads])) for sentence in sentences if has_trees]
    return FileReport(
        path=name,
        problems=tuple(error for block in treebank.malformed for error in block.errors),
        malformed=len(treebank.malformed),
        has_trees=has_trees,
        lengths=tuple(map(len, sentences)),
        non_projective_sentences=sum(map(bool, crossing)),
        non_projective_arcs=sum(crossing),
        upos=Counter(tag for sentence in sentences for tag in sentence.upos),
        deprels=Counter(deprel for sentence in sentences for deprel in sentence.deprels if has_trees),
        multiword_tokens=sum(len(sentence.multiword_tokens) for sentence in sentences),
        empty_nodes=sum(len(sentence.empty_nodes) for sentence in sentences),
    )


def _is_unlabelled(treebank: Treebank) -> bool:
    return all(row[6] == "_" for sentence in treebank.sentences for row in sentence.rows if row[0].isdigit())
