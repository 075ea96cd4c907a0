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
from parser_vae.structures.kernels.threads import for_each_share

OK, INFEASIBLE, INVALID, INEXACT = 0, 1, 2, 3
"""Status of a sentence: solved; ``-inf`` forbids every tree; NaN or +inf among the scores; float64 too coarse."""

_LANES = 16
_ROOT = -1
_TOLERANCE = 1e-9
_FRESH, _ON_PATH, _DONE = 0, 1, 2
# "ninf" is not among the liberties given to the compiler: -inf means forbidden.
_FAST = {"nnan", "nsz"}


@njit(cache=True, boundscheck=False)
def _pick_heads(scores, start, nodes, words, best, head, suspect):  # type: ignore[no-untyped-def]
    """Set ``best`` and ``head`` of every word over all other words; both are 0-based. Mark columns with NaN or +inf.

    Columns go in whole blocks of lanes; what lies beyond the sentence is computed and never used. Only at the very
    end of the batch, where such a block would leave the array, is the exact width taken.
    """
    one, lanes = uint64(1), uint64(_LANES)
    width = (words + lanes - one) // lanes * lanes
    if start + words * nodes + one + width > uint64(scores.size):
        width = words
    for column in range(width):
        best[column] = -np.inf
        head[column] = -1
        suspect[column] = 0
    for row in range(words):
        base = start + (row + one) * nodes + one
        for column in range(width):
            value = scores[base + column]
            other = column != row
            better = other & (value > best[column])
            best[column] = value if better else best[column]
            head[column] = np.int32(row) if better else head[column]
            suspect[column] |= np.int32(other & (not (value < np.inf)))


@njit(cache=True, boundscheck=False)
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


@njit(cache=True, fastmath=_FAST, boundscheck=False)
def _meld_pair(out, at, left, left_at, left_loss, right, right_at, right_loss, label, own, width):  # type: ignore[no-untyped-def]
    """Return the maximum of row ``out``: the better of two adjusted rows, forbidden where ``label`` is ``own``."""
    top = -np.inf
    for h in range(width):
        value = max(left[left_at + h] - left_loss, right[right_at + h] - right_loss)
        value = -np.inf if label[h] == own else value
        out[at + h] = value
        top = max(top, value)
    return top


@njit(cache=True, fastmath=_FAST, boundscheck=False)
def _meld_more(out, at, row, row_at, loss, label, own, width):  # type: ignore[no-untyped-def]
    """Return the maximum of row ``out`` after another adjusted row was melded into it."""
    top = -np.inf
    for h in range(width):
        value = max(out[at + h], row[row_at + h] - loss)
        value = -np.inf if label[h] == own else value
        out[at + h] = value
        top = max(top, value)
    return top


@njit(cache=True, boundscheck=False)
def _find(row, at, value, width):  # type: ignore[no-untyped-def]
    """Return the first position of ``value`` in a row."""
    place = np.int32(1 << 30)
    for h in range(width):
        place = min(place, np.int32(h) if row[at + h] == value else np.int32(1 << 30))
    return np.int64(place)


@njit(cache=True, boundscheck=False)
def _relabel(label, old, new, width):  # type: ignore[no-untyped-def]
    for h in range(width):
        label[h] = new if label[h] == old else label[h]


@njit(cache=True, boundscheck=False)
def _load(scores, start, nodes, words, word, column):  # type: ignore[no-untyped-def]
    """Copy the scores of every word as head of ``word`` to ``column``, whose padding is -inf already."""
    base = start + nodes + uint64(1) + uint64(word)
    for h in range(words):
        column[h] = scores[base + h * nodes]


