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
    REFUSED,
    RUNNING,
    State,
    advance_all,
    new_state,
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
        state = _search_trees(structure, scores.detach(), lengths, max_iter)
    else:
        state = _search(structure, scores.detach(), lengths, max_iter)
    objects, counts, iterations, outcome = state[0], *state[6:9]
    support = int(counts.max(initial=0))
    parts = np.where(np.arange(support)[None, :, None] < counts[:, None, None], objects[:, :support], -1)
    marginals, mixture = _Mixture.apply(scores, state, support)  # type: ignore[no-untyped-call]
    device = scores.device
    return SparseMAPResult(
        marginals,
        mixture,
        torch.from_numpy(parts).to(device),
        torch.from_numpy(outcome == CONVERGED).to(device),
        torch.from_numpy(iterations).to(device),
    )


def _search(structure: Structure, scores: Tensor, lengths: Tensor | None, max_iter: int) -> State:
    """Return the final state of the active sets, all items in step: one argmax of the batch an iteration."""
    flat = scores.flatten(1).double().cpu().numpy()
    batch, parts = flat.shape
    state = new_state(batch, parts, parts, _CAPACITY)
    running = np.arange(batch)
    best = structure.argmax(scores, lengths)
    tolerance = _TOLERANCE[torch.promote_types(scores.dtype, torch.float32)]
    while len(running):
        used = best.flatten(1).cpu().numpy() != 0
        if state[6].max() == state[0].shape[1]:
            state = with_room(state)
        state[0][running, state[6][running]] = np.where(used, np.arange(parts, dtype=np.int32), -1)
        advance_all(state, running, flat, max_iter, tolerance)
        running = running[state[8][running] == RUNNING]
        if len(running):
            index = torch.from_numpy(running).to(scores.device)
            marginals = torch.from_numpy(state[5][running]).to(scores).view(-1, *scores.shape[1:])
            best = structure.argmax(scores[index] - marginals, None if lengths is None else lengths[index])
    return state


def _search_trees(structure: TreeStructure, scores: Tensor, lengths: Tensor | None, max_iter: int) -> State:
    """Return the final state of the active sets of trees, searched without leaving compiled code."""
    values = scores.to("cpu", torch.promote_types(scores.dtype, torch.float32)).contiguous()
    state = sparse_trees(
        isinstance(structure, ProjectiveTrees),
        values.numpy(),
        full_lengths(scores, lengths).cpu().numpy(),
        structure.single_root,
        max_iter,
        _TOLERANCE[values.dtype],
    )
    if (state[8] == REFUSED).any():
        structure.argmax_heads(scores, lengths)  # raises, and says which sentence and why
    return state


class _Mixture(torch.autograd.Function):
    """Marginals and weights of solved active sets, with the Jacobian of the optimum."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, state: State, support: int) -> tuple[Tensor, Tensor]:
        ctx.state, ctx.shape = state, scores.shape
        weights = np.where(np.arange(support) < state[6][:, None], state[4][:, :support], 0.0)
        return torch.from_numpy(state[5]).to(scores).view(scores.shape), torch.from_numpy(weights).to(scores)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_marginals: Tensor, grad_weights: Tensor) -> tuple[Tensor, None, None]:
        objects, inverse, _, by_one, _, _, counts = ctx.state[:7]
        gradient: NDArray[np.float64] = np.zeros((len(counts), ctx.shape[1:].numel()))
        pull_back(
            objects,
            inverse,
            by_one,
            counts,
            grad_marginals.flatten(1).double().cpu().numpy(),
            grad_weights.double().cpu().numpy(),
            gradient,
        )
        return torch.from_numpy(gradient).to(grad_marginals).view(ctx.shape), None, None
