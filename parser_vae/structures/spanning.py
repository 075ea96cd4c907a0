"""Spanning trees (arborescences): every dependency tree, projective or not."""

from __future__ import annotations

import torch
from torch import Tensor

from parser_vae.structures.base import Capability
from parser_vae.structures.kernels.arborescence import best_arborescences
from parser_vae.structures.trees import TreeStructure, full_lengths


class SpanningTrees(TreeStructure):
    """All dependency trees over the words of a sentence, crossing arcs included."""

    name = "spanning"
    capabilities = frozenset({Capability.ARGMAX})

    def argmax_heads(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the heads ``[batch, n + 1]`` (int64) of the best tree (Chu and Liu 1965; Edmonds 1967), in O(n^2).

        Runs on the CPU; scores on another device are copied there and the heads back.

        Raises:
            InfeasibleError: The scores of a sentence forbid every tree, or hold NaN or +inf.
        """
        values = scores.detach().to("cpu")
        if values.dtype not in (torch.float32, torch.float64):
            values = values.float()
        sizes = full_lengths(scores, lengths).to("cpu")
        heads = best_arborescences(values.numpy(), sizes.numpy(), self.single_root)
        return torch.from_numpy(heads).to(device=scores.device, dtype=torch.int64)
