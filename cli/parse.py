"""``parser-vae parse``: write trees into a file of sentences."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import Common

CHUNK = 4096  # sentences between two movements of the bar; enough for batches of like lengths


def parse(
    common: Common,
    model: Annotated[Path, typer.Argument(help="A model folder.", metavar="MODEL_DIR")],
    file: Annotated[str, typer.Argument(help="The sentences; - is standard input.", metavar="FILE|-")] = "-",
    output: Annotated[str, typer.Option(help="Where to write; - is standard output.", metavar="FILE|-")] = "-",
    input: Annotated[
        Literal["conllu", "words"], typer.Option(help="CoNLL-U, or one sentence a line with spaces between words.")
    ] = "conllu",
    on_error: Annotated[
        Literal["stop", "skip"],
        typer.Option(help="At a malformed sentence: stop, or write it through unchanged and count it."),
    ] = "stop",
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Write the probability of each arc into MISC.")
    ] = False,
    clear_deps: Annotated[
        bool, typer.Option("--clear-deps", help="Empty DEPS, which may contradict the new trees.")
    ] = False,
) -> None:
    """Write trees into a file of sentences: HEAD and DEPREL change, and nothing else."""
    from parser_vae.treebank.conllu import read_treebank, write_treebank
    from parser_vae.treebank.sentence import Sentence

    treebank = read_treebank(file, trees="ignore", on_error=on_error, input=input)
    import parser_vae

    parser = parser_vae.load(model, device=common.prepare_torch())
    parsed: list[Sentence] = []
    with common.progress().track(len(treebank.sentences), "parsing") as advance:
        for start in range(0, len(treebank.sentences), CHUNK):
            chunk = treebank.sentences[start : start + CHUNK]
            parsed += parser.parse(chunk, confidence=confidence, clear_deps=clear_deps)
            advance(len(chunk))
    trees = iter(parsed)
    write_treebank(output, [next(trees) if isinstance(block, Sentence) else block for block in treebank.blocks])
    if treebank.malformed and not common.quiet:
        count, first = len(treebank.malformed), treebank.malformed[0].error
        sentences = "sentence" if count == 1 else "sentences"
        print(f"{count} malformed {sentences} written unchanged; the first: {first}", file=sys.stderr)
