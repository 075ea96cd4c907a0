"""Spanning trees (arborescences): every dependency tree, projective or not."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from parser_vae.structures import matrix_tree
from parser_vae.structures.base import Capability
from parser_vae.structures.kernels.arborescence import best_arborescences
from parser_vae.structures.trees import TreeStructure, full_lengths, heads_to_arcs

_MOST_ENUMERATED = 6


class SpanningTrees(TreeStructure):
    """All dependency trees over the words of a sentence, crossing arcs included."""

    name = "spanning"
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

    def argmax_heads(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the heads ``[batch, n + 1]`` (int64) of the best tree (Chu and Liu 1965; Edmonds 1967), in O(n^2).

        Runs on the CPU; scores on another device are copied there and the heads back. Inner loops that have numpy
        arrays call ``kernels.arborescence.best_arborescences`` itself.

        Raises:
            InfeasibleError: The scores of a sentence forbid every tree, or hold NaN or +inf.
        """
        sizes = full_lengths(scores, lengths).cpu()
        heads = best_arborescences(matrix_tree.compiled_dtype(scores).numpy(), sizes.numpy(), self.single_root)
        return torch.from_numpy(heads).to(device=scores.device, dtype=torch.int64)

    def log_partition(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``log Z [batch]`` by the matrix-tree theorem (Koo et al. 2007); see ``matrix_tree.log_partition``."""
        return matrix_tree.log_partition(scores, full_lengths(scores, lengths), self.single_root)

    def marginals(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return arc probabilities ``[batch, head, dependent]``; see ``matrix_tree.marginals``."""
        return matrix_tree.marginals(scores, full_lengths(scores, lengths), self.single_root)

    def sample_heads(
        self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator, count: int = 1
    ) -> Tensor:
        """Return exact independent samples as heads ``[count, batch, n + 1]``; see ``matrix_tree.sample``."""
        return matrix_tree.sample(scores, full_lengths(scores, lengths), self.single_root, generator, count)

    def sample(
        self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator, count: int = 1
    ) -> Tensor:
        """Return exact independent samples ``[count, batch, head, dependent]`` in the dtype of ``scores``."""
        heads = self.sample_heads(scores, lengths, generator=generator, count=count)
        return heads_to_arcs(heads, full_lengths(scores, lengths)).to(scores.dtype)

    def enumerate(self, shape: tuple[int, ...]) -> Tensor:
        """Return every tree ``[count, n + 1, n + 1]`` (float64) of a sentence of at most 6 words.

        Raises:
            ValueError: The sentence is longer.
        """
        words = shape[0] - 1
        if words > _MOST_ENUMERATED:
            raise ValueError(f"{words} words have too many trees to enumerate; {_MOST_ENUMERATED} are the most")
        choices = [[head for head in range(words + 1) if head != word] for word in range(1, words + 1)]
        heads = torch.tensor([(0, *pick) for pick in itertools.product(*choices)], dtype=torch.int64)
        ancestor = heads
        for _ in range(words):
            ancestor = heads.gather(1, ancestor)
        is_tree = (ancestor == 0).all(1)
        if self.single_root and words:
            is_tree &= (heads[:, 1:] == 0).sum(1) == 1
        return heads_to_arcs(heads[is_tree]).double()

    def log_count(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logarithm ``[batch]`` of the number of trees: n^(n-1), or (n+1)^(n-1) with several roots."""
        words = full_lengths(scores, lengths).to(scores.dtype)
        base = words if self.single_root else words + 1
        return torch.where(words > 0, (words - 1) * base.clamp_min(1).log(), 0.0)
