# mypy: disable-error-code="no-untyped-call, untyped-decorator"
"""Compiled inner loops of scoring: the pairwise tanh scorer with its gradient, and the cell of an LSTM without."""

from __future__ import annotations

from typing import Any

import numba
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from parser_vae.structures.kernels.simd import (
    exponential,
    lanes_of,
    load,
    maximum,
    quotient,
    spread,
    store,
    where_greater,
)

LARGEST = 40.0  # beyond this, exp(2 a) leaves float32
LANES = 16  # floats in a register; sizes are padded to a multiple of it


def can_score(head: Tensor, dependent: Tensor) -> bool:
    """Return whether ``pairwise_tanh`` may be used: float32 on the CPU, nothing too large."""
    return (
        head.dtype == torch.float32
        and head.device.type == "cpu"
        and bool(head.abs().amax() < LARGEST)
        and bool(dependent.abs().amax() < LARGEST)
    )


def pairwise_tanh(head: Tensor, dependent: Tensor, output: Tensor) -> Tensor:
    """Return ``sum_k output[k] tanh(head[., h, k] + dependent[., d, k])`` as ``[batch, h, d]``, differentiable once.

    From ``tanh(a + b) = 1 - 2 / (1 + e^{2a} e^{2b})``: exponentials for each node rather than each pair, and one
    division for every two terms. Within 2e-5 of torch's float32 tanh for sums of 100 terms of order one. The gradient
    computes the pairs again, so that nothing larger than the scores is ever kept.
    """
    scores: Tensor = _PairwiseTanh.apply(head, dependent, output)
    return scores


