"""Maximum spanning arborescences of whole batches, compiled: Chu-Liu-Edmonds by dense contraction, O(n^2) a sentence.

One sentence is solved in three steps. (1) Every word picks its best head among the words; the root then competes with
that pick. If the picks form a tree (with one root word, where that is asked), they are the answer. (2) Otherwise
paths of picks are grown; a cycle is contracted to one node, whose in-arcs are the best of its members' after
subtracting from each what it loses by giving up its pick. Every contracted node gets a row of its own, so no row is
overwritten. (3) From the last contraction to the first, the arc that enters a node is traced to the word it enters, by
looking again for the member whose adjusted score is the maximum: O(n) in all, and no table of targets is kept.

A single root is exact, without large penalties: a node picks the root only where no word is left to pick. This is the
lexicographic order (fewest root words, then best score): no cycle contains the root, so subtraction never changes the
first component. Contractions are float64 whatever the scores are.

Loops run over unsigned indices: with signed ones numba keeps a wrap-around test that stops vectorisation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from parser_vae.errors import InfeasibleError
from parser_vae.structures.kernels.exact_arborescence import exact_arborescence
from parser_vae.structures.kernels.simd import kernel
from parser_vae.structures.kernels.threads import for_each_share

MISFIT, OK, INFEASIBLE, INVALID, INEXACT = -1, 0, 1, 2, 3
"""Status of a sentence: longer than its scores; solved; ``-inf`` forbids every tree; NaN or +inf among the scores;
float64 too coarse."""

_LANES = 16
_ROOT = -1
_TOLERANCE = 1e-9
_FRESH, _ON_PATH, _DONE = 0, 1, 2
# Rows of the work arrays: of each node what its pick is worth and its best score under the root; its pick, its place
# among the contracted, its state and its label; of each label the node that holds it; and the path being grown.
_LOSS, _UNDER_ROOT = 0, 1
_PICK, _CHILD, _SIBLING, _STATE, _LABEL, _HOLDER, _PATH = 0, 1, 2, 3, 4, 5, 6
# "ninf" is not among the liberties given to the compiler: -inf means forbidden.
_FAST = {"nnan", "nsz"}


@kernel
def _pick_heads(scores, start, nodes, words, best, head, check):  # type: ignore[no-untyped-def]
    """Set ``best`` and ``head`` of every word over all other words, both counted from 0.

    Four rows are taken at a time, the last one again where they run out. Columns go in whole blocks of lanes; what
    lies beyond the sentence is computed and never used. Only at the very end of the batch, where such a block would
    leave the array, is the exact width taken. ``check`` becomes NaN where a column holds NaN or +inf: it is the sum of
    the column, in which the word itself counts as -inf.
    """
    one, lanes = uint64(1), uint64(_LANES)
    width = (words + lanes - one) // lanes * lanes
    if start + words * nodes + one + width > uint64(scores.size):
        width = words
    low = scores.dtype.type(-np.inf)
    for column in range(width):
        best[column] = low
        head[column] = -1
        check[column] = 0
    last = words - one
    first = start + nodes + one
    for row in range(uint64(0), words, uint64(4)):
        row1, row2, row3 = min(row + one, last), min(row + uint64(2), last), min(row + uint64(3), last)
        at0, at1, at2, at3 = first + row * nodes, first + row1 * nodes, first + row2 * nodes, first + row3 * nodes
        for column in range(width):
            value0 = scores[at0 + column] if column != row else low
            value1 = scores[at1 + column] if column != row1 else low
            value2 = scores[at2 + column] if column != row2 else low
            value3 = scores[at3 + column] if column != row3 else low
            check[column] += (value0 + value1) + (value2 + value3)
            later = value1 > value0
            left, left_row = (value1, np.int32(row1)) if later else (value0, np.int32(row))
            later = value3 > value2
            right, right_row = (value3, np.int32(row3)) if later else (value2, np.int32(row2))
            if right > left:
                left, left_row = right, right_row
            better = left > best[column]
            best[column] = left if better else best[column]
            head[column] = left_row if better else head[column]


@kernel
def _is_tree(head, words, mark):  # type: ignore[no-untyped-def]
    """Return whether following ``head`` from every word ends at the root."""
    for word in range(words):
        mark[word] = -1
    for word in range(words):
        node = np.int64(word)
        while node != _ROOT and mark[node] == -1:
            mark[node] = word
            node = head[node]
        # A node met on this very walk closes a cycle; one of an earlier walk leads to the root.
        if node != _ROOT and mark[node] == word:
            return False
    return True


@kernel(fastmath=_FAST)
def _meld(rows, out, left, left_loss, right, right_loss, label, own, width):  # type: ignore[no-untyped-def]
    """Return the maximum of the row at ``out``, the better of two adjusted rows; -inf where ``label`` is ``own``."""
    top = -np.inf
    for h in range(width):
        value = max(rows[left + h] - left_loss, rows[right + h] - right_loss)
        value = -np.inf if label[h] == own else value
        rows[out + h] = value
        top = max(top, value)
    return top


@kernel
def _find(rows, at, value, width):  # type: ignore[no-untyped-def]
    """Return the first position of ``value`` in a row."""
    place = np.int32(1 << 30)
    for h in range(width):
        place = min(place, np.int32(h) if rows[at + h] == value else np.int32(1 << 30))
    return np.int64(place)


@kernel
def _relabel(label, old, new, width):  # type: ignore[no-untyped-def]
    for h in range(width):
        label[h] = new if label[h] == old else label[h]


@kernel
def _row_of(node, scores, start, nodes, words, rows, width, spare):  # type: ignore[no-untyped-def]
    """Return where the row of ``node`` begins; that of a word is first gathered from its column to ``spare``."""
    if node >= np.int64(words):
        return uint64(node - np.int64(words)) * width
    base = start + nodes + uint64(1) + uint64(node)
    for h in range(words):
        rows[spare + h] = scores[base + h * nodes]
    return spare


@kernel
def _contract(scores, start, nodes, words, single, best, head, rows, floats, ints, label):  # type: ignore[no-untyped-def]
    """Return the status after setting ``head`` (0-based, root -1) of every word to the best arborescence.

    Nodes ``0 .. n-1`` are the words, ``n`` and above the contracted ones; the latter have rows in ``rows``, whose end
    has room for two gathered columns.
    """
    n = np.int64(words)
    one, lanes = uint64(1), uint64(_LANES)
    width = (words + lanes - one) // lanes * lanes
    spare = words * width
    for word in range(n):
        root = np.float64(scores[start + one + uint64(word)])
        top = np.float64(best[word])
        floats[_UNDER_ROOT, word] = root
        if root > top and not (single and top > -np.inf):
            floats[_LOSS, word] = root
            ints[_PICK, word] = _ROOT
        elif top == -np.inf:
            return INFEASIBLE
        else:
            floats[_LOSS, word] = top
            ints[_PICK, word] = head[word]
        ints[_STATE, word] = _FRESH
        ints[_HOLDER, word] = word
        ints[_LABEL, word] = word
        label[word] = word
    for h in range(words, width):
        label[h] = -1
        rows[spare + h] = -np.inf
        rows[spare + width + h] = -np.inf
    fresh = n
    for first in range(n):
        node = ints[_HOLDER, label[first]]
        if ints[_STATE, node] == _DONE:
            continue
        depth = 0
        while True:
            ints[_PATH, depth] = node
            depth += 1
            ints[_STATE, node] = _ON_PATH
            source = ints[_PICK, node]
            below = _ROOT if source == _ROOT else ints[_HOLDER, label[source]]
            if below == _ROOT or ints[_STATE, below] == _DONE:
                for step in range(depth):
                    ints[_STATE, ints[_PATH, step]] = _DONE
                break
            if ints[_STATE, below] == _FRESH:
                node = below
                continue
            # The path has closed a cycle at ``below``: contract its members to ``fresh``.
            own = ints[_LABEL, node]
            step = depth - 1
            while ints[_PATH, step] != below:
                step -= 1
                _relabel(label, ints[_LABEL, ints[_PATH, step]], own, width)
            out = uint64(fresh - n) * width
            row = _row_of(node, scores, start, nodes, words, rows, width, spare)
            loss = floats[_LOSS, node]
            under_root = floats[_UNDER_ROOT, node] - loss
            top = np.float64(-np.inf)
            ints[_SIBLING, node] = -1
            depth -= 1
            while node != below:
                child = node
                depth -= 1
                node = ints[_PATH, depth]
                other = _row_of(node, scores, start, nodes, words, rows, width, spare + width)
                other_loss = floats[_LOSS, node]
                top = _meld(rows, out, row, loss, other, other_loss, label, own, width)
                row, loss = out, np.float64(0.0)
                under_root = max(under_root, floats[_UNDER_ROOT, node] - other_loss)
                ints[_SIBLING, node] = child
            ints[_CHILD, fresh] = node
            floats[_UNDER_ROOT, fresh] = under_root
            if under_root > top and not (single and top > -np.inf):
                floats[_LOSS, fresh] = under_root
                ints[_PICK, fresh] = _ROOT
            elif top == -np.inf:
                return INFEASIBLE
            else:
                floats[_LOSS, fresh] = top
                ints[_PICK, fresh] = _find(rows, out, top, width)
            ints[_HOLDER, own] = fresh
            ints[_LABEL, fresh] = own
            node = fresh
            fresh += 1
    # Trace each entering arc down to the word it enters; the nodes it passes give up their own picks.
    for node in range(fresh):
        ints[_STATE, node] = _FRESH
    for outer in range(fresh - 1, n - 1, -1):
        if ints[_STATE, outer] == _DONE:
            continue
        source = ints[_PICK, outer]
        value = floats[_LOSS, outer]
        node = np.int64(outer)
        while node >= n:
            node = ints[_CHILD, node]
            while True:
                if source == _ROOT:
                    inside = floats[_UNDER_ROOT, node]
                elif node < n:
                    inside = np.float64(scores[start + uint64(source + 1) * nodes + one + uint64(node)])
                else:
                    inside = rows[uint64(node - n) * width + uint64(source)]
                if inside - floats[_LOSS, node] == value or ints[_SIBLING, node] == -1:
                    break
                node = ints[_SIBLING, node]
            ints[_STATE, node] = _DONE
            value = inside
        ints[_PICK, node] = source
    roots, kept, given_up = 0, 0.0, 0.0
    for word in range(n):
        source = ints[_PICK, word]
        head[word] = source
        roots += source == _ROOT
        kept = max(kept, abs(np.float64(scores[start + uint64(source + 1) * nodes + one + uint64(word)])))
    if single and roots != 1:
        return INFEASIBLE
    for node in range(n, fresh):
        given_up = max(given_up, abs(floats[_LOSS, node]))
    return INEXACT if given_up * n * 2.0**-52 > _TOLERANCE * kept else OK


@njit(cache=True, nogil=True, boundscheck=False)
def _solve(scores, nodes, lengths, single, heads, status):  # type: ignore[no-untyped-def]
    """Return whether every ``status [batch]`` is ``OK``, after setting it and ``heads [batch, nodes]`` (int32).

    Args:
        scores: Arc scores ``[batch * nodes * nodes]``, flat and contiguous, ``[head, dependent]`` within a sentence;
            float32 or float64; never written to.
        nodes: Nodes of the padded sentence, the root included.
        lengths: Words of each sentence ``[batch]`` (int64).
        single: Whether exactly one word must hang from the root.
        heads: Output; 0 at the root's slot and at padding.
        status: Output; the heads are meaningful only where it is ``OK``.
    """
    one, lanes = uint64(1), uint64(_LANES)
    size = (uint64(nodes) + lanes - one) // lanes * lanes
    best = np.empty(size, scores.dtype)
    head = np.empty(size, np.int32)
    check = np.empty(size, scores.dtype)
    label = np.empty(size, np.int32)
    mark = np.empty(size, np.int32)
    rows = np.empty((size + lanes) * size, np.float64)
    floats = np.empty((2, 2 * size), np.float64)
    ints = np.empty((7, 2 * size), np.int64)
    stride = uint64(nodes)
    solved = True
    for item in range(lengths.size):
        if lengths[item] < 0 or lengths[item] >= nodes:
            status[item] = MISFIT
            solved = False
            continue
        words = uint64(lengths[item])
        start = uint64(item) * stride * stride
        _pick_heads(scores, start, stride, words, best, head, check)
        roots, invalid, forbidden = 0, 0, 0
        for word in range(words):
            value = scores[start + one + word]
            invalid += (check[word] != check[word]) | (not (value < np.inf))
            wins = value > best[word]
            roots += wins
            mark[word] = -1 if wins else head[word]
            forbidden += (not wins) & (head[word] < 0)
        verdict = OK
        if invalid:
            verdict = INVALID
        elif forbidden:
            verdict = INFEASIBLE
        elif words:
            greedy = roots == 1 or (roots > 1 and not single)
            if greedy:
                greedy = _is_tree(mark, words, label)
            if greedy:
                for word in range(words):
                    head[word] = mark[word]
            else:
                verdict = _contract(scores, start, stride, words, single, best, head, rows, floats, ints, label)
        status[item] = verdict
        solved &= verdict == OK
        heads[item, 0] = 0
        for word in range(words):
            heads[item, word + one] = head[word] + 1
        for node in range(words + one, stride):
            heads[item, node] = 0
    return solved


def best_arborescences(
    scores: NDArray[np.floating[Any]], lengths: NDArray[np.integer[Any]], single_root: bool
) -> NDArray[np.int32]:
    """Return the heads ``[batch, nodes]`` of the best arborescence of every sentence, without any torch.

    Which of several best trees is returned is unspecified, but always the same. The score of the tree is within 1e-9
    of the optimum, relative to the largest score among its arcs; sums of n finite scores must not overflow.

    Args:
        scores: ``[batch, head, dependent]``, float32 or float64; never written to.
        lengths: Words of each sentence ``[batch]``.
        single_root: Whether exactly one word must hang from the root.

    Raises:
        InfeasibleError: The scores of a sentence forbid every tree, or hold NaN or +inf.
        ValueError: A length is negative or exceeds the padded size.
    """
    batch, nodes, _ = scores.shape
    flat = np.ascontiguousarray(scores).reshape(-1)
    sizes = np.ascontiguousarray(lengths, dtype=np.int64)
    heads = np.empty((batch, nodes), np.int32)
    status = np.empty(batch, np.int8)
    area = nodes * nodes

    def share(first: int, last: int) -> bool:
        part = slice(first, last)
        return bool(
            _solve(flat[first * area : last * area], nodes, sizes[part], single_root, heads[part], status[part])
        )

    if for_each_share(share, batch, lambda: sizes.astype(np.float64) ** 2):
        return heads
    if status.min() == MISFIT:
        raise ValueError(f"lengths must lie in 0 .. {nodes - 1}, got {sizes.min()} .. {sizes.max()}")
    for item in np.flatnonzero(status == INEXACT):
        size = sizes[item] + 1
        heads[item, :size] = exact_arborescence(scores[item, :size, :size], single_root)
        status[item] = OK
    if status.any():
        sentence = int(np.flatnonzero(status)[0])
        if status[sentence] == INVALID:
            raise InfeasibleError(f"sentence {sentence} of the batch: its arc scores hold NaN or +inf")
        roots = "exactly one root word" if single_root else "any number of root words"
        raise InfeasibleError(f"sentence {sentence} of the batch: -inf arc scores forbid every tree with {roots}")
    return heads
