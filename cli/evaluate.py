"""``parser-vae evaluate``: score a parser's trees, and the difference to another parser's, against gold."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path, PurePath
from typing import Annotated, Literal

import typer


def evaluate(
    gold: Annotated[str, typer.Option(help="The human trees; - is standard input.", metavar="FILE|-")],
    predicted: Annotated[
        str, typer.Option(help="The same sentences with the parser's trees; - is standard input.", metavar="FILE|-")
    ],
    baseline: Annotated[
        str | None,
        typer.Option(help="The same sentences with other trees to compare with, as before adapting.", metavar="FILE"),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Sentences the parser was trained on: adds how far their domain is from gold's.", metavar="FILE"
        ),
    ] = None,
    json_file: Annotated[
        str | None,
        typer.Option("--json", help="Write the report as JSON; - prints it instead of tables.", metavar="FILE|-"),
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write it as a page with plots and trees.", metavar="FILE")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write it as Markdown.", metavar="FILE")
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, help="Draw this many of the sentences that changed most, or are hardest.")
    ] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Resamples for intervals and p-values.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    trees: Annotated[
        Literal["check", "ignore"],
        typer.Option(help="Refuse predictions that are no trees with one root, or score their heads as they are."),
    ] = "check",
) -> None:
    """Score trees against gold: UAS and LAS by two conventions, with intervals, and what changed since the baseline."""
    from parser_vae.errors import InputError
    from parser_vae.evaluation import evaluate as compare
    from parser_vae.files import write_text_atomically
    from parser_vae.treebank.conllu import read_treebank

    if [gold, predicted, baseline, source].count("-") > 1:
        raise InputError("only one of --gold, --predicted, --baseline and --source can be standard input (-)")
    report = compare(
        read_treebank(gold).sentences,
        read_treebank(predicted, trees=trees).sentences,
        None if baseline is None else read_treebank(baseline, trees=trees).sentences,
        source=None if source is None else read_treebank(source, trees="ignore").sentences,
        resamples=resamples,
        seed=seed,
        trees=trees,
    )
    title = f"{PurePath(predicted).name} against {PurePath(gold).name}"
    if json_file is not None and json_file != "-":
        write_text_atomically(Path(json_file), report.to_json())
    if markdown_file is not None:
        write_text_atomically(markdown_file, report.to_markdown(title))
    if html_file is not None:
        command = shlex.join(["parser-vae", *sys.argv[1:]])
        write_text_atomically(html_file, report.to_html(title, command=command))
    if json_file == "-":
        print(report.to_json(), end="")
        return
    from rich.console import Console

    Console().print(report)
    if show:
        from parser_vae.evaluation.examples import examples_text

        print(f"\n{examples_text(report, show)}", end="")
