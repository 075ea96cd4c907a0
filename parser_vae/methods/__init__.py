"""How gradients get past an argmax; no method knows words, images or graphs."""

from parser_vae.methods.base import Estimate, Method, Problem, Touched
from parser_vae.methods.marginals import Marginals
from parser_vae.methods.nes import NaturalEvolution

METHODS: dict[str, type[Method]] = {  # type: ignore[type-arg]
    NaturalEvolution.name: NaturalEvolution,
    Marginals.name: Marginals,
}
"""Every method by its ``--method`` name; the test matrix runs over it."""

__all__ = ["METHODS", "Estimate", "Marginals", "Method", "NaturalEvolution", "Problem", "Touched"]
