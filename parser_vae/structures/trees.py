"""What the two families of dependency trees, projective and spanning, have in common.

Scores are ``arc_scores [batch, head, dependent]`` over ``n + 1`` nodes, node 0 being the artificial root. The
diagonal and column 0 (arcs into the root) are never read. ``lengths [batch]`` counts words, root excluded.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from parser_vae.structures.base import Structure


class TreeStructure(Structure):
    """Dependency trees over the words of a sentence.

    Attributes:
        single_root: Whether exactly one word hangs from the root (as Universal Dependencies demand) or at least one.
    """

    def __init__(self, single_root: bool = True) -> None:
        self.single_root = single_root

    @abstractmethod
    def argmax_heads(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the heads ``[batch, n + 1]`` (int64) of the best tree; 0 at the root's own slot and at padding.

        Raises:
            InfeasibleError: ``-inf`` scores forbid every tree of a sentence.
        """

    def argmax(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the best tree of each sentence as 0/1 arcs ``[batch, head, dependent]``."""
        return heads_to_arcs(self.argmax_heads(scores, lengths), lengths).to(scores.dtype)

    def inside(self, shape: tuple[int, ...], lengths: Tensor) -> Tensor:
        """Return which arcs ``[batch, head, dependent]`` (bool) join two nodes of their sentence."""
        inside = torch.arange(shape[0], device=lengths.device) <= lengths[:, None]
        return inside[:, :, None] & inside[:, None]

    def readable(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return which arcs ``[batch, head, dependent]`` (bool) trees can have: none into the root, none to oneself."""
        node = torch.arange(scores.shape[-1], device=scores.device)
        return super().readable(scores, lengths) & (node > 0) & (node[:, None] != node)


def heads_to_arcs(heads: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return 0/1 arcs ``[..., head, dependent]`` (float32) of head vectors ``[..., n + 1]``, padding all 0."""
    nodes = heads.shape[-1]
    position = torch.arange(nodes, device=heads.device)
    words = position > 0 if lengths is None else (position > 0) & (position <= lengths[..., None])
    arcs = torch.zeros(*heads.shape, nodes, device=heads.device)
    used = words.to(arcs.dtype).expand(heads.shape)
    return arcs.scatter_(-2, heads[..., None, :], used[..., None, :])


def arcs_to_heads(arcs: Tensor) -> Tensor:
    """Return heads ``[..., n + 1]`` (int64) of 0/1 arcs ``[..., head, dependent]``; 0 where no arc enters."""
    return arcs.argmax(-2)


def full_lengths(scores: Tensor, lengths: Tensor | None) -> Tensor:
    """Return ``lengths``, or the full size of every sentence where none are given (int64, on the scores' device)."""
    if lengths is not None:
        return lengths.to(device=scores.device, dtype=torch.int64)
    return torch.full((scores.shape[0],), scores.shape[1] - 1, dtype=torch.int64, device=scores.device)
