"""``parser-vae demo``: pretrain, adapt, parse and evaluate on the bundled treebanks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Common


def demo(
    common: Common,
    out: Annotated[Path, typer.Option(help="The folder for everything it writes.", metavar="DIR")] = Path("demo-run"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard a former demonstration in --out.")] = False,
) -> None:
    """Show the whole way on two tiny treebanks that come with the package."""
    raise NotImplementedError
