"""What all commands that train share: from flags to settings and a folder that is ready for the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from parser_vae.errors import InputError

from .options import Common

if TYPE_CHECKING:
    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)

Out = Annotated[Path, typer.Option(help="The model folder to write.", metavar="DIR")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a stopped run; its settings are in --out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Discard the former run in --out.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training data.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
StructureName = Annotated[str | None, typer.Option(help="The trees to search: projective or spanning.")]


def require_files(flags: Mapping[str, Path | Iterable[Path] | None]) -> None:
    """Raise ``InputError`` naming the flag of the first file that does not exist."""
    for flag, value in flags.items():
        paths = [] if value is None else [value] if isinstance(value, Path) else list(value)
        for path in paths:
            if not path.exists():
                raise InputError(f"{flag} {path}: no such file or folder")


def is_finished(out: Path, resume: bool) -> bool:
    """Return whether a run that is to be resumed has already ended, after saying so."""
    from parser_vae.training.checkpoint import MANIFEST, has_state

    finished = resume and (out / MANIFEST).exists() and not has_state(out)
    if finished:
        print(f"{out}: this run has ended; there is nothing to resume", file=sys.stderr)
    return finished


def start_run(
    model: type[Model], common: Common, flags: Mapping[str, object], out: Path, resume: bool, overwrite: bool
) -> tuple[Model, Callable[[], None]]:
    """Return the settings of a run, and what makes ``out`` ready for it and records the settings there.

    The second is called when all input has been read and found right: a mistake leaves a former run untouched. A
    resumed run takes its settings from ``out``; flags may repeat them but not change them.

    Raises:
        InputError: A setting is wrong, differs from the recorded one, or ``out`` may not be written.
    """
    from parser_vae.files import write_text_atomically
    from parser_vae.methods.ranks import require_joined_processes
    from parser_vae.training.checkpoint import CONFIG, check_output, prepare_output
    from parser_vae.training.config import dump_settings, load_settings, require_same_settings

    require_joined_processes()
    check_output(out, resume, overwrite)
    recorded = out / CONFIG if resume and (out / CONFIG).exists() else None
    settings = load_settings(model, common.config or recorded, common.overrides or (), flags)
    if recorded is not None:
        require_same_settings(load_settings(model, recorded), settings, out)

    def begin() -> None:
        prepare_output(out, resume, overwrite)
        if recorded is None:
            write_text_atomically(out / CONFIG, dump_settings(settings))

    return settings, begin
