"""Who takes part in ``structures.py``: ours and the installed peers, one function each.

A contestant is registered for a job and prepares one chunk of sentences: formats are converted there, outside the
clock. It returns ``run``, which is timed, and ``read``, which turns what ``run`` returned into what is checked: heads
``[sentences, n + 1]`` for argmax jobs, one value a sentence for the others. Peers that are not installed, or whose path
is not given, are left out and listed.
"""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parser_vae.structures import ProjectiveTrees, SpanningTrees, sparsemap

Prepared = tuple[Callable[[], Any], Callable[[Any], np.ndarray]]


@dataclass(frozen=True)
class Chunk:
    """Sentences padded to one size: scores ``[sentences, head, dependent]`` (float32) and words of each."""

    scores: np.ndarray
    lengths: np.ndarray

    @property
    def tensor(self) -> torch.Tensor:
        return torch.from_numpy(self.scores)

    @property
    def by_dependent(self) -> torch.Tensor:
        """The transposed layout ``[sentences, dependent, head]`` most peers want."""
        return torch.from_numpy(np.ascontiguousarray(self.scores.transpose(0, 2, 1)))

    @property
    def words(self) -> torch.Tensor:
        return torch.from_numpy(self.lengths)

    def first(self, count: int | None) -> Chunk:
        return Chunk(np.ascontiguousarray(self.scores[:count]), self.lengths[:count])


@dataclass(frozen=True)
class Contestant:
    """One entry; slow ones see at most ``sentences`` of a chunk and no sentence longer than ``words``."""

    name: str
    prepare: Callable[[Chunk], Prepared]
    ours: bool
    sentences: int
    words: int
    mixed: bool = True


CONTESTANTS: dict[str, list[Contestant]] = {}


def enter(
    job: str, name: str, *, ours: bool = False, sentences: int = 10**9, words: int = 10**9, mixed: bool = True
) -> Callable[[Callable[[Chunk], Prepared]], Callable[[Chunk], Prepared]]:
    """Register a contestant; ``mixed`` is False where it cannot take a chunk of several lengths."""

    def register(prepare: Callable[[Chunk], Prepared]) -> Callable[[Chunk], Prepared]:
        CONTESTANTS.setdefault(job, []).append(Contestant(name, prepare, ours, sentences, words, mixed))
        return prepare

    return register


