"""Log-partition, marginals and samples of spanning arborescences as differentiable functions of tensors.

Two engines compute the same elimination (``kernels.elimination`` explains it): compiled code on the CPU, in the
precision of the scores, and batched torch in log space and float64, which has no limits of range, runs on any device
and can be differentiated any number of times. The second serves what the first cannot: other devices, derivatives of
marginals of float64 scores, third derivatives, and sentences whose Z is out of the compiled code's range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parser_vae.errors import InfeasibleError
from parser_vae.structures.kernels.arborescence import best_arborescences
from parser_vae.structures.kernels.elimination import partition, sample_heads

# A finite stand-in for log 0, far below any score: -inf would turn gradients into NaN.
_NEVER = -1e100
_STEP = 1e-4


def log_partition(scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
    """Return log Z ``[batch]`` over the spanning arborescences of ``scores [batch, head, dependent]``.

    Differentiable any number of times. In float32 the error is about 1e-6 plus 1e-7 of the value.

    Raises:
        InfeasibleError: The scores of a sentence forbid every tree, or hold NaN or +inf.
    """
    if scores.device.type != "cpu":
        return _by_torch(scores, lengths, single_root).to(scores.dtype)
    return _LogPartition.apply(scores, lengths, single_root)  # type: ignore[no-untyped-call]


def marginals(scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
    """Return the probability of each arc ``[batch, head, dependent]``, differentiable; 0 where never read.

    In float32 the error is below 2e-6 (250 words). Derivatives of float32 marginals are central differences of the
    float64 kernel, good to 1e-7 of the largest; those of float64 marginals are exact.

    Raises:
        InfeasibleError: The scores of a sentence forbid every tree, or hold NaN or +inf.
    """
    if scores.device.type != "cpu":
        return _marginals_by_torch(scores, lengths, single_root)
    return _Marginals.apply(scores, lengths, single_root)  # type: ignore[no-untyped-call]


def sample(scores: Tensor, lengths: Tensor, single_root: bool, generator: torch.Generator, count: int) -> Tensor:
    """Return ``count`` exact independent samples as heads ``[count, batch, n + 1]`` (int64); runs on the CPU.

    Raises:
        InfeasibleError: The scores of a sentence forbid every tree, or hold NaN or +inf, or the best tree is so far
            below the sum of each word's best arcs that float64 cannot hold the ratio (beyond e^-660).
    """
    values = np.ascontiguousarray(scores.detach().double().cpu().numpy())
    sizes = _checked(values, lengths.cpu())
    seeds = draw_seeds((count, len(sizes)), generator)
    heads, trusted = sample_heads(values, sizes, np.zeros_like(sizes), single_root, seeds)
    if not trusted.all():
        doubtful = np.flatnonzero(~trusted)
        first = _root_words(values, sizes, single_root)[doubtful]
        again, trusted = sample_heads(values[doubtful], sizes[doubtful], first, single_root, seeds[:, doubtful])
        if not trusted.all():
            sentence = doubtful[np.flatnonzero(~trusted)[0]]
            raise InfeasibleError(
                f"sentence {sentence} of the batch: its arc scores spread too far to sample from; scale them down"
            )
        heads[:, doubtful] = again
    return torch.from_numpy(heads).to(device=scores.device, dtype=torch.int64)


def compiled_dtype(scores: Tensor) -> Tensor:
    """Return ``scores`` on the CPU, cut from the graph, as float64 if they are that, else as float32."""
    values = scores.detach().cpu()
    return values if values.dtype == torch.float64 else values.float()


def draw_seeds(shape: tuple[int, ...], generator: torch.Generator) -> NDArray[np.uint64]:
    """Return random seeds of that shape for compiled samplers."""
    seeds = torch.randint(-(2**63), 2**63 - 1, shape, generator=generator, device=generator.device)
    return seeds.cpu().numpy().view(np.uint64)


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
        log_z, probabilities = _by_kernel(scores, lengths, single_root, ctx.needs_input_grad[0])
        ctx.save_for_backward(scores, lengths, probabilities)
        ctx.single_root = single_root
        return log_z

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        scores, lengths, probabilities = ctx.saved_tensors
        if torch.is_grad_enabled():
            probabilities = marginals(scores, lengths, ctx.single_root)
        return gradient[:, None, None] * probabilities, None, None


class _Marginals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
        ctx.save_for_backward(scores, lengths)
        ctx.single_root = single_root
        return _by_kernel(scores, lengths, single_root, True)[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        scores, lengths = ctx.saved_tensors
        again = torch.is_grad_enabled()
        if not again and scores.dtype != torch.float64:
            return _hessian_product(scores, lengths, ctx.single_root, gradient), None, None
        with torch.enable_grad():
            connected = scores if again else scores.detach().requires_grad_()
            probabilities = _marginals_by_torch(connected, lengths, ctx.single_root)
            (product,) = torch.autograd.grad(probabilities, connected, gradient, create_graph=again)
        return product, None, None


def _hessian_product(scores: Tensor, lengths: Tensor, single_root: bool, direction: Tensor) -> Tensor:
    """Return the second derivative of log Z applied to ``direction``, which is also the vector-Jacobian product."""
    read = _read(scores, lengths)
    direction = torch.where(read, direction, 0.0).double()
    largest = direction.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    move = direction * (_STEP / largest)
    base = torch.where(read, scores, 0.0).double()
    upper = _by_kernel(base + move, lengths, single_root, True)[1]
    lower = _by_kernel(base - move, lengths, single_root, True)[1]
    return ((upper - lower) * (largest / (2 * _STEP))).to(scores.dtype)


def _read(scores: Tensor, lengths: Tensor) -> Tensor:
    """Return which entries of ``scores`` belong to arcs."""
    position = torch.arange(scores.shape[1], device=scores.device)
    inside = position <= lengths[:, None]
    arcs = inside[:, :, None] & inside[:, None, :] & (position > 0)
    return arcs & (position[:, None] != position)


# ---------------------------------------------------------------- compiled


def _by_kernel(scores: Tensor, lengths: Tensor, single_root: bool, wanted: bool) -> tuple[Tensor, Tensor]:
    """Return log Z and (where wanted) marginals, from the first of float32, float64 and log space that can."""
    values = np.ascontiguousarray(compiled_dtype(scores).numpy())
    sizes = _checked(values, lengths)
    first = np.zeros_like(sizes)
    precision = np.float32 if values.dtype == np.float32 else np.float64
    log_z, probabilities, trusted = partition(values, sizes, first, single_root, precision, wanted)
    if not trusted.all():
        doubtful = np.flatnonzero(~trusted)
        first = _root_words(values, sizes, single_root)
        again = partition(values[doubtful], sizes[doubtful], first[doubtful], single_root, np.float64, wanted)
        log_z[doubtful] = again[0]
        if wanted:
            probabilities[doubtful] = again[1]
        if not again[2].all():
            extreme = torch.from_numpy(doubtful[~again[2]])
            with torch.enable_grad():
                own = scores.detach()[extreme].double().requires_grad_()
                found = _by_torch(own, lengths[extreme], single_root)
                (slope,) = torch.autograd.grad(found.sum(), own)
            log_z[extreme] = found.detach().numpy()
            if wanted:
                probabilities[extreme] = slope.numpy()
    return torch.from_numpy(log_z).to(scores.dtype), torch.from_numpy(probabilities).to(scores.dtype)


def _checked(values: NDArray[Any], lengths: Tensor) -> NDArray[np.int64]:
    sizes = lengths.numpy()
    if len(sizes) and not (sizes.min() >= 0 and sizes.max() < values.shape[1]):
        raise ValueError(f"lengths must lie in 0 .. {values.shape[1] - 1}, got {sizes.min()} .. {sizes.max()}")
    return sizes


def _root_words(values: NDArray[Any], sizes: NDArray[np.int64], single_root: bool) -> NDArray[np.int64]:
    """Return a word (from 0) of each sentence that hangs from the root in the best tree."""
    heads = best_arborescences(values, sizes, single_root)
    return np.maximum(np.argmax(heads[:, 1:] == 0, axis=1), 0) if values.shape[1] > 1 else np.zeros_like(sizes)


# ---------------------------------------------------------------- batched torch


def _by_torch(scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
    """Return log Z ``[batch]`` in float64 by elimination in log space."""
    log_z = _eliminate(scores, lengths, single_root, None)
    if not bool((log_z > _NEVER).all()):
        values = np.ascontiguousarray(scores.detach().cpu().numpy())
        first = torch.from_numpy(_root_words(values, lengths.cpu().numpy(), single_root)).to(scores.device)
        log_z = _eliminate(scores, lengths, single_root, first)
    return log_z


def _marginals_by_torch(scores: Tensor, lengths: Tensor, single_root: bool) -> Tensor:
    connected = torch.is_grad_enabled() and scores.requires_grad
    with torch.enable_grad():
        own = scores if connected else scores.detach().requires_grad_()
        log_z = _by_torch(own, lengths, single_root)
        (slope,) = torch.autograd.grad(log_z.sum(), own, create_graph=connected)
    return slope


def _eliminate(scores: Tensor, lengths: Tensor, single_root: bool, first: Tensor | None) -> Tensor:
    """Return log Z ``[batch]``, but ``_NEVER`` where ``first`` (word 0 if None) cannot be the root word."""
    weights = torch.where(_read(scores, lengths), scores, -torch.inf).double()
    if first is not None:
        position = torch.arange(scores.shape[1], device=scores.device)
        order = torch.where(position == 1, first[:, None] + 1, torch.where(position == first[:, None] + 1, 1, position))
        weights = weights.gather(1, order[:, :, None].expand_as(weights))
        weights = weights.gather(2, order[:, None, :].expand_as(weights))
    weights = weights.nan_to_num(nan=torch.nan, posinf=torch.inf, neginf=_NEVER)[:, :, 1:]
    shift = weights.detach().amax(1)
    shift = torch.where(shift > _NEVER / 2, shift, 0.0)
    weights = weights - shift[:, None]
    root, arcs = weights[:, 0], weights[:, 1:]
    # Padding hangs from word 0 with weight 1: it multiplies Z by one and passes nothing on.
    words = torch.arange(root.shape[1], device=scores.device)
    padding = words >= lengths[:, None]
    arcs = torch.where(padding[:, None, :] & (words == 0)[:, None] & (words > 0), 0.0, arcs)
    root = torch.where(padding & (words == 0), 0.0, root)
    log_z, dead = shift.sum(1), torch.zeros_like(lengths, dtype=torch.bool)
    for k in range(root.shape[1] - 1, -1, -1):
        entering = arcs[:, :k, k] if single_root and k else torch.cat([arcs[:, :k, k], root[:, k : k + 1]], 1)
        inflow = torch.logsumexp(entering, 1)
        log_z = log_z + inflow
        dead = dead | (inflow < _NEVER / 2)
        passed = arcs[:, k, :k]
        root = _log_add(root[:, :k], (root[:, k] - inflow)[:, None] + passed)
        arcs = _log_add(arcs[:, :k, :k], (arcs[:, :k, k] - inflow[:, None])[:, :, None] + passed[:, None, :])
    return torch.where(dead, _NEVER, log_z)


def _log_add(left: Tensor, right: Tensor) -> Tensor:
    """Return ``log(exp(left) + exp(right))``; torch's own has second derivatives that are NaN for distant values."""
    return torch.stack([left, right]).logsumexp(0)
