"""``parser-vae methods``: the methods to adapt with, and what each needs."""

from __future__ import annotations


def methods() -> None:
    """List the ways to adapt: recipes, then gradient methods with what each asks of a structure."""
    from parser_vae.methods import METHODS
    from parser_vae.training.adapt import RECIPES

    for name, recipe in RECIPES.items():
        print(f"{name}\n    {_summary(recipe)}\n    needs: the labelled source")
    for name, method in METHODS.items():
        needs = ", ".join(sorted(method.requires))
        print(f"{name}\n    {_summary(method)}\n    needs: {needs}")


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]
