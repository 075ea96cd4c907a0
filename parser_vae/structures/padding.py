"""Sizes and padding of the structures whose parts form one flat vector: a padded part is a forbidden part."""

from __future__ import annotations

import torch
from torch import Tensor

from parser_vae.errors import InfeasibleError


def sizes(scores: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the size of each item ``[batch]`` (int64): ``lengths``, or the full width where none are given."""
    if lengths is not None:
        return lengths.to(device=scores.device, dtype=torch.int64)
    return torch.full((scores.shape[0],), scores.shape[1], dtype=torch.int64, device=scores.device)


def forbid_padding(scores: Tensor, lengths: Tensor | None) -> Tensor:
    """Return ``scores [batch, parts]`` with ``-inf`` in place of whatever padding held, NaN included."""
    if lengths is None:
        return scores
    position = torch.arange(scores.shape[1], device=scores.device)
    return scores.masked_fill(position >= sizes(scores, lengths)[:, None], -torch.inf)


def require_feasible(feasible: Tensor, what: str) -> None:
    """Raise ``InfeasibleError`` naming the first item where ``feasible [batch]`` is False; ``what`` was forbidden."""
    if not bool(feasible.all()):
        index = int((~feasible).int().argmax())
        raise InfeasibleError(f"item {index} of the batch: its -inf scores forbid {what}; allow more parts")
