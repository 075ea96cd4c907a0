"""``parser-vae check FILE...``: all problems of CoNLL-U files, and what is in them."""

from __future__ import annotations

from collections import Counter
from statistics import fmean, median
from typing import Annotated

import typer

from parser_vae.treebank.report import FileReport
from parser_vae.treebank.report import check as check_files


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="CoNLL-U files, gzipped or not; - is stdin.")],
) -> None:
    """List every problem of CoNLL-U files (file:line: what; what to do), and describe what is in them.

    Exits with 1 if there is a problem.
    """
    report = check_files(files)
    for problem in report.problems:
        typer.echo(str(problem))
    for file in report.files:
        if file.sentences or file.malformed:
            typer.echo(_describe(file))
    if report.problems:
        raise typer.Exit(1)


def _describe(file: FileReport) -> str:
    """Return a few lines about one file."""
    lines = [f"{file.path}: {_count(file.sentences, 'sentence')}, {_count(file.words, 'word')}"]
    if file.malformed:
        problems = _count(len(file.problems), "problem")
        lines.append(f"  malformed        {_count(file.malformed, 'sentence')} with {problems}, not counted below")
    if file.sentences:
        lengths = f"{min(file.lengths)} to {max(file.lengths)} words"
        lines.append(f"  lengths          {lengths}, mean {fmean(file.lengths):.1f}, median {median(file.lengths):g}")
        lines.append(f"  multiword tokens {file.multiword_tokens}")
        lines.append(f"  empty nodes      {file.empty_nodes}")
        if file.has_trees:
            arcs = _count(file.non_projective_arcs, "arc")
            share = f"{100 * file.non_projective_share:.1f}% of the sentences ({file.non_projective_sentences})"
            lines.append(f"  non-projective   {share}, {arcs}")
            lines.append(f"  labels           {_table(file.deprels)}")
        else:
            lines.append("  trees            none (HEAD is _ throughout)")
        lines.append(f"  UPOS             {_table(file.upos)}")
    return "\n".join(lines)


def _table(counts: Counter[str]) -> str:
    return f"{len(counts)}: " + ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