@dataclass
class Peers:
    """Paths of the peers that are no packages, by name, and the commits found there."""

    paths: dict[str, Path] = field(default_factory=dict)

    def add(self, name: str, path: Path) -> str:
        self.paths[name] = path
        sys.path.insert(0, str(path))
        found = subprocess.run(
            ["git", "-C", str(path), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
        return found.stdout.strip() or "unknown"


def versions() -> dict[str, str]:
    """Return the installed versions of ours, the peers and what they stand on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    names = ["torch", "numpy", "numba", "jax", "supar", "torch-struct", "synjax", "ufal.chu_liu_edmonds", "stanza"]
    for name in [*names, "networkx"]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def numbers(values: Any) -> np.ndarray:
    return values.detach().double().numpy() if isinstance(values, torch.Tensor) else np.asarray(values, np.float64)


def squares(*arrays: Any) -> np.ndarray:
    """One number a sentence that a wrong entry anywhere changes: the sum of squares."""
    return sum((numbers(a) ** 2).reshape(len(a), -1).sum(1) for a in arrays)


def gradient_code(chunk: Chunk) -> torch.Tensor:
    """The fixed gradient that is sent back through a smoothed argmax."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn(chunk.scores.shape[1:], generator=generator).expand(chunk.scores.shape).contiguous()


# ---------------------------------------------------------------- ours

PROJECTIVE, PROJECTIVE_MULTI = ProjectiveTrees(), ProjectiveTrees(single_root=False)
SPANNING = SpanningTrees()


def ours_argmax(structure: Any, chunk: Chunk) -> Prepared:
    return lambda: structure.argmax_heads(chunk.tensor, chunk.words), lambda heads: heads.numpy()


def ours_sums(structure: Any, chunk: Chunk) -> Prepared:
    def run() -> Any:
        scores = chunk.tensor.clone().requires_grad_()
        total = structure.log_partition(scores, chunk.words)
        return total, *torch.autograd.grad(total.sum(), scores)

    return run, lambda found: numbers(found[0])


enter("eisner", "parser_vae", ours=True)(functools.partial(ours_argmax, PROJECTIVE))
enter("eisner_multi", "parser_vae", ours=True)(functools.partial(ours_argmax, PROJECTIVE_MULTI))
enter("arborescence", "parser_vae", ours=True)(functools.partial(ours_argmax, SPANNING))
enter("projective_marginals", "parser_vae", ours=True)(functools.partial(ours_sums, PROJECTIVE))
enter("matrix_tree", "parser_vae", ours=True)(functools.partial(ours_sums, SPANNING))


@enter("smoothed", "parser_vae", ours=True)
def _(chunk: Chunk) -> Prepared:
    code = gradient_code(chunk)

    def run() -> Any:
        scores = chunk.tensor.clone().requires_grad_()
        soft = PROJECTIVE_MULTI.smoothed_argmax(scores, chunk.words)
        return soft.detach(), *torch.autograd.grad((soft * code).sum(), scores)

    return run, lambda found: squares(*found)


def _objective(chunk: Chunk, marginals: np.ndarray) -> np.ndarray:
    return (marginals * chunk.scores - 0.5 * marginals**2).reshape(len(marginals), -1).sum(1)


@enter("sparsemap", "parser_vae", ours=True)
def _(chunk: Chunk) -> Prepared:
    return (
        lambda: sparsemap(PROJECTIVE, chunk.tensor, chunk.words),
        lambda found: _objective(chunk, numbers(found.marginals)),
    )


@enter("sparsemap", "parser_vae, forward and backward", ours=True)
def _(chunk: Chunk) -> Prepared:
    def run() -> Any:
        scores = chunk.tensor.clone().requires_grad_()
        found = sparsemap(PROJECTIVE, scores, chunk.words)
        (found.marginals * chunk.tensor).sum().backward()
        return found

    return run, lambda found: _objective(chunk, numbers(found.marginals))


# ---------------------------------------------------------------- supar


def supar_argmax(family: str, multiroot: bool, chunk: Chunk) -> Prepared:
    distribution = getattr(importlib.import_module("supar.structs"), family)
    scores, words = chunk.by_dependent, chunk.words
    return lambda: distribution(scores.clone(), words, multiroot=multiroot).argmax, lambda heads: heads.numpy()


def supar_sums(family: str, chunk: Chunk) -> Prepared:
    distribution = getattr(importlib.import_module("supar.structs"), family)
    by_dependent, words = chunk.by_dependent, chunk.words

    def run() -> Any:
        scores = by_dependent.clone().requires_grad_()
        total = distribution(scores, words, multiroot=False).log_partition
        return total, *torch.autograd.grad(total.sum(), scores)

    return run, lambda found: numbers(found[0])


enter("eisner", "supar")(functools.partial(supar_argmax, "DependencyCRF", False))
enter("eisner_multi", "supar")(functools.partial(supar_argmax, "DependencyCRF", True))
enter("arborescence", "supar", sentences=4, words=80)(functools.partial(supar_argmax, "MatrixTree", False))
enter("projective_marginals", "supar")(functools.partial(supar_sums, "DependencyCRF"))
enter("matrix_tree", "supar")(functools.partial(supar_sums, "MatrixTree"))


# ---------------------------------------------------------------- torch-struct: words only, root scores on the diagonal


def torch_struct_scores(chunk: Chunk) -> torch.Tensor:
    scores = torch.from_numpy(chunk.scores[:, 1:, 1:].copy())
    scores.diagonal(dim1=1, dim2=2).copy_(torch.from_numpy(chunk.scores[:, 0, 1:]))
    return scores


def torch_struct_heads(arcs: torch.Tensor) -> np.ndarray:
    found = arcs.detach().argmax(1).numpy()
    heads = np.zeros((len(found), found.shape[1] + 1), np.int64)
    heads[:, 1:] = np.where(found == np.arange(found.shape[1]), 0, found + 1)
    return heads


def torch_struct_argmax(multiroot: bool, chunk: Chunk) -> Prepared:
    from torch_struct import DependencyCRF

    scores = torch_struct_scores(chunk)
    return (
        lambda: DependencyCRF(scores.clone().requires_grad_() * 1.0, multiroot=multiroot).argmax,
        torch_struct_heads,
    )


def torch_struct_sums(family: str, chunk: Chunk) -> Prepared:
    distribution = getattr(importlib.import_module("torch_struct"), family)
    packed = torch_struct_scores(chunk)

    def run() -> Any:
        scores = packed.clone().requires_grad_()
        total = distribution(scores, multiroot=False).partition
        return total, *torch.autograd.grad(total.sum(), scores)

    return run, lambda found: numbers(found[0])


_SMALL = {"sentences": 32, "words": 160, "mixed": False}
enter("eisner", "torch-struct", **_SMALL)(functools.partial(torch_struct_argmax, False))
enter("eisner_multi", "torch-struct", **_SMALL)(functools.partial(torch_struct_argmax, True))
enter("projective_marginals", "torch-struct", sentences=32, words=80, mixed=False)(
    functools.partial(torch_struct_sums, "DependencyCRF")
)
enter("matrix_tree", "torch-struct", mixed=False)(functools.partial(torch_struct_sums, "NonProjectiveDependencyCRF"))


# ---------------------------------------------------------------- synjax, under jax.jit


def synjax_distribution(projective: bool, single_root: bool) -> Callable[[Any], Any]:
    from synjax import SpanningTreeCRF

    return functools.partial(SpanningTreeCRF, directed=True, projective=projective, single_root_edge=single_root)


def synjax_argmax(single_root: bool, chunk: Chunk) -> Prepared:
    import jax

    distribution = synjax_distribution(True, single_root)
    compiled = jax.jit(lambda scores: distribution(scores).argmax())
    scores = jax.numpy.asarray(chunk.scores)
    compiled(scores).block_until_ready()
    return lambda: compiled(scores).block_until_ready(), lambda arcs: np.asarray(arcs).argmax(1)


def synjax_sums(projective: bool, chunk: Chunk) -> Prepared:
    import jax

    distribution = synjax_distribution(projective, True)
    compiled = jax.jit(jax.value_and_grad(lambda scores: distribution(scores).log_partition().sum()))
    totals = jax.jit(lambda scores: distribution(scores).log_partition())
    scores = jax.numpy.asarray(chunk.scores)
    jax.block_until_ready(compiled(scores))
    return lambda: jax.block_until_ready(compiled(scores)), lambda _: np.asarray(totals(scores))


_JIT = {"sentences": 32, "words": 80, "mixed": False}
enter("eisner", "synjax (jit)", **_JIT)(functools.partial(synjax_argmax, True))
enter("eisner_multi", "synjax (jit)", **_JIT)(functools.partial(synjax_argmax, False))
enter("projective_marginals", "synjax (jit)", sentences=32, words=40, mixed=False)(functools.partial(synjax_sums, True))
enter("matrix_tree", "synjax (jit)", mixed=False)(functools.partial(synjax_sums, False))


@enter("arborescence", "synjax (numba)", sentences=128)
def _(chunk: Chunk) -> Prepared:
    from synjax._src.deptree_algorithms.deptree_non_proj_argmax import vectorized_mst

    scores = chunk.scores.astype(np.float64)
    scores[:, :, 0] = -np.inf
    diagonal = np.arange(scores.shape[1])
    scores[:, diagonal, diagonal] = -np.inf
    nodes = chunk.lengths + 1
    vectorized_mst(scores[:1], nodes[:1], True)

    def read(found: Any) -> np.ndarray:
        found = np.asarray(found)
        return found.argmax(1) if found.ndim == 3 else found

    return lambda: vectorized_mst(scores, nodes, True), read


# ---------------------------------------------------------------- arborescences, one sentence at a time


def each_sentence(chunk: Chunk, search: Callable[[np.ndarray], Any], prepare: Callable[[np.ndarray], Any]) -> Prepared:
    ready = [
        prepare(scores[: length + 1, : length + 1].astype(np.float64))
        for scores, length in zip(chunk.scores, chunk.lengths, strict=True)
    ]

    def read(found: list[Any]) -> np.ndarray:
        heads = np.zeros(chunk.scores.shape[:2], np.int64)
        for row, one in zip(heads, found, strict=True):
            row[: len(one)] = one
        return heads

    return lambda: [search(scores) for scores in ready], read


@enter("arborescence", "ufal.chu_liu_edmonds", sentences=64)
def _(chunk: Chunk) -> Prepared:
    from ufal.chu_liu_edmonds import chu_liu_edmonds

    def prepare(scores: np.ndarray) -> np.ndarray:
        scores = np.ascontiguousarray(scores.T)
        # One root by making every further one cost more than all arcs together.
        scores[1:, 0] -= len(scores) * (scores.max() - scores.min()) + 1
        scores[0] = np.nan
        np.fill_diagonal(scores, np.nan)
        return scores

    return each_sentence(chunk, lambda scores: chu_liu_edmonds(scores)[0], prepare)


@enter("arborescence", "stanza", sentences=8, words=160)
def _(chunk: Chunk) -> Prepared:
    from stanza.models.common.chuliu_edmonds import chuliu_edmonds_one_root

    def prepare(scores: np.ndarray) -> np.ndarray:
        scores = np.ascontiguousarray(scores.T)
        np.fill_diagonal(scores, -1e6)
        return scores

    return each_sentence(chunk, lambda scores: chuliu_edmonds_one_root(scores.copy()), prepare)


@enter("arborescence", "networkx", sentences=1, words=40)
def _(chunk: Chunk) -> Prepared:
    import networkx

    def search(scores: np.ndarray) -> np.ndarray:
        size = len(scores)
        penalty = size * (scores.max() - scores.min()) + 1
        graph = networkx.DiGraph()
        for head in range(size):
            for dependent in range(1, size):
                if head != dependent:
                    graph.add_edge(head, dependent, weight=scores[head, dependent] - (penalty if head == 0 else 0))
        heads = np.zeros(size, np.int64)
        for head, dependent in networkx.maximum_spanning_arborescence(graph).edges():
            heads[dependent] = head
        return heads

    return each_sentence(chunk, search, lambda scores: scores)


# ---------------------------------------------------------------- peers given by path


@enter("eisner_multi", "DSVAE-NES Eisner", sentences=4, words=160)
def _(chunk: Chunk) -> Prepared:
    from solvers.decoder_eisner import parse_proj

    return each_sentence(chunk, lambda scores: np.maximum(parse_proj(scores), 0), lambda scores: scores)


@enter("smoothed", "DSVAE-NES surrogate", sentences=1, words=80)
def _(chunk: Chunk) -> Prepared:
    from solvers.eisner_surrogate import eisner_surrogate

    code = gradient_code(chunk).double()
    wide = chunk.tensor.double()

    def run() -> Any:
        softs, gradients = torch.zeros_like(wide), torch.zeros_like(wide)
        for index, nodes in enumerate(chunk.lengths + 1):
            scores = wide[index, :nodes, :nodes].clone().requires_grad_()
            soft = eisner_surrogate(scores)
            soft.backward(code[index, :nodes, :nodes])
            softs[index, :nodes, :nodes] = soft.detach()
            gradients[index, :nodes, :nodes] = scores.grad
        return softs, gradients

    return run, lambda found: squares(*found)


def lp_sparsemap(backward: bool, chunk: Chunk) -> Prepared:
    from lpsmap import DepTree, TorchFactorGraph

    packed = torch_struct_scores(chunk).double().transpose(1, 2)
    each = [scores[:length, :length].contiguous() for scores, length in zip(packed, chunk.lengths, strict=True)]

    def run() -> Any:
        solved = []
        for one in each:
            scores = one.clone().requires_grad_(backward)
            graph = TorchFactorGraph()
            arcs = graph.variable_from(scores)
            graph.add(DepTree(arcs, packed=True, projective=True))
            graph.solve()
            if backward:
                (arcs.value * one).sum().backward()
            solved.append(arcs.value.detach())
        return solved

    return run, lambda found: np.array(
        [float((arcs * one - 0.5 * arcs**2).sum()) for arcs, one in zip(found, each, strict=True)]
    )


enter("sparsemap", "lp-sparsemap", sentences=4, words=80)(functools.partial(lp_sparsemap, False))
enter("sparsemap", "lp-sparsemap, forward and backward", sentences=4, words=80)(functools.partial(lp_sparsemap, True))
