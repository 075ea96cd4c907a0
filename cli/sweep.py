"""``parser-vae sweep``: methods x treebank pairs x seeds from one recipe, to one table."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from .options import Common
from .runs import require_files


def sweep(
    common: Common,
    out: Annotated[Path, typer.Option(help="The folder for cells and tables.", metavar="DIR")],
    recipe: Annotated[Path | None, typer.Argument(help="What to run, as TOML.", metavar="RECIPE")] = None,
    data: Annotated[
        Path | None, typer.Option(help="The folder with treebanks/setups.json; else the recipe's.", metavar="DIR")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Run the cells of --out that have not finished; continue a stopped one.")
    ] = False,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="Only make the tables again, from the predictions of finished cells.")
    ] = False,
    limit_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop after this time; --resume goes on from there.")
    ] = None,
) -> None:
    """Run methods x treebank pairs x seeds, each cell in a folder, and put all of them into one table."""
    require_files({"RECIPE": recipe, "--data": data})
    from parser_vae.errors import InputError
    from parser_vae.files import write_text_atomically
    from parser_vae.training.config import dump_settings, load_settings
    from parser_vae.training.sweep import check_sweep, run_sweep, sweep_table, write_table
    from parser_vae.training.sweep_settings import SweepSettings

    recorded = out / "config.toml"
    if not (resume or table_only) and out.exists() and any(out.iterdir()):
        raise InputError(f"--out {out}: not empty; continue with --resume, or name another")
    given = recipe or common.config
    if given is None and not recorded.exists():
        raise InputError("no recipe: name a TOML file, for example configs/table2.toml")
    located = None if data is None else data.resolve()
    settings = load_settings(SweepSettings, given or recorded, common.overrides or (), {"data": located})
    if not table_only:
        check_sweep(settings, out)
        progress = common.progress()
        common.prepare_training()
        out.mkdir(parents=True, exist_ok=True)
        write_text_atomically(recorded, dump_settings(settings))
        with _limited(limit_minutes) as limit:
            run_sweep(settings, out, progress=progress, threads=common.threads or 1)
        if limit.reached:
            progress.event("note", text=f"time is up; go on with: parser-vae sweep --out {out} --resume")
    table = sweep_table(settings, out)
    write_table(table, out)
    print(table.to_markdown(), end="")
    print(f"\nThe table as a page with plots: {(out / 'table.html').resolve().as_uri()}", file=sys.stderr)


class _Limit:
    """Whether the time of a run was up."""

    reached = False


@contextmanager
def _limited(minutes: float | None) -> Iterator[_Limit]:
    """Yield a limit; after ``minutes`` the block is interrupted as by Ctrl-C, which saves, and left without error.

    Where Ctrl-C is ignored, as in a job that a script put into the background, time still counts.
    """
    limit = _Limit()

    def stop(number: int, frame: FrameType | None) -> None:
        limit.reached = True
        on_interrupt = signal.getsignal(signal.SIGINT)  # inside a training it waits for the end of the step
        if not callable(on_interrupt):
            raise KeyboardInterrupt
        on_interrupt(signal.SIGINT, frame)

    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0 if minutes is None else 60 * minutes)
    try:
        yield limit
    except KeyboardInterrupt:
        if not limit.reached:
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
