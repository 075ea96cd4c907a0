"""``parser-vae pretrain``: train a parser on the source treebank."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Common
from .runs import Epochs, Out, Overwrite, Resume, Seed, StructureName, is_finished, require_files, start_run


def pretrain(
    common: Common,
    out: Out,
    train: Annotated[Path | None, typer.Option(help="Source treebank to train on.", metavar="FILE")] = None,
    dev: Annotated[
        Path | None,
        typer.Option(
            help="Source treebank to select the best epoch on; without it, a part of --train.", metavar="FILE"
        ),
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="Word vectors: fastText .bin, .vec or .vec.gz.", metavar="FILE")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="The encoder: default, or kg as in the paper.")] = None,
    structure: StructureName = None,
    epochs: Epochs = None,
    seed: Seed = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a parser on a source treebank."""
    require_files({"--train": train, "--dev": dev, "--vectors": vectors})
    from parser_vae.training.checkpoint import remove_state
    from parser_vae.training.pretrain import pretrain as run_pretraining
    from parser_vae.training.settings import PretrainSettings

    flags = {
        "data.train": train,
        "data.dev": dev,
        "data.vectors": vectors,
        "encoder.preset": encoder,
        "structure": structure,
        "training.epochs": epochs,
        "training.seed": seed,
    }
    settings, begin = start_run(PretrainSettings, common, flags, out, resume, overwrite)
    if is_finished(out, resume):
        return
    progress = common.progress()
    common.prepare_training()
    run_pretraining(settings, out, resume=resume, progress=progress, begin=begin)
    remove_state(out)
    use = f"parser-vae parse {out} FILE"
    progress.event("note", text=f"next: parser-vae adapt --from {out} --target FILE --out DIR, or {use}")
