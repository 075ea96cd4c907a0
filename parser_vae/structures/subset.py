"""Exactly k of m parts: top-k argmax, exact sums by a dynamic programme over the parts."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from parser_vae.structures.base import Capability, Structure
from parser_vae.structures.padding import forbid_padding, require_feasible, sizes


class Subset(Structure):
    """Subsets of exactly ``k`` parts; ``scores [batch, m]``, objects with ``k`` ones; ``lengths`` the parts of an item.

    Attributes:
        k: How many parts every object has.
    """

    name = "subset"
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

    def __init__(self, k: int) -> None:
        self.k = k

    def argmax(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the ``k`` best parts of each item as 0/1 ``[batch, m]``; of equals, the earlier part."""
        order = self._sorted(scores.detach(), lengths)[1]
        return torch.zeros_like(scores).scatter(-1, order[:, : self.k], 1.0)

    def log_partition(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``log Z [batch]``, the log of the k-th elementary symmetric polynomial of ``exp(scores)``."""
        return self._tables(self._sorted(scores, lengths)[0])[-1][:, self.k]

    def marginals(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the probability ``[batch, m]`` that each part is in the subset; every item sums to ``k``."""
        differentiable = torch.is_grad_enabled() and scores.requires_grad
        with torch.enable_grad():
            leaf = scores if differentiable else scores.detach().requires_grad_()
            total = self.log_partition(leaf, lengths).sum()
            (marginals,) = torch.autograd.grad(total, leaf, create_graph=differentiable)
        return marginals

    def sample(
        self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator, count: int = 1
    ) -> Tensor:
        """Return ``count`` exact samples ``[count, batch, m]``, drawn part by part from the dynamic programme."""
        ranked, order = self._sorted(scores.detach().double(), lengths)
        tables = self._tables(ranked)
        batch, parts = ranked.shape
        uniform = torch.rand(
            (parts, count, batch), generator=generator, dtype=torch.float64, device=generator.device
        ).to(scores.device)
        missing = torch.full((count, batch), self.k, device=scores.device)
        chosen = torch.zeros((count, batch, parts), dtype=scores.dtype, device=scores.device)
        rows = torch.arange(batch, device=scores.device)
        for part in range(parts - 1, -1, -1):
            # Of the parts up to this one `missing` are still to be drawn; this one is among them with probability
            # exp(score) * sum over subsets without it / sum over all: 0 when none is missing, 1 when all are needed.
            before, after = tables[part], tables[part + 1]
            without = before[rows, (missing - 1).clamp(0, before.shape[1] - 1)]
            with_part = ranked[:, part] + without - after[rows, missing.clamp(max=after.shape[1] - 1)]
            taken = (missing > part) | ((missing > 0) & (uniform[part].log() < with_part))
            chosen.scatter_(-1, order[:, part].expand(count, batch)[..., None], taken[..., None].to(scores.dtype))
            missing = missing - taken.long()
        return chosen

    def enumerate(self, shape: tuple[int, ...]) -> Tensor:
        """Return every subset ``[m choose k, m]`` of an item of shape ``(m,)`` (float64)."""
        chosen = torch.tensor(list(combinations(range(shape[0]), self.k)), dtype=torch.int64).reshape(-1, self.k)
        return torch.zeros((len(chosen), shape[0]), dtype=torch.float64).scatter(-1, chosen, 1.0)

    def log_count(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``log (m choose k) [batch]``."""
        parts = sizes(scores, lengths).double()
        chosen = torch.full_like(parts, self.k)
        count = torch.lgamma(parts + 1) - torch.lgamma(chosen + 1) - torch.lgamma(parts - chosen + 1)
        return count.to(scores.dtype)

    def _sorted(self, scores: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the scores in falling order and the parts they belong to, both ``[batch, m]``; forbidden ones last."""
        allowed = forbid_padding(scores, lengths)
        require_feasible((allowed > -torch.inf).sum(-1) >= self.k, f"every subset of {self.k} parts")
        ranked, order = allowed.sort(dim=-1, descending=True, stable=True)
        return ranked, order

    def _tables(self, ranked: Tensor) -> list[Tensor]:
        """Return ``table[i] [batch, min(i, k) + 1]``: log of the sum over subsets of j of the first i parts, at j.

        Rows grow with i, so no entry stands for an empty sum, and forbidden parts come last: all entries are finite,
        which keeps first and second derivatives free of ``inf - inf``.
        """
        tables = [ranked.new_zeros((ranked.shape[0], 1))]
        for part in range(ranked.shape[1]):
            before, score = tables[-1], ranked[:, part, None]
            after = [before[:, :1], _log_add(before[:, 1:], before[:, :-1] + score)]
            if part < self.k:
                after.append(before[:, -1:] + score)
            tables.append(torch.cat(after, -1))
        return tables


def _log_add(finite: Tensor, other: Tensor) -> Tensor:
    """Return ``log(exp(finite) + exp(other))``; unlike ``logaddexp``, twice differentiable wherever they lie."""
    return finite - logsigmoid(finite - other)
