"""Log-partition, marginals and samples of spanning arborescences, compiled: the matrix-tree theorem by elimination.

Koo et al. (2007) take the determinant of a Laplacian and its inverse. Here words are eliminated one by one, as
Grassmann, Taksar and Heyman (1985) do for Markov chains: taking out word ``k`` gives
``w(h, m) += w(h, k) w(k, m) / d(k)`` where ``d(k)`` is the sum of the weights that enter ``k`` from what is left, and Z
is the product of all ``d``. Nothing is ever subtracted, so Z is accurate to a few units in the last place, however
badly the Laplacian is conditioned, and no pivoting is needed. For a single root, the root's weights are infinitesimal:
they enter no ``d`` but the last word's.

Marginals are weights times the derivatives of log Z, found by putting the words back in the opposite order. This does
subtract, but terms that are, times their weight, at most n: the absolute error of a marginal stays near n units in
the last place. What float32 can miss is range: a weight below e^-87 times the largest of its column is lost. ``reach``
tells the caller how far Z is below the product of the column sums, and so whether lost weights could have mattered.

Samples come from the same elimination: a tree over the words put back so far is extended by the next word, in O(n^2)
for a tree whatever the scores. Wilson's (1996) random walks, in contrast, take exponentially long to leave two words
that prefer each other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from parser_vae.structures.kernels.simd import exponential, kernel, lanes_of, load, spread, store, total
from parser_vae.structures.kernels.threads import for_each_share

_LANES = 16
_ROOT = -1


@kernel
def _load(scores, start, nodes, words, first, single, weights, ld, shift, sums, exponent):  # type: ignore[no-untyped-def]
    """Return the logarithm taken out of ``weights``, which become ``exp(score)`` over the largest of their column.

    Row ``words`` is the root's. Words 0 and ``first`` change places. ``sums`` gets the sum of each column. The result
    is NaN if a score is NaN or +inf.
    """
    n = np.int64(words)
    one = uint64(1)
    valid = True
    for m in range(n):
        root = np.float64(scores[start + one + uint64(m)])
        shift[m] = -np.inf if single else root
        valid = valid and bool(root < np.inf)
    for h in range(n):
        base = start + uint64(h + 1) * nodes + one
        for m in range(n):
            value = np.float64(scores[base + uint64(m)])
            if m != h:
                shift[m] = max(shift[m], value)
                valid = valid and bool(value < np.inf)
    if not valid:
        return np.nan
    taken, root_shift = 0.0, -np.inf
    for m in range(n):
        shift[m] = shift[m] if shift[m] > -np.inf else 0.0
        taken += shift[m]
        root_shift = max(root_shift, scores[start + one + uint64(m)] - shift[m])
    if not single or root_shift == -np.inf:
        root_shift = 0.0
    for m in range(ld):
        sums[m] = 0.0
    for h in range(n + 1):
        base = start + (uint64(h + 1) if h < n else uint64(0)) * nodes + one
        lower = 0.0 if h < n else root_shift
        for m in range(n):
            exponent[m] = scores[base + uint64(m)] - shift[m] - lower
        for m in range(n, ld):
            exponent[m] = -np.inf
        if h < n:
            exponent[h] = -np.inf
        for m in range(0, ld, lanes_of(exponent)):
            store(exponent, m, exponential(exponent, load(exponent, m)))
        row = first if h == 0 else (0 if h == first else h)
        exponent[0], exponent[first] = exponent[first], exponent[0]
        at = uint64(row) * ld
        for m in range(ld):
            weights[at + m] = exponent[m]
            sums[m] += exponent[m]
    return taken + root_shift


@njit(cache=True, inline="always")
def _add_row(weights, at, row, factor, width):  # type: ignore[no-untyped-def]
    scale = spread(weights, factor)
    for m in range(0, width, lanes_of(weights)):
        store(weights, at + m, load(weights, at + m) + scale * load(weights, row + m))


@kernel
def _eliminate(weights, ld, words, single, chance, inflow):  # type: ignore[no-untyped-def]
    """Return the log-determinant after taking out all words, last to first; row ``k`` stays as it was at its turn.

    ``chance[k, h]`` becomes the share of ``w(h, k)`` in ``inflow[k] = d(k)``, the root's at ``h = words``.
    """
    one, lanes = uint64(1), uint64(_LANES)
    root = words * ld
    product, total = 1.0, 0.0
    for step in range(words):
        k = words - one - step
        share = k * ld
        root_weight = weights[root + k]
        entering = root_weight * 0
        for h in range(k):
            weight = weights[h * ld + k]
            chance[share + h] = weight
            entering += weight
        if k == 0 or not single:
            entering += root_weight
        if not (entering > 0):
            return -np.inf
        inflow[k] = entering
        scale = 1 / entering
        width = (k + lanes - one) // lanes * lanes
        for h in range(k):
            chance[share + h] *= scale
            _add_row(weights, h * ld, share, chance[share + h], width)
        chance[share + words] = root_weight * scale
        _add_row(weights, root, share, root_weight * scale, width)
        product *= np.float64(entering)
        if not (1e-200 < product < 1e200):
            total += math.log(product)
            product = 1.0
    return total + math.log(product)


@njit(cache=True, inline="always")
def _row_and_column(slopes, at, collected, factor, outgoing, width):  # type: ignore[no-untyped-def]
    """Add ``factor`` times a row of ``slopes`` to ``collected``; return the product of the row with ``outgoing``."""
    scale = spread(slopes, factor)
    product = spread(slopes, 0.0)
    for m in range(0, width, lanes_of(slopes)):
        slope = load(slopes, at + m)
        store(collected, m, load(collected, m) + scale * slope)
        product = product + slope * load(outgoing, m)
    return total(product)


@kernel
def _differentiate(weights, ld, words, single, chance, inflow, slopes, collected, outgoing, products):  # type: ignore[no-untyped-def]
    """Set ``slopes[h, m]`` to the derivative of log Z by the weight of each arc; words come back first to last."""
    one, lanes = uint64(1), uint64(_LANES)
    root = words * ld
    for place in range((words + one) * ld):
        slopes[place] = 0
    slopes[root] = 1 / inflow[0]
    for k in range(one, words):
        share = k * ld
        width = (k + lanes - one) // lanes * lanes
        scale = 1 / inflow[k]
        for m in range(width):
            collected[m] = 0
            outgoing[m] = weights[share + m] * scale if m < k else 0
        mean = scale * 0
        for h in range(k):
            products[h] = _row_and_column(slopes, h * ld, collected, chance[share + h], outgoing, width)
            mean += chance[share + h] * products[h]
        product = _row_and_column(slopes, root, collected, chance[share + words], outgoing, width)
        mean += chance[share + words] * product
        slopes[root + k] = product if single else scale + (product - mean)
        for m in range(width):
            slopes[share + m] = collected[m] if m < k else 0
        for h in range(k):
            slopes[h * ld + k] = scale + (products[h] - mean)


@njit(cache=True, nogil=True, boundscheck=False)
def _partition(scores, nodes, lengths, first, single, wanted, like, log_z, reach, marginals):  # type: ignore[no-untyped-def]
    """Set ``log_z``, ``reach`` (both ``[batch]``) and, where ``wanted``, ``marginals`` (shaped and flat as ``scores``).

    ``like`` is any array of the type to compute in; ``first [batch]`` the word (from 0) to take out last.
    """
    one, lanes = uint64(1), uint64(_LANES)
    stride = uint64(nodes)
    size = (stride + lanes - one) // lanes * lanes
    weights = np.empty((size + one) * size, like.dtype)
    kept = np.empty((size + one) * size, like.dtype)
    chance = np.empty((size + one) * size, like.dtype)
    slopes = np.empty((size + one) * size, like.dtype)
    inflow, collected = np.empty(size, like.dtype), np.empty(size, like.dtype)
    outgoing, products = np.empty(size, like.dtype), np.empty(size, like.dtype)
    shift, sums, exponent = np.empty(size), np.empty(size), np.empty(size, like.dtype)
    for item in range(lengths.size):
        words = uint64(lengths[item])
        start = uint64(item) * stride * stride
        log_z[item], reach[item] = 0.0, 0.0
        if wanted:
            for place in range(start, start + stride * stride):
                marginals[place] = 0
        if words == 0:
            continue
        ld = (words + lanes) // lanes * lanes
        swap = uint64(first[item])
        taken = _load(scores, start, stride, words, swap, single, weights, ld, shift, sums, exponent)
        if wanted:
            for place in range((words + one) * ld):
                kept[place] = weights[place]
        determinant = _eliminate(weights, ld, words, single, chance, inflow)
        log_z[item] = taken + determinant
        reach[item] = log_z[item] - taken
        for m in range(words):
            reach[item] -= math.log(sums[m]) if sums[m] > 0 else 0.0
        if not wanted or not (determinant > -np.inf):
            continue
        _differentiate(weights, ld, words, single, chance, inflow, slopes, collected, outgoing, products)
        for h in range(words + one):
            at = start + (h + one if h < words else uint64(0)) * stride + one
            row = (swap if h == 0 else (uint64(0) if h == swap else h)) * ld
            for m in range(words):
                marginals[at + m] = kept[row + m] * slopes[row + m]
            marginals[at], marginals[at + swap] = marginals[at + swap], marginals[at]


@kernel
def uniform(state):  # type: ignore[no-untyped-def]
    """Return a number in [0, 1) and step the state of a SplitMix64 generator (Steele et al. 2014)."""
    state[0] += uint64(0x9E3779B97F4A7C15)
    x = state[0]
    x = (x ^ (x >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> uint64(27))) * uint64(0x94D049BB133111EB)
    x = x ^ (x >> uint64(31))
    return np.float64(x >> uint64(11)) * 2.0**-53


@kernel
def _grow_tree(weights, ld, n, single, chance, inflow, state, head, left, mark):  # type: ignore[no-untyped-def]
    """Set ``head`` (root -1) to a random tree: words come back first to last, each into a tree of those before it.

    In the graph without word ``k`` an arc ``h -> m`` stood for itself or for ``h -> k -> m``: which of the two is drawn
    for every arc of the tree. Then ``k`` picks a head that does not descend from its new dependents.
    ``left[m]`` is the weight of the arc that enters ``m``, in the graph of the words put back so far.
    """
    head[0] = _ROOT
    left[0] = inflow[0]
    for k in range(1, n):
        share = k * np.int64(ld)
        taken = 0
        for m in range(k):
            through = chance[share + (head[m] if head[m] != _ROOT else n)] * weights[share + m]
            mark[m] = 0
            if through > 0 and uniform(state) * left[m] < through:
                head[m] = k
                left[m] = weights[share + m]
                mark[m] = 1
                taken += 1
            else:
                left[m] = max(left[m] - through, 0.0)
        # mark: 1 descends from k, 2 does not, 0 unknown.
        total = 0.0
        for m in range(k):
            node = m
            while node != _ROOT and node != k and mark[node] == 0:
                node = head[node]
            below = 2 if node == _ROOT else (1 if node == k else mark[node])
            node = m
            while node != _ROOT and node != k and mark[node] == 0:
                mark[node] = below
                node = head[node]
            if mark[m] == 2:
                total += chance[share + m]
        root_chance = chance[share + n]
        if single:
            root_chance = 0.0
        point = uniform(state) * (total + root_chance)
        pick = _ROOT
        for m in range(k):
            if mark[m] == 2 and chance[share + m] > 0:
                pick = m
                point -= chance[share + m]
                if point < 0:
                    break
        if point >= 0 and root_chance > 0:
            pick = _ROOT
        head[k] = pick
        left[k] = chance[share + (pick if pick != _ROOT else n)] * inflow[k]


@njit(cache=True, nogil=True, boundscheck=False)
def _sample(scores, nodes, lengths, first, single, seeds, heads, reach):  # type: ignore[no-untyped-def]
    """Set ``heads [count, batch, nodes]`` (int32) to trees drawn from ``exp(score)/Z``, one for each of ``seeds``."""
    one, lanes = uint64(1), uint64(_LANES)
    stride = uint64(nodes)
    size = (stride + lanes - one) // lanes * lanes
    weights, chance = np.empty((size + one) * size), np.empty((size + one) * size)
    inflow, shift, sums, exponent = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    head, mark, left = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    state = np.empty(1, np.uint64)
    for item in range(lengths.size):
        words = uint64(lengths[item])
        n = np.int64(words)
        heads[:, item] = 0
        reach[item] = 0.0
        if words == 0:
            continue
        ld = (words + lanes) // lanes * lanes
        swap = np.int64(first[item])
        start = uint64(item) * stride * stride
        reach[item] = 0.0 * _load(
            scores, start, stride, words, uint64(swap), single, weights, ld, shift, sums, exponent
        )
        reach[item] += _eliminate(weights, ld, words, single, chance, inflow)
        for m in range(words):
            reach[item] -= math.log(sums[m]) if sums[m] > 0 else 0.0
        if not (reach[item] > -np.inf):
            continue
        for draw in range(seeds.shape[0]):
            state[0] = seeds[draw, item]
            _grow_tree(weights, ld, n, single, chance, inflow, state, head, left, mark)
            for m in range(n):
                pick = head[m]
                pick = swap if pick == 0 else (0 if pick == swap else pick)
                place = swap if m == 0 else (0 if m == swap else m)
                heads[draw, item, place + 1] = pick + 1


# How far below the product of the column sums Z may lie before a weight lost to underflow could show in the seventh
# (float32) or tenth (float64) digit.
_REACH = {np.dtype(np.float32): -55.0, np.dtype(np.float64): -660.0}


def partition(
    scores: NDArray[np.floating[Any]],
    lengths: NDArray[np.int64],
    first: NDArray[np.int64],
    single_root: bool,
    precision: type[np.floating[Any]],
    wanted: bool,
) -> tuple[NDArray[np.float64], NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """Return log Z ``[batch]``, the marginals shaped as ``scores`` (unset unless ``wanted``), and which can be trusted.

    Args:
        scores: ``[batch, head, dependent]``, contiguous.
        lengths: Words of each sentence ``[batch]``.
        first: The word (counted from 0) of each sentence to take out last; for a single root it must be able to be
            the root word ``[batch]``.
        single_root: Whether exactly one word hangs from the root.
        precision: The type to compute in.
        wanted: Whether marginals are.
    """
    batch, nodes, _ = scores.shape
    log_z, reach = np.empty(batch), np.empty(batch)
    marginals = np.empty_like(scores)
    flat, out = scores.reshape(batch, nodes * nodes), marginals.reshape(batch, nodes * nodes)
    like = np.empty(0, precision)

    def share(begin: int, end: int) -> bool:
        part = slice(begin, end)
        _partition(
            flat[part].reshape(-1),
            nodes,
            lengths[part],
            first[part],
            single_root,
            wanted,
            like,
            log_z[part],
            reach[part],
            out[part].reshape(-1),
        )
        return True

    for_each_share(share, batch, lambda: 0.2 * lengths.astype(np.float64) ** 3)
    return log_z, marginals, reach > _REACH[np.dtype(precision)]


def sample_heads(
    scores: NDArray[np.floating[Any]],
    lengths: NDArray[np.int64],
    first: NDArray[np.int64],
    single_root: bool,
    seeds: NDArray[np.uint64],
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return independent trees as heads ``[count, batch, nodes]``, and which sentences ``[batch]`` can be trusted.

    Arguments are those of ``partition``, and a seed for every tree ``[count, batch]``.
    """
    batch, nodes, _ = scores.shape
    heads, reach = np.empty((len(seeds), batch, nodes), np.int32), np.empty(batch)
    flat = scores.reshape(batch, nodes * nodes)

    def share(begin: int, end: int) -> bool:
        part = slice(begin, end)
        _sample(
            flat[part].reshape(-1),
            nodes,
            lengths[part],
            first[part],
            single_root,
            np.ascontiguousarray(seeds[:, part]),
            heads[:, part],
            reach[part],
        )
        return True

    sizes = lengths.astype(np.float64)
    for_each_share(share, batch, lambda: 0.2 * sizes**3 + 2.0 * len(seeds) * sizes**2)
    return heads, reach > _REACH[np.dtype(np.float64)]
