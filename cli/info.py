"""``parser-vae info``: what a model folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def info(
    model: Annotated[Path, typer.Argument(help="A model folder.", metavar="MODEL_DIR")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Show what a model is, after checking its files against their hashes."""
    from parser_vae.training.checkpoint import read_model

    content = read_model(model)
    if as_json:
        print(json.dumps(content.manifest, indent=2, ensure_ascii=False))
        return
    print((model / "MODEL_CARD.md").read_text(encoding="utf-8").rstrip())
    print(f"\n{sum(tensor.numel() for tensor in content.tensors.values()):,} numbers in {len(content.tensors)} tensors")
    for name in ("format", "version", "commit", "created"):
        print(f"{name}: {content.manifest[name]}")
    print(f"\n# config.toml\n{content.settings_toml.rstrip()}")
