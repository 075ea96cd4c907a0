"""SparseMAP: a differentiable, sparse mixture of objects, for every structure that has an argmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parser_vae.structures.base import Structure
from parser_vae.structures.kernels.active_set import (
    CONVERGED,
    COUNT,
    OUTCOME,
    REFUSED,
    RUNNING,
    SLOTS,
    Mixtures,
    advance_all,
    keep_all,
    new_places,
    nothing_found,
    padded,
    pull_back,
    with_room,
)
from parser_vae.structures.kernels.sparse_trees import sparse_trees
from parser_vae.structures.projective import ProjectiveTrees
from parser_vae.structures.spanning import SpanningTrees
from parser_vae.structures.trees import TreeStructure, full_lengths

_CAPACITY = 16
# An object is taken in while it is better than the active ones by more than this, relative to their score. What float32
# searches return is known no better.
_TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-10}


@dataclass(frozen=True)
class SparseMAPResult:
    """The mixture ``marginals = sum_t weights_t objects_t`` nearest to the scores.

    Attributes:
        marginals: The mean of the mixture ``[batch, *shape]``, differentiable once.
        weights: The probability of each object ``[batch, support]``, differentiable once; 0 beyond an item's support.
        parts: The objects as flat part indices ``[batch, support, slots]`` (int32); -1 where unused.
        converged: Whether each item is optimal ``[batch]``; if not, ``max_iter`` was reached and gradients, which
            assume optimality, are approximate.
        iterations: Linear systems solved plus argmax searches of each item ``[batch]``.
    """

    marginals: Tensor
    weights: Tensor
    parts: Tensor
    converged: Tensor
    iterations: Tensor

    @property
    def objects(self) -> Tensor:
        """The objects of the mixture, 0/1 ``[batch, support, *shape]``; all 0 beyond an item's own support."""
        shape = self.marginals.shape[1:]
        dense = self.marginals.new_zeros((*self.parts.shape[:2], shape.numel() + 1))
        dense.scatter_(-1, self.parts.long() + 1, 1.0)
        return dense[..., 1:].reshape(*self.parts.shape[:2], *shape)


def sparsemap(
    structure: Structure, scores: Tensor, lengths: Tensor | None = None, *, max_iter: int = 5000
) -> SparseMAPResult:
    """Return ``argmax <scores, u> - |u|^2 / 2`` over mixtures u of objects (Niculae et al., 2018), and the mixture.

    Runs on the CPU, in float64 but for the searches; gradients are exact where ``converged``.

    Args:
        structure: Where the objects live; only its ``argmax`` is used.
        scores: ``[batch, *shape]``.
        lengths: Size of each item ``[batch]``.
        max_iter: At most so many iterations, a linear system or an argmax each. The parsers of Berliner et al. (2022)
            stop at 10, which is rarely enough to converge.

    Raises:
        InfeasibleError: ``-inf`` scores forbid every object of an item.
    """
    if isinstance(structure, ProjectiveTrees | SpanningTrees):
        found, mean = _search_trees(structure, scores.detach(), lengths, max_iter)
    else:
        found, mean = _search(structure, scores.detach(), lengths, max_iter)
    parts, _, of_item, _ = found
    first, counts = of_item[:, :1], of_item[:, 1:2]
    support = np.arange(counts.max(initial=0))
    active = support < counts
    marginals, weights = _Mixture.apply(scores, found, mean, first + support, active)  # type: ignore[no-untyped-call]
    device = scores.device
    return SparseMAPResult(
        marginals,
        weights,
        torch.from_numpy(_gather(parts, first + support, active, np.int32(-1))).to(device),
        torch.from_numpy(of_item[:, 3] == CONVERGED).to(device),
        torch.from_numpy(of_item[:, 2]).to(device),
    )


def _gather(values: NDArray[Any], index: NDArray[np.int64], active: NDArray[np.bool_], blank: Any) -> NDArray[Any]:
    """Return ``values[index]`` where ``active``, else ``blank``; both ``[batch, support]``."""
    taken = np.full((*index.shape, *values.shape[1:]), blank)
    taken[active] = values[index[active]]
    return taken


def _search(structure: Structure, scores: Tensor, lengths: Tensor | None, max_iter: int) -> tuple[Mixtures, Any]:
    """Return the mixtures and their means ``[batch, parts]``, all items in step: an argmax of the batch each time."""
    dtype = torch.promote_types(scores.dtype, torch.float32)
    flat = scores.flatten(1).to("cpu", dtype).contiguous().numpy()
    batch, parts = flat.shape
    shape = padded(_CAPACITY, parts, parts)
    floats, ints, counters = new_places(batch, shape)
    counters[:, SLOTS] = parts
    rest = flat.copy()
    running = np.arange(batch)
    best = structure.argmax(scores, lengths)
    while len(running):
        used = best.flatten(1).cpu().numpy() != 0
        if counters[:, COUNT].max() == shape[0]:
            floats, ints, shape = with_room(floats, ints, counters, shape)
        places = floats, ints, counters, shape
        advance_all(*places, running, used, flat, rest.reshape(-1), max_iter, _TOLERANCE[dtype])
        running = running[counters[running, OUTCOME] == RUNNING]
        if len(running):
            index = torch.from_numpy(running).to(scores.device)
            left = torch.from_numpy(rest[running]).to(scores).view(-1, *scores.shape[1:])
            best = structure.argmax(left, None if lengths is None else lengths[index])
    marginals = np.zeros_like(flat)
    return keep_all(floats, ints, counters, shape, nothing_found(batch, parts), marginals), marginals


def _search_trees(
    structure: TreeStructure, scores: Tensor, lengths: Tensor | None, max_iter: int
) -> tuple[Mixtures, Any]:
    """Return the mixtures of trees and their means, searched without leaving compiled code."""
    values = scores.to("cpu", torch.promote_types(scores.dtype, torch.float32)).contiguous()
    found, mean = sparse_trees(
        isinstance(structure, ProjectiveTrees),
        values.numpy(),
        full_lengths(scores, lengths).cpu().numpy(),
        structure.single_root,
        max_iter,
        _TOLERANCE[values.dtype],
    )
    if (found[2][:, 3] == REFUSED).any():
        structure.argmax_heads(scores, lengths)  # raises, and says which sentence and why
    return found, mean


class _Mixture(torch.autograd.Function):
    """Marginals and weights of solved active sets, with the Jacobian of the optimum."""

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        found: Mixtures,
        mean: NDArray[Any],
        index: NDArray[np.int64],
        active: NDArray[np.bool_],
    ) -> tuple[Tensor, Tensor]:
        ctx.found, ctx.shape = found, scores.shape
        weights = _gather(found[1], index, active, 0.0)
        return torch.from_numpy(mean).to(scores).view(scores.shape), torch.from_numpy(weights).to(scores)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_marginals: Tensor, grad_weights: Tensor) -> tuple[Tensor, None, None, None, None]:
        along = grad_marginals.flatten(1).double().cpu().numpy()
        shape = padded(grad_weights.shape[1] + 1, ctx.found[0].shape[1], along.shape[1])
        gradient = np.zeros_like(along)
        pull_back(*new_places(1, shape), shape, ctx.found, along, grad_weights.double().cpu().numpy(), gradient)
        return torch.from_numpy(gradient).to(grad_marginals).view(ctx.shape), None, None, None, None
