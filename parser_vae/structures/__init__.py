"""Scores to discrete objects and back: every latent space behind one interface (``base.Structure``)."""

from parser_vae.structures.base import Capability, Structure
from parser_vae.structures.binary import Binary, PairwiseBinary
from parser_vae.structures.categorical import Categorical
from parser_vae.structures.noise import gumbel, gumbel_difference, sum_of_gamma
from parser_vae.structures.projective import ProjectiveTrees
from parser_vae.structures.spanning import SpanningTrees
from parser_vae.structures.sparsemap import SparseMAPResult, sparsemap
from parser_vae.structures.subset import Subset
from parser_vae.structures.undirected import UndirectedTrees

STRUCTURES: dict[str, type[Structure]] = {
    structure.name: structure
    for structure in (Categorical, Binary, PairwiseBinary, Subset, ProjectiveTrees, SpanningTrees, UndirectedTrees)
}
"""Every structure by the name it has in configurations and error messages."""

__all__ = [
    "STRUCTURES",
    "Binary",
    "Capability",
    "Categorical",
    "PairwiseBinary",
    "ProjectiveTrees",
    "SpanningTrees",
    "SparseMAPResult",
    "Structure",
    "Subset",
    "UndirectedTrees",
    "gumbel",
    "gumbel_difference",
    "sparsemap",
    "sum_of_gamma",
]
