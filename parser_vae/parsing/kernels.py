"""The compiled inner loop of the pairwise tanh scorer, for scoring without gradients."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

LARGEST = 40.0  # beyond this, exp(2 a) leaves float32


def can_score(head: Tensor, dependent: Tensor) -> bool:
    """Return whether ``pairwise_tanh`` may be used: no gradient wanted, float32 on the CPU, nothing too large."""
    return (
        not (torch.is_grad_enabled() and (head.requires_grad or dependent.requires_grad))
        and head.dtype == torch.float32
        and head.device.type == "cpu"
        and bool(head.abs().amax() < LARGEST)
        and bool(dependent.abs().amax() < LARGEST)
    )


def pairwise_tanh(head: Tensor, dependent: Tensor, output: Tensor) -> Tensor:
    """Return ``sum_k output[k] tanh(head[., h, k] + dependent[., d, k])`` as ``[batch, h, d]``.

    From ``tanh(a + b) = 1 - 2 / (1 + e^{2a} e^{2b})``: exponentials for each node rather than each pair, and one
    division for every two terms. Within 2e-5 of torch's float32 tanh for sums of 100 terms of order one.
    """
    size = output.shape[0]
    if size % 2:
        head, dependent, output = (torch.nn.functional.pad(tensor, (0, 1)) for tensor in (head, dependent, output))
    scores = torch.empty(head.shape[0], head.shape[1], head.shape[1])
    _pairwise(
        torch.exp(2 * head).contiguous().numpy(),
        torch.exp(2 * dependent).transpose(1, 2).contiguous().numpy(),
        output.detach().contiguous().numpy(),
        scores.numpy(),
    )
    return scores


@numba.njit(cache=True, fastmath=True, nogil=True, boundscheck=False)
def _pairwise(head, dependent, output, scores):  # type: ignore[no-untyped-def]
    """Fill scores from exponentials ``head [batch, h, k]`` and ``dependent [batch, k, d]``; ``k`` is even."""
    total = np.float32(0)
    for k in range(output.shape[0]):
        total += output[k]
    for b in range(scores.shape[0]):
        for h in range(scores.shape[1]):
            row = scores[b, h]
            row[:] = total
            for k in range(0, output.shape[0], 2):
                _add_two(
                    row, dependent[b, k], dependent[b, k + 1], head[b, h, k], head[b, h, k + 1],
                    np.float32(2) * output[k], np.float32(2) * output[k + 1],
                )  # fmt: skip


@numba.njit(cache=True, fastmath=True, nogil=True, boundscheck=False)
def _add_two(row, first, second, a, b, v, w):  # type: ignore[no-untyped-def]
    """Subtract ``v / (1 + a first) + w / (1 + b second)``, over their common denominator."""
    one, huge = np.float32(1), np.float32(1e18)  # tanh is 1 long before; keeps the common denominator finite
    for d in range(np.uint64(row.shape[0])):  # unsigned: no wrap-around test, so the loop becomes vector code
        x = one + min(a * first[d], huge)
        y = one + min(b * second[d], huge)
        row[d] -= (v * y + w * x) / (x * y)
