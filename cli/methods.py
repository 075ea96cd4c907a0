"""``parser-vae methods``: the methods to adapt with, and what each needs."""

from __future__ import annotations


def methods() -> None:
    """List the methods, and what each asks of a structure."""
    from parser_vae.methods import METHODS

    for name, method in METHODS.items():
        needs = ", ".join(sorted(method.requires))
        summary = (method.__doc__ or "").strip().splitlines()[0]
        print(f"{name}\n    {summary}\n    needs: {needs}")
