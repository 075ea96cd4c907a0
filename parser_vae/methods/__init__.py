"""How gradients get past an argmax; no method knows words, images or graphs."""

from parser_vae.methods.arm import Arm
from parser_vae.methods.base import Estimate, Method, Problem, Touched
from parser_vae.methods.importance import Importance
from parser_vae.methods.nes import NaturalEvolution
from parser_vae.methods.rebar import Rebar
from parser_vae.methods.relax import Relax
from parser_vae.methods.score_function import ScoreFunction

METHODS: dict[str, type[Method]] = {  # type: ignore[type-arg]
    method.name: method
    for method in (
        NaturalEvolution,
        ScoreFunction,
        Importance,
        Rebar,
        Relax,
        Arm,
    )
}
"""Every method by its ``--method`` name; the test matrix runs over it."""

__all__ = [
    "METHODS",
    "Arm",
    "Estimate",
    "Importance",
    "Method",
    "NaturalEvolution",
    "Problem",
    "Rebar",
    "Relax",
    "ScoreFunction",
    "Touched",
]
