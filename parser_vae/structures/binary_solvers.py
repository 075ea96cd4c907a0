"""Searches for the best vector of bits under pairwise weights: maximise ``sum a_i z_i + sum_{i<j} w_ij z_i z_j``.

Each takes ``unary [batch, n]`` and ``pairs [batch, n(n-1)/2]`` (upper triangle, row by row) and returns bits
``[batch, n]`` (int64). ``-inf`` forbids a bit, or two bits together. The all-zero vector is always allowed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parser_vae.errors import InputError, ParserVaeError
from parser_vae.structures.kernels.min_cut import best_bits

GAP = 1e-9
"""How far below its proven bound a search may end, relative to the sum of all weights: rounding of float64 sums."""


def coordinate(unary: Tensor, pairs: Tensor) -> Tensor:
    """Return a local optimum: no single bit can be flipped for a gain (iterated conditional modes, Besag 1986).

    Starts from the bits whose own score is positive; each change raises the score, so it ends.
    """
    weights = _symmetric(unary, pairs)
    bits = unary > 0
    changed = True
    while changed:
        before = bits.clone()
        for bit in range(unary.shape[1]):
            coupled = torch.where(bits, weights[:, bit], torch.zeros_like(unary)).sum(-1)
            bits[:, bit] = unary[:, bit] + coupled > 0
        changed = not torch.equal(before, bits)
    return bits.long()


def max_flow(unary: Tensor, pairs: Tensor) -> Tensor:
    """Return the optimum where every pair weight is >= 0, as a minimum cut.

    ``w z_i z_j = w/2 (z_i + z_j - |z_i - z_j|)``: half of each weight goes to the two bits, the other half is paid when
    they differ, which is what a cut pays. Capacities stay float64, nothing is rounded to integers, and the flow that
    comes with the cut proves how good it is.

    Raises:
        InputError: A pair weight is negative; the message names the item.
        ParserVaeError: The flow does not prove the cut optimal to 1e-9 of the sum of the weights.
    """
    negative = (pairs < 0).any(-1)
    if bool(negative.any()):
        raise InputError(
            f"item {int(negative.int().argmax())} of the batch: max_flow needs pair weights >= 0; "
            "choose the solver mixed_integer"
        )
    weights = _symmetric(unary, pairs).double().cpu().numpy()
    own = unary.double().cpu().numpy()
    bits = np.zeros(own.shape, np.int64)
    for item in range(len(own)):
        allowed = np.flatnonzero(own[item] > -np.inf)
        coupled = np.ascontiguousarray(weights[item][np.ix_(allowed, allowed)])
        bits[item, allowed], bound = best_bits(own[item, allowed], coupled)
        value, size = _value(own[item, allowed], coupled, bits[item, allowed])
        _require_proof(item, value, bound, size)
    return torch.from_numpy(bits).to(unary.device)


def mixed_integer(unary: Tensor, pairs: Tensor) -> Tensor:
    """Return the optimum for any weights, by branch and bound over a linear programme (HiGHS).

    A product is a variable ``y <= z_i, y <= z_j`` (pulled up by a positive weight) or ``y >= z_i + z_j - 1`` (pushed
    down by a negative one), and 0 for a forbidden pair. "Optimum" is to 1e-6 of the largest weight, HiGHS's tolerance.

    Raises:
        ParserVaeError: The solver fails, or does not prove its answer optimal.
    """
    own = unary.double().cpu().numpy()
    products = pairs.double().cpu().numpy()
    solved = [_solve(item, own[item], products[item]) for item in range(len(own))]
    return torch.from_numpy(np.stack(solved)).to(unary.device)


def _solve(item: int, unary: NDArray[np.float64], pairs: NDArray[np.float64]) -> NDArray[np.int64]:
    # Here, because this import costs a third of a second.
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    bits = len(unary)
    first, second = np.triu_indices(bits, 1)
    used = pairs != 0
    first, second, pairs = first[used], second[used], pairs[used]
    forbidden = pairs == -np.inf
    scale = max(np.abs(unary[unary > -np.inf]).max(initial=0.0), np.abs(pairs[~forbidden]).max(initial=0.0))
    if scale == 0:
        return np.zeros(bits, np.int64)
    gain = np.concatenate([np.where(unary > -np.inf, unary, 0.0), np.where(forbidden, 0.0, pairs)]) / scale
    # One row y - z_i - z_j >= -1 for a pair that costs, two rows y - z_i <= 0 and y - z_j <= 0 for one that pays.
    costs, pays = np.flatnonzero(pairs < 0), np.flatnonzero(pairs > 0)
    rows = np.arange(len(costs) + 2 * len(pays))
    columns = np.concatenate([costs, pays, pays]) + bits
    one = np.ones(len(rows))
    tail = rows[: len(costs)]
    matrix = coo_array(
        (
            np.concatenate([one, -one, -one[: len(costs)]]),
            (
                np.concatenate([rows, rows, tail]),
                np.concatenate([columns, first[costs], first[pays], second[pays], second[costs]]),
            ),
        ),
        shape=(len(rows), bits + len(pairs)),
    ).tocsr()
    lower = np.where(rows < len(costs), -1.0, -np.inf)
    upper = np.where(rows < len(costs), np.inf, 0.0)
    ceiling = np.concatenate([(unary > -np.inf).astype(float), (~forbidden).astype(float)])
    result = milp(
        -gain,
        integrality=np.concatenate([np.ones(bits), np.zeros(len(pairs))]),
        bounds=Bounds(0.0, ceiling),
        constraints=LinearConstraint(matrix, lower, upper) if len(rows) else (),
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:
        raise ParserVaeError(f"item {item} of the batch: the mixed-integer solver failed: {result.message}")
    best: NDArray[np.int64] = np.rint(result.x[:bits]).astype(np.int64)
    both = best[first] * best[second] == 1
    value = float(unary[best == 1].sum() + pairs[both].sum())
    _require_proof(item, value, -result.mip_dual_bound * scale, float(np.abs(gain).sum()) * scale)
    return best


def _require_proof(item: int, value: float, bound: float, size: float) -> None:
    if not value >= bound - GAP * size:
        raise ParserVaeError(
            f"item {item} of the batch: the solver found {value} but proves only that the optimum is at most {bound}; "
            "choose another solver"
        )


def _value(unary: NDArray[np.float64], weights: NDArray[np.float64], bits: NDArray[np.int64]) -> tuple[float, float]:
    """Return the score of ``bits`` and the sum of all absolute weights, against which rounding is measured."""
    on = bits == 1
    value = unary[on].sum() + weights[np.ix_(on, on)].sum() / 2
    return float(value), float(np.abs(unary).sum() + np.abs(weights).sum() / 2)


def _symmetric(unary: Tensor, pairs: Tensor) -> Tensor:
    """Return the pair weights as a symmetric matrix ``[batch, n, n]`` with a zero diagonal."""
    batch, bits = unary.shape
    first, second = torch.triu_indices(bits, bits, 1, device=unary.device)
    weights = unary.new_zeros((batch, bits, bits))
    weights[:, first, second] = pairs
    weights[:, second, first] = pairs
    return weights
