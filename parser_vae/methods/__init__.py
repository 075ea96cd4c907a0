"""How gradients get past an argmax; no method knows words, images or graphs."""

from parser_vae.methods.arm import Arm
from parser_vae.methods.base import Estimate, Method, Problem, Touched
from parser_vae.methods.direct import Direct
from parser_vae.methods.dpp import DifferentiablePerturbAndParse
from parser_vae.methods.entropy import Entropy
from parser_vae.methods.enumeration import Enumeration
from parser_vae.methods.implicit_mle import ImplicitMLE
from parser_vae.methods.importance import Importance
from parser_vae.methods.marginals import Marginals
from parser_vae.methods.nes import NaturalEvolution
from parser_vae.methods.perturbed_optimiser import PerturbedOptimiser
from parser_vae.methods.rebar import Rebar
from parser_vae.methods.relax import Relax
from parser_vae.methods.relaxed import Relaxed
from parser_vae.methods.score_function import ScoreFunction
from parser_vae.methods.sparsemap import SparseMAP

METHODS: dict[str, type[Method]] = {  # type: ignore[type-arg]
    method.name: method
    for method in (
        NaturalEvolution,
        ScoreFunction,
        Importance,
        Rebar,
        Relax,
        Arm,
        Enumeration,
        DifferentiablePerturbAndParse,
        SparseMAP,
        Relaxed,
        PerturbedOptimiser,
        ImplicitMLE,
        Direct,
        Entropy,
        Marginals,
    )
}
"""Every method by its ``--method`` name; the test matrix runs over it."""

__all__ = [
    "METHODS",
    "Arm",
    "DifferentiablePerturbAndParse",
    "Direct",
    "Entropy",
    "Enumeration",
    "Estimate",
    "ImplicitMLE",
    "Importance",
    "Marginals",
    "Method",
    "NaturalEvolution",
    "PerturbedOptimiser",
    "Problem",
    "Rebar",
    "Relax",
    "Relaxed",
    "ScoreFunction",
    "SparseMAP",
    "Touched",
]
