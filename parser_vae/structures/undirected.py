"""Undirected spanning trees of the complete graph.

A tree hung from vertex 0 is an arborescence, and each undirected tree hangs from it in exactly one way. So everything
here is the directed machinery on symmetric scores, with vertex 0 as the root and any number of root words.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parser_vae.structures import matrix_tree
from parser_vae.structures.base import Capability, Structure
from parser_vae.structures.kernels.arborescence import best_arborescences
from parser_vae.structures.kernels.edge_exchange import exchange_edges
from parser_vae.structures.spanning import SpanningTrees
from parser_vae.structures.trees import heads_to_arcs


class UndirectedTrees(Structure):
    """Spanning trees of the complete graph on ``n`` vertices; parts are its edges ``torch.triu_indices(n, n, 1)``.

    Scores are ``[batch, n (n - 1) / 2]``. ``lengths [batch]`` counts the vertices of each graph: edges with a vertex
    at or beyond it are padding. A temperature is the caller's business: pass ``scores / temperature``.

    Attributes:
        max_range: Scores further than this below the largest of their graph are raised to that limit (except
            ``-inf``) by everything but ``argmax``, as Paulus et al. (2020) do with 15; None leaves them alone.
    """

    name = "undirected"
    capabilities = frozenset(
        {
            Capability.ARGMAX,
            Capability.LOG_PARTITION,
            Capability.MARGINALS,
            Capability.SAMPLE,
            Capability.ENUMERATE,
            Capability.COUNT,
            Capability.NOISE_SCORE,
        }
    )

    def __init__(self, max_range: float | None = None) -> None:
        self.max_range = max_range

    def argmax(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the maximum spanning tree of each graph as 0/1 edges ``[batch, edges]``; runs on the CPU.

        Raises:
            InfeasibleError: The allowed edges of a graph do not connect it, or scores hold NaN or +inf.
        """
        heads = self._best_heads(scores, lengths)
        return self._edges(torch.from_numpy(heads).to(scores.device, torch.int64), scores, lengths)

    def log_partition(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``log Z [batch]`` by the matrix-tree theorem, differentiable any number of times."""
        return matrix_tree.log_partition(
            self._symmetric(self._raised(scores, lengths)), self._words(scores, lengths), False
        )

    def marginals(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the probability of each edge ``[batch, edges]``, differentiable; see ``matrix_tree.marginals``."""
        arcs = matrix_tree.marginals(
            self._symmetric(self._raised(scores, lengths)), self._words(scores, lengths), False
        )
        return _fold(arcs)

    def log_prob(self, scores: Tensor, parts: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``log p(parts)`` ``[..., batch]`` under ``exp(score)/Z`` of the raised scores."""
        return super().log_prob(self._raised(scores, lengths), parts, lengths)

    def entropy(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the entropy ``[batch]`` in nats of ``exp(score)/Z`` of the raised scores."""
        return super().entropy(self._raised(scores, lengths), lengths)

    def kl(self, scores: Tensor, other: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``KL(p_scores || p_other)`` ``[batch]`` in nats, both of raised scores."""
        return super().kl(self._raised(scores, lengths), self._raised(other, lengths), lengths)

    def sample(
        self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator, count: int = 1
    ) -> Tensor:
        """Return exact independent samples ``[count, batch, edges]``; see ``matrix_tree.sample``."""
        words = self._words(scores, lengths)
        heads = matrix_tree.sample(self._symmetric(self._raised(scores, lengths)), words, False, generator, count)
        return self._edges(heads, scores, lengths)

    def sample_by_chain(
        self,
        scores: Tensor,
        lengths: Tensor | None = None,
        *,
        generator: torch.Generator,
        count: int = 1,
        steps: int | None = None,
    ) -> Tensor:
        """Return approximate samples ``[count, batch, edges]``: edge-exchange chains started at the best tree.

        Args:
            scores: Edge scores ``[batch, edges]``.
            lengths: Vertices of each graph ``[batch]``.
            generator: Source of randomness.
            count: Independent chains for each graph.
            steps: Exchanges in each chain; ten times the number of vertices if None.
        """
        weights = self._symmetric(self._raised(scores, lengths)).detach().cpu().double().contiguous().numpy()
        seeds = matrix_tree.draw_seeds((count, len(scores)), generator)
        best = self._best_heads(scores, lengths).astype(np.int64)
        heads = np.repeat(best[None], count, axis=0)
        vertices = (self._words(scores, lengths) + 1).cpu().numpy()
        exchange_edges(weights, vertices, 10 * weights.shape[1] if steps is None else steps, seeds, heads)
        return self._edges(torch.from_numpy(heads).to(scores.device), scores, lengths)

    def enumerate(self, shape: tuple[int, ...]) -> Tensor:
        """Return every tree ``[count, edges]`` (float64) of a graph of at most 6 vertices.

        Raises:
            ValueError: The graph is larger, or ``shape`` is not the number of edges of a complete graph.
        """
        vertices = _vertices(shape[0])
        if vertices > 6:
            raise ValueError(f"{vertices} vertices have too many trees to enumerate; 6 are the most")
        return _fold(SpanningTrees(single_root=False).enumerate((vertices, vertices)))

    def log_count(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logarithm ``[batch]`` of the number of trees, n^(n-2) (Cayley)."""
        vertices = (self._words(scores, lengths) + 1).to(scores.dtype)
        return torch.where(vertices > 1, (vertices - 2) * vertices.log(), 0.0)

    def inside(self, shape: tuple[int, ...], lengths: Tensor) -> Tensor:
        """Return which edges ``[batch, edges]`` (bool) join two vertices of their graph."""
        vertices = _vertices(shape[0])
        return torch.triu_indices(vertices, vertices, 1, device=lengths.device)[1] < lengths[:, None]

    def _words(self, scores: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            size = _vertices(scores.shape[1])
            return torch.full((len(scores),), size - 1, dtype=torch.int64, device=scores.device)
        return lengths.to(device=scores.device, dtype=torch.int64) - 1

    def _raised(self, scores: Tensor, lengths: Tensor | None) -> Tensor:
        """Return scores of which none is more than ``max_range`` below the best edge of its graph."""
        if self.max_range is None:
            return scores
        size = _vertices(scores.shape[1])
        _, second = torch.triu_indices(size, size, 1, device=scores.device)
        padding = second > self._words(scores, lengths)[:, None]
        floor = scores.masked_fill(padding, -torch.inf).amax(1, keepdim=True) - self.max_range
        return torch.where((scores > -torch.inf) & ~padding, torch.maximum(scores, floor), scores)

    def _symmetric(self, scores: Tensor) -> Tensor:
        """Return ``scores`` as symmetric matrices ``[batch, n, n]`` (diagonal of no meaning)."""
        size = _vertices(scores.shape[1])
        first, second = torch.triu_indices(size, size, 1, device=scores.device)
        place = torch.zeros(size, size, dtype=torch.int64, device=scores.device)
        place[first, second] = place[second, first] = torch.arange(scores.shape[1], device=scores.device)
        return scores[:, place] if size > 1 else scores.new_zeros(len(scores), 1, 1)

    def _best_heads(self, scores: Tensor, lengths: Tensor | None) -> NDArray[Any]:
        matrices = matrix_tree.compiled_dtype(self._symmetric(scores)).numpy()
        return best_arborescences(matrices, self._words(scores, lengths).cpu().numpy(), single_root=False)

    def _edges(self, heads: Tensor, scores: Tensor, lengths: Tensor | None) -> Tensor:
        return _fold(heads_to_arcs(heads, self._words(scores, lengths))).to(scores.dtype)


def _fold(arcs: Tensor) -> Tensor:
    """Return edges ``[..., edges]``: for each the sum of the arcs ``[..., n, n]`` in its two directions."""
    first, second = torch.triu_indices(arcs.shape[-1], arcs.shape[-1], 1, device=arcs.device)
    return arcs[..., first, second] + arcs[..., second, first]


def _vertices(edges: int) -> int:
    vertices = (1 + math.isqrt(1 + 8 * edges)) // 2
    if vertices * (vertices - 1) // 2 != edges:
        raise ValueError(f"{edges} is not the number of edges of a complete graph")
    return vertices
