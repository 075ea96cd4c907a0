"""``parser-vae vectors``: train word vectors on raw text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Common
from .runs import require_files


def vectors(
    common: Common,
    text: Annotated[
        list[Path],
        typer.Option(help="Text, one tokenised sentence a line (.gz too), or .conllu treebanks.", metavar="FILE"),
    ],
    out: Annotated[Path, typer.Option(help="The vectors to write: .bin, .vec or .vec.gz.", metavar="FILE")],
    dimension: Annotated[int, typer.Option(min=1, help="Numbers in a vector.")] = 100,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the text; by default 5 to 100, more for less text.")
    ] = None,
    window: Annotated[int, typer.Option(min=1, help="Words of context on either side.")] = 2,
    min_count: Annotated[int, typer.Option(min=1, help="Words seen less often get no vector of their own.")] = 2,
) -> None:
    """Train word vectors with fastText on raw text."""
    require_files({"--text": text})
    from parser_vae.parsing.vector_training import train_vectors

    progress = common.progress()
    with progress.track(None, "training word vectors"):  # fastText does not say how far it is
        report = train_vectors(
            text,
            out,
            dimension=dimension,
            epochs=epochs,
            window=window,
            min_count=min_count,
            threads=common.threads or 1,
        )
    progress.event(
        "vectors",
        out=str(report.out),
        words=report.words,
        tokens=report.tokens,
        dimension=report.dimension,
        epochs=report.epochs,
        seconds=report.seconds,
    )
