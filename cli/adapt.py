"""``parser-vae adapt``: adapt a trained parser to unlabelled text of the target domain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Common
from .runs import Epochs, Out, Overwrite, Resume, Seed, StructureName, is_finished, require_files, start_run


def adapt(
    common: Common,
    out: Out,
    model: Annotated[Path | None, typer.Option("--from", help="The model that pretrain wrote.", metavar="DIR")] = None,
    target: Annotated[
        list[Path] | None,
        typer.Option(
            help="Sentences of the target domain: CoNLL-U, trees ignored, or .txt, one a line, spaces between words.",
            metavar="FILE",
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="Labelled source treebank, to anchor or mix and to select on.", metavar="FILE")
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Labelled source treebank to select on; else the model's own.", metavar="FILE")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Labelled target treebank, only reported, never selected on.", metavar="FILE")
    ] = None,
    target_train: Annotated[
        Path | None, typer.Option(help="Labelled target sentences to learn from, if there are some.", metavar="FILE")
    ] = None,
    silver: Annotated[
        list[Path] | None,
        typer.Option(help="Target sentences with trees by another parser, to learn from.", metavar="FILE"),
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="A further parser of the source; in self-training they teach one another.", metavar="DIR"),
    ] = None,
    method: Annotated[str | None, typer.Option(help="How to adapt: see parser-vae methods.")] = None,
    structure: StructureName = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings of the method: default, paper or paper-official.")
    ] = None,
    epochs: Epochs = None,
    seed: Seed = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Adapt a trained parser to the target domain, without trees there.

    With nes, several processes can share the work: torchrun --nproc-per-node 2 -m parser_vae.cli adapt ...
    """
    require_files(
        {
            "--from": model,
            "--target": target,
            "--source": source,
            "--dev": dev,
            "--test": test,
            "--target-train": target_train,
            "--silver": silver,
            "--teacher": teacher,
        }
    )
    from parser_vae.methods.ranks import is_first, joined_processes
    from parser_vae.training.adapt import adapt as run_adaptation
    from parser_vae.training.checkpoint import remove_state
    from parser_vae.training.progress import Quiet
    from parser_vae.training.settings import AdaptSettings

    flags = {
        "data.model": model,
        "data.target": target or None,
        "data.source": source,
        "data.dev": dev,
        "data.test": test,
        "data.target_train": target_train,
        "data.silver": silver or None,
        "data.teachers": teacher or None,
        "method": method,
        "structure": structure,
        "preset": preset,
        "training.epochs": epochs,  # of gradient methods; recipes have passes of their own
        "self_training.epochs": epochs,
        "dcst.epochs": epochs,
        "training.seed": seed,
    }
    with joined_processes():
        settings, begin = start_run(AdaptSettings, common, flags, out, resume, overwrite)
        if is_finished(out, resume):
            return
        progress = common.progress() if is_first() else Quiet()
        common.prepare_training()
        run_adaptation(settings, out, resume=resume, progress=progress, begin=begin)
        if is_first():
            remove_state(out)
    progress.event("note", text=f"next: parser-vae parse {out} FILE")