class _PairwiseTanh(torch.autograd.Function):
    """The pairwise scores and their gradient; see ``pairwise_tanh``."""

    @staticmethod
    def forward(context: Any, head: Tensor, dependent: Tensor, output: Tensor) -> Tensor:
        context.save_for_backward(head, dependent, output)
        if output.shape[0] % 2:
            head, dependent, output = (pad(tensor, (0, 1)) for tensor in (head, dependent, output))
        batch, nodes = head.shape[:2]
        width = -(-nodes // LANES) * LANES
        columns = torch.zeros(batch, head.shape[2], width)
        columns[:, :, :nodes] = torch.exp(2 * dependent).transpose(1, 2)
        scores = torch.empty(batch, nodes, width)
        _pairwise(
            torch.exp(2 * head).contiguous().numpy(),
            columns.view(-1).numpy(),
            output.detach().contiguous().numpy(),
            scores.view(-1).numpy(),
            width,
        )
        return scores[:, :, :nodes].contiguous()

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        head, dependent, output = context.saved_tensors
        size = len(output)
        powers = [torch.exp(2 * pad(tensor, (0, -size % LANES))) for tensor in (head, dependent)]
        slopes = [torch.zeros_like(tensor) for tensor in powers]
        total = torch.zeros(powers[0].shape[-1])
        _pairwise_slopes(
            gradient.contiguous().numpy(), *(tensor.view(-1).numpy() for tensor in (*powers, *slopes, total))
        )
        by_head, by_dependent = (slope[..., :size] * output for slope in slopes)
        return by_head, by_dependent, total[:size]


@numba.njit(cache=True, nogil=True, boundscheck=False)
def _pairwise(head: Any, dependent: Any, output: Any, scores: Any, width: Any) -> None:
    """Fill flat ``scores [batch, h, width]`` from exponentials ``head [batch, h, k]``, ``dependent [batch, k, width]``.

    ``k`` is even. What the nodes of one register of dependents need stays in the nearest cache for all heads.
    """
    lanes = lanes_of(scores)
    one, huge = spread(scores, 1.0), spread(scores, 1e18)  # tanh is 1 long before; keeps the denominator finite
    total = 0.0
    for k in range(output.shape[0]):
        total += output[k]
    for b in range(head.shape[0]):
        for first in range(0, width, lanes):
            for h in range(head.shape[1]):
                result = spread(scores, total)
                at = b * head.shape[2] * width + first
                for k in range(0, output.shape[0], 2):
                    x = spread(scores, head[b, h, k]) * load(dependent, at)
                    y = spread(scores, head[b, h, k + 1]) * load(dependent, at + width)
                    x = one + where_greater(x, huge, huge, x)
                    y = one + where_greater(y, huge, huge, y)
                    above = spread(scores, 2 * output[k]) * y + spread(scores, 2 * output[k + 1]) * x
                    result = result - quotient(above, x * y)
                    at += 2 * width
                store(scores, (b * head.shape[1] + h) * width + first, result)


@numba.njit(cache=True, nogil=True, boundscheck=False)
def _pairwise_slopes(
    gradient: Any, head: Any, dependent: Any, head_slopes: Any, dependent_slopes: Any, output_slopes: Any
) -> None:
    """Add sums over pairs of ``gradient [batch, h, d]`` times ``1 - tanh^2`` to the slopes, times ``tanh`` to the last.

    The others are flat: exponentials ``head [batch, h, k]`` and ``dependent [batch, d, k]``, slopes like them, and
    ``output_slopes [k]``; ``k`` is a multiple of a register.
    """
    lanes = lanes_of(head)
    batch, nodes = gradient.shape[:2]
    size = len(output_slopes)
    one, huge = spread(head, 1.0), spread(head, 1e18)
    two, four = spread(head, 2.0), spread(head, 4.0)
    for b in range(batch):
        for first in range(0, size, lanes):
            output_slope = load(output_slopes, first)
            for h in range(nodes):
                at = (b * nodes + h) * size + first
                power, slope = load(head, at), load(head_slopes, at)
                for d in range(nodes):
                    there = (b * nodes + d) * size + first
                    above = spread(head, gradient[b, h, d])
                    x = power * load(dependent, there)
                    share = quotient(one, one + where_greater(x, huge, huge, x))  # tanh = 1 - 2 share
                    output_slope = output_slope + above * (one - two * share)
                    change = above * (four * share * (one - share))
                    slope = slope + change
                    store(dependent_slopes, there, load(dependent_slopes, there) + change)
                store(head_slopes, at, slope)
            store(output_slopes, first, output_slope)


@numba.njit(cache=True, inline="always")
def _sigmoid(array: Any, x: Any) -> Any:
    zero, one = spread(array, 0.0), spread(array, 1.0)
    small = exponential(array, zero - maximum(x, zero - x))
    share = quotient(one, one + small)
    return where_greater(x, zero, share, small * share)


@numba.njit(cache=True, inline="always")
def _tanh(array: Any, x: Any) -> Any:
    zero, one = spread(array, 0.0), spread(array, 1.0)
    small = exponential(array, spread(array, -2.0) * maximum(x, zero - x))
    size = quotient(one - small, one + small)
    return where_greater(x, zero, size, zero - size)


@numba.njit(cache=True, inline="always")
def _gate(
    gates: Any, inputs: Any, turns: Any, here: Any, there: Any, thin: Any, turn: Any, rank: Any, step: Any, sign: Any
) -> Any:
    """Return 16 units of a gate before its bend: recurrence, inputs, and the recurrence's low-rank noise."""
    value = load(gates, here) + load(inputs, there)
    for number in range(rank):
        value = value + spread(gates, sign * gates[thin + number]) * load(turns, turn + number * step)
    return value


@numba.njit(cache=True, nogil=True, boundscheck=False)
def lstm_cell(
    gates: Any,
    index: Any,
    rows: Any,
    inputs: Any,
    turns: Any,
    cells: Any,
    joined: Any,
    states: Any,
    place: Any,
    sizes: Any,
) -> None:
    """Do one step of an LSTM for many sequences of many members; all arrays are flat, units a multiple of 16.

    Args:
        gates: What the recurrence gives ``[members, batch, gates_size]``: input, forget, cell and output gates
            ``[4 * units]``, then the product with the right factors of each pair's noise ``[pairs, rank]``.
        index: Which of the list of inputs each sequence has ``[batch]``.
        rows: Which row of ``states`` each sequence writes ``[members, batch]``.
        inputs: What the inputs give, one of a list for each sequence ``[members or 1, list, 4 * units]``.
        turns: Left factors of the noise ``[pairs, rank, 4 * units]``; the odd members subtract it.
        cells: Memory ``[members, batch, units]``, overwritten.
        joined: The next step's input ``[members, batch, joined_size]``, of which the last ``units`` are written.
        states: All states ``[any, state_size]``.
        place: Where in this row its units start.
        sizes: ``(members, batch, units, length of the inputs' list or 0 if all members share it, joined_size,
            state_size, gates_size, rank)``.
    """
    members, batch, units, listed, joined_size, state_size, gates_size, rank = sizes
    lanes = lanes_of(gates)
    four = 4 * units
    for member in range(members):
        sign = 1 - 2 * (member % 2)
        turn = (member // 2) * rank * four
        for sequence in range(batch):
            number = member * batch + sequence
            a = gates_size * number
            b = four * (member * listed + index[sequence])
            thin = a + four + (member // 2) * rank
            for unit in range(0, units, lanes):
                c, d, e = a + unit, b + unit, turn + unit
                admit = _sigmoid(gates, _gate(gates, inputs, turns, c, d, thin, e, rank, four, sign))
                c, d, e = c + units, d + units, e + units
                keep = _sigmoid(gates, _gate(gates, inputs, turns, c, d, thin, e, rank, four, sign))
                c, d, e = c + units, d + units, e + units
                new = _tanh(gates, _gate(gates, inputs, turns, c, d, thin, e, rank, four, sign))
                c, d, e = c + units, d + units, e + units
                show = _sigmoid(gates, _gate(gates, inputs, turns, c, d, thin, e, rank, four, sign))
                memory = keep * load(cells, number * units + unit) + admit * new
                store(cells, number * units + unit, memory)
                state = show * _tanh(gates, memory)
                store(joined, (number + 1) * joined_size - units + unit, state)
                store(states, rows[number] * state_size + place + unit, state)