@njit(cache=True, boundscheck=False)
def _contract(scores, start, nodes, words, single, best, head, rows, floats, ints, label, columns):  # type: ignore[no-untyped-def]
    """Return the status after setting ``head`` (0-based, root -1) of every word to the best arborescence.

    Nodes ``0 .. n-1`` are the words, ``n`` and above the contracted ones, the latter with rows in ``rows``.
    """
    n = np.int64(words)
    one, lanes = uint64(1), uint64(_LANES)
    width = (words + lanes - one) // lanes * lanes
    loss, root = floats[0], floats[1]  # the score of the node's pick; its best score under the root
    pick, parent, child, sibling = ints[0], ints[1], ints[2], ints[3]
    state, node_of, name, path = ints[4], ints[5], ints[6], ints[7]
    for word in range(n):
        root[word] = scores[start + one + uint64(word)]
        loss[word] = best[word]
        pick[word] = head[word]
        if root[word] > loss[word] and not (single and loss[word] > -np.inf):
            loss[word] = root[word]
            pick[word] = _ROOT
        elif loss[word] == -np.inf:
            return INFEASIBLE
        state[word] = _FRESH
        node_of[word] = word
        name[word] = word
        label[word] = word
    for h in range(words, width):
        label[h] = -1
        columns[0][h] = -np.inf
        columns[1][h] = -np.inf
    fresh = n
    for first in range(n):
        node = node_of[label[first]]
        if state[node] == _DONE:
            continue
        depth = 0
        while True:
            path[depth] = node
            depth += 1
            state[node] = _ON_PATH
            below = node_of[label[pick[node]]] if pick[node] != _ROOT else _ROOT
            if below == _ROOT or state[below] == _DONE:
                for step in range(depth):
                    state[path[step]] = _DONE
                break
            if state[below] == _FRESH:
                node = below
                continue
            # The path has closed a cycle at ``below``: contract its members to ``fresh``.
            member = path[depth - 1]
            own = name[member]
            step = depth - 1
            while path[step] != below:
                step -= 1
                _relabel(label, name[path[step]], own, width)
            at = uint64(fresh - n) * width
            depth -= 2
            other = path[depth]
            left, left_at = rows, uint64(max(member - n, 0)) * width
            if member < n:
                left, left_at = columns[0], uint64(0)
                _load(scores, start, nodes, words, member, left)
            right, right_at = rows, uint64(max(other - n, 0)) * width
            if other < n:
                right, right_at = columns[1], uint64(0)
                _load(scores, start, nodes, words, other, right)
            top = _meld_pair(rows, at, left, left_at, loss[member], right, right_at, loss[other], label, own, width)
            under_root = max(root[member] - loss[member], root[other] - loss[other])
            parent[member] = fresh
            parent[other] = fresh
            child[fresh] = other
            sibling[other] = member
            sibling[member] = -1
            while other != below:
                depth -= 1
                other = path[depth]
                right, right_at = rows, uint64(max(other - n, 0)) * width
                if other < n:
                    right, right_at = columns[1], uint64(0)
                    _load(scores, start, nodes, words, other, right)
                top = _meld_more(rows, at, right, right_at, loss[other], label, own, width)
                under_root = max(under_root, root[other] - loss[other])
                parent[other] = fresh
                sibling[other] = child[fresh]
                child[fresh] = other
            root[fresh] = under_root
            if under_root > top and not (single and top > -np.inf):
                loss[fresh] = under_root
                pick[fresh] = _ROOT
            elif top == -np.inf:
                return INFEASIBLE
            else:
                loss[fresh] = top
                pick[fresh] = _find(rows, at, top, width)
            state[fresh] = _FRESH
            node_of[own] = fresh
            name[fresh] = own
            node = fresh
            fresh += 1
    # Trace each entering arc down to the word it enters; the nodes it passes give up their own picks.
    for word in range(n):
        head[word] = pick[word]
    for node in range(fresh):
        state[node] = _FRESH
    for top_node in range(fresh - 1, n - 1, -1):
        if state[top_node] == _DONE:
            continue
        source = pick[top_node]
        value = loss[top_node]
        node = np.int64(top_node)
        while node >= n:
            member = np.int64(child[node])
            while True:
                if source == _ROOT:
                    inside = root[member]
                elif member < n:
                    inside = np.float64(scores[start + uint64(source + 1) * nodes + one + uint64(member)])
                else:
                    inside = rows[uint64(member - n) * width + uint64(source)]
                if inside - loss[member] == value or sibling[member] == -1:
                    break
                member = np.int64(sibling[member])
            state[member] = _DONE
            value = inside
            node = member
        head[node] = source
    roots, kept, given_up = 0, 0.0, 0.0
    for word in range(n):
        roots += head[word] == _ROOT
        kept = max(kept, abs(scores[start + uint64(head[word] + 1) * nodes + one + uint64(word)]))
    if single and roots != 1:
        return INFEASIBLE
    for node in range(n, fresh):
        given_up = max(given_up, abs(loss[node]))
    return INEXACT if given_up * n * 2.0**-52 > _TOLERANCE * kept else OK


