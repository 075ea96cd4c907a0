# mypy: disable-error-code="no-untyped-call"
"""Tensors to the compiled kernels of projective trees and back, with their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from parser_vae.errors import InfeasibleError, InputError
from parser_vae.structures import by_width
from parser_vae.structures.kernels.eisner import FEASIBLE, INFEASIBLE, NOT_A_NUMBER
from parser_vae.structures.kernels.inside_outside import OUT_OF_RANGE, inside_outside
from parser_vae.structures.kernels.sampling import sample_from_logs, sample_heads
from parser_vae.structures.kernels.smoothed_eisner import smoothed_eisner
from parser_vae.structures.trees import full_lengths


def apply_log_partition(scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
    """Return ``log Z [batch]``, twice differentiable."""
    total: Tensor = _LogPartition.apply(scores, lengths, single_root)
    return total


def apply_marginals(scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
    """Return the marginals ``[batch, head, dependent]``, once differentiable."""
    arcs: Tensor = _Marginals.apply(scores, lengths, single_root)
    return arcs


def apply_soft_tree(scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
    """Return the expected-value soft tree ``[batch, head, dependent]`` of finite scores, once differentiable."""
    tree: Tensor = _SoftTree.apply(scores, lengths, single_root)
    return tree


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
        total, arcs = _sums(scores, lengths, single_root, with_marginals=ctx.needs_input_grad[0])
        ctx.save_for_backward(scores, lengths, arcs)
        ctx.single_root = single_root
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        scores, lengths, arcs = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is to be differentiated again
            arcs = apply_marginals(scores, lengths, ctx.single_root)
        return gradient[:, None, None] * arcs, None, None


class _Marginals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
        ctx.save_for_backward(scores, lengths)
        ctx.single_root = single_root
        return _sums(scores, lengths, single_root)[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        scores, lengths = ctx.saved_tensors
        return _sums(scores, lengths, ctx.single_root, direction=gradient)[1], None, None


class _SoftTree(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
        ctx.save_for_backward(scores, lengths)
        ctx.single_root = single_root
        return torch.from_numpy(smoothed_eisner(as_array(scores), lengths.numpy(), single_root, thread_count()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        scores, lengths = ctx.saved_tensors
        array = smoothed_eisner(
            as_array(scores), lengths.numpy(), ctx.single_root, thread_count(), as_array(gradient.to(scores.dtype))
        )
        return torch.from_numpy(array), None, None


def _sums(
    scores: Tensor, lengths: Tensor, single_root: bool, with_marginals: bool = True, direction: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return log Z and the marginals, or their derivative in a direction; see ``inside_outside``.

    Sentences out of the kernel's range are done again by the logarithmic recursion, in float64.
    """
    along = None if direction is None else as_array(direction.to(scores.dtype))
    total, arcs, status = inside_outside(
        as_array(scores), lengths.numpy(), single_root, thread_count(), with_marginals, along
    )
    for sentence in np.flatnonzero(status == OUT_OF_RANGE):
        one = slice(sentence, sentence + 1)
        with torch.enable_grad():
            source = scores.detach()[one].double().requires_grad_()
            value = by_width.log_partition(source, lengths[one], single_root)
            total[sentence] = value.item()
            status[sentence] = status_of_total(total[sentence])
            if status[sentence] != FEASIBLE or not with_marginals:
                continue
            (result,) = torch.autograd.grad(value.sum(), source, create_graph=direction is not None)
            if direction is not None:
                (result,) = torch.autograd.grad((result * direction[one]).sum(), source)
        arcs[sentence] = result[0].numpy()
    raise_infeasible(status)
    return torch.from_numpy(total).to(scores.dtype), torch.from_numpy(arcs)


def draw(scores: Tensor, lengths: Tensor, uniforms: Tensor, single_root: bool) -> Tensor:
    """Return heads ``[batch, count, n + 1]`` (int64) of exact samples; see ``sample_heads``.

    Sentences out of the kernel's range are drawn from the logarithmic chart.
    """
    heads, status = sample_heads(as_array(scores), lengths.numpy(), uniforms.numpy(), single_root, thread_count())
    for sentence in np.flatnonzero(status == OUT_OF_RANGE):
        length = int(lengths[sentence])
        source = scores[sentence : sentence + 1, : length + 1, : length + 1].double()
        status[sentence] = status_of_total(by_width.log_partition(source, lengths[sentence][None], single_root).item())
        if status[sentence] == FEASIBLE:
            tables, root = by_width.log_tables(source, single_root)
            heads[sentence, :, : length + 1] = sample_from_logs(tables, root, uniforms[sentence].numpy())
    raise_infeasible(status)
    return torch.from_numpy(heads).to(torch.int64)


def status_of_total(total: float) -> int:
    """Return the status of a sentence whose best or summed score is ``total``."""
    return INFEASIBLE if total == -np.inf else FEASIBLE if np.isfinite(total) else NOT_A_NUMBER


def raise_infeasible(status: NDArray[np.int8]) -> None:
    """Raise ``InfeasibleError`` for the first sentence whose status is not FEASIBLE."""
    if not status.any():
        return
    sentence = int(np.flatnonzero(status != FEASIBLE)[0])
    if status[sentence] == INFEASIBLE:
        what = "its -inf scores forbid every projective tree; allow at least one"
    else:
        what = "a score is NaN or +inf; check what computed it"
    raise InfeasibleError(f"sentence {sentence} of the batch: {what}")


def checked_lengths(scores: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the lengths, or raise ``InputError``: kernels trust them, and the dtype."""
    if scores.dim() != 3 or scores.shape[1] != scores.shape[2]:
        raise InputError(f"arc scores must be [batch, n + 1, n + 1], not {list(scores.shape)}")
    if scores.dtype not in (torch.float32, torch.float64):
        raise InputError(f"arc scores must be float32 or float64, not {scores.dtype}; convert them")
    lengths = full_lengths(scores, lengths)
    fit = lengths.numel() == 0 or bool(lengths.min() >= 1 and lengths.max() < scores.shape[1])
    if lengths.shape != scores.shape[:1] or not fit:
        raise InputError(
            f"lengths must be {len(scores)} numbers from 1 to {scores.shape[1] - 1}, not {lengths.tolist()}"
        )
    return lengths


def as_array(tensor: Tensor) -> NDArray[Any]:
    """Return a C-contiguous array of the tensor's values, a copy only where that is needed."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def thread_count() -> int:
    """Return how many threads compiled kernels may use: as many as torch is set to."""
    return torch.get_num_threads()