@njit(cache=True, nogil=True, boundscheck=False)
def _solve(scores, nodes, lengths, single, heads, status):  # type: ignore[no-untyped-def]
    """Set ``heads [batch, nodes]`` (int32) to the best arborescence of each sentence, and ``status [batch]`` (int8).

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
    suspect = np.empty(size, np.int32)
    label = np.empty(size, np.int32)
    mark = np.empty(size, np.int32)
    columns = (np.empty(size, np.float64), np.empty(size, np.float64))
    rows = np.empty(size * size, np.float64)
    floats = np.empty((2, 2 * size), np.float64)
    ints = np.empty((8, 2 * size), np.int64)
    stride = uint64(nodes)
    for item in range(lengths.size):
        words = uint64(lengths[item])
        start = uint64(item) * stride * stride
        _pick_heads(scores, start, stride, words, best, head, suspect)
        roots, invalid, forbidden = 0, 0, 0
        for word in range(words):
            value = scores[start + one + word]
            invalid += suspect[word] + np.int32(not (value < np.inf))
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
                verdict = _contract(
                    scores, start, stride, words, single, best, head, rows, floats, ints, label, columns
                )
        status[item] = verdict
        heads[item, 0] = 0
        for word in range(words):
            heads[item, word + one] = head[word] + 1
        for node in range(words + one, stride):
            heads[item, node] = 0


def best_arborescences(
    scores: NDArray[np.floating[Any]], lengths: NDArray[np.integer[Any]], single_root: bool
) -> NDArray[np.int32]:
    """Return the heads ``[batch, nodes]`` of the best arborescence of every sentence, without any torch.

    Which of several best trees is returned is unspecified, but always the same. The score of the tree is within 1e-9
    of the optimum, relative to the largest score among its arcs; finite scores may be up to 1e300 in size.

    Args:
        scores: ``[batch, head, dependent]``, float32 or float64; never written to.
        lengths: Words of each sentence ``[batch]``.
        single_root: Whether exactly one word must hang from the root.

    Raises:
        InfeasibleError: The scores of a sentence forbid every tree, or hold NaN or +inf.
        ValueError: A length is negative or exceeds the padded size.
    """
    batch, nodes, _ = scores.shape
    if batch and not (lengths.min() >= 0 and lengths.max() < nodes):
        raise ValueError(f"lengths must lie in 0 .. {nodes - 1}, got {lengths.min()} .. {lengths.max()}")
    flat = np.ascontiguousarray(scores).reshape(batch, -1)
    sizes = np.ascontiguousarray(lengths, dtype=np.int64)
    heads = np.empty((batch, nodes), np.int32)
    status = np.empty(batch, np.int8)

    def share(first: int, last: int) -> None:
        part = slice(first, last)
        _solve(flat[part].reshape(-1), nodes, sizes[part], single_root, heads[part], status[part])

    for_each_share(share, sizes.astype(np.float64) ** 2)
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
