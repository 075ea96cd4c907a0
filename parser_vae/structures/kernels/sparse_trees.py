"""SparseMAP over trees without leaving compiled code: the active set of ``active_set.py`` around a tree search.

For projective trees several sentences are in work at a time, because the search handles one in each lane of a
register; a sentence that is done makes room for the next.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from parser_vae.structures.kernels.active_set import REFUSED, RUNNING, State, advance, new_state, with_room
from parser_vae.structures.kernels.arborescence import _solve
from parser_vae.structures.kernels.eisner import _TABLES, _eisner
from parser_vae.structures.kernels.layout import table_size
from parser_vae.structures.kernels.threads import workspace

_IN_WORK = 16
_OBJECTS_PER_WORD = 1.5


@numba.njit(cache=True)
def _refill(running: Any, count: Any, following: Any, order: Any) -> Any:
    """Return how many sentences are in work, and the next in line, after free places were taken."""
    while count < len(running) and following < len(order):
        running[count] = order[following]
        count += 1
        following += 1
    return count, following


@numba.njit(cache=True)
def _absorb(
    scores: Any, rest: Any, heads: Any, status: Any, running: Any, lengths: Any, max_iter: Any, tolerance: Any,
    state: Any,
) -> Any:  # fmt: skip
    """Return the number of sentences still in work, moved to the front of ``running``, and the state.

    Every sentence in work takes in its best tree; then ``rest`` is again its scores less its marginals.
    """
    batch, nodes, _ = scores.shape
    flat = scores.reshape(batch, nodes * nodes)
    flat_rest = rest.reshape(batch, nodes * nodes)
    kept = 0
    for position in range(len(running)):
        item = running[position]
        objects, marginals, counts, outcome = state[0], state[5], state[6], state[8]
        if status[item] != 0:
            outcome[item] = REFUSED
            continue
        words = lengths[item]
        last = counts[item]
        for word in range(1, words + 1):
            objects[item, last, word - 1] = heads[item, word] * nodes + word
        advance(state, item, flat[item], max_iter, tolerance)
        if outcome[item] != RUNNING:
            continue
        running[kept] = item
        kept += 1
        # Rows up to the new tree's, so that the arcs of trees dropped just now are renewed as well.
        for x in range(last + 1):
            for slot in range(words):
                part = objects[item, x, slot]
                flat_rest[item, part] = flat[item, part] - marginals[item, part]
        if counts[item] == objects.shape[1]:
            state = with_room(state)
    return kept, state


@numba.njit(cache=True, nogil=True)
def _projective(
    scores: Any, lengths: Any, order: Any, single_root: Any, max_iter: Any, tolerance: Any, state: Any, work: Any
) -> Any:
    rest = scores.copy()
    heads = np.zeros(scores.shape[:2], np.int32)
    status = np.zeros(len(scores), np.int8)
    running = np.empty(min(_IN_WORK, len(scores)), np.int64)
    count, following = _refill(running, 0, 0, order)
    while count > 0:
        now = running[:count]
        for item in now:
            heads[item] = 0  # the search leaves the root's dependent alone
        _eisner(rest, lengths, now, not single_root, heads, status, work)
        kept, state = _absorb(scores, rest, heads, status, now, lengths, max_iter, tolerance, state)
        count, following = _refill(running, kept, following, order)
    return state


@numba.njit(cache=True, nogil=True)
def _spanning(
    scores: Any, lengths: Any, order: Any, single_root: Any, max_iter: Any, tolerance: Any, state: Any
) -> Any:
    rest = scores.copy()
    nodes = scores.shape[1]
    heads = np.zeros(scores.shape[:2], np.int32)
    status = np.zeros(len(scores), np.int8)
    for item in order:
        now = np.full(1, item)
        one = slice(item, item + 1)
        kept = 1
        while kept > 0:
            _solve(rest[item].reshape(-1), nodes, lengths[one], single_root, heads[one], status[one])
            kept, state = _absorb(scores, rest, heads, status, now, lengths, max_iter, tolerance, state)
    return state


def sparse_trees(
    projective: bool,
    scores: NDArray[Any],
    lengths: NDArray[np.int64],
    single_root: bool,
    max_iter: int,
    tolerance: float,
) -> State:
    """Return the final active sets of a batch of sentences; see ``active_set.new_state``.

    Args:
        projective: Whether the trees are projective, or any.
        scores: ``[batch, head, dependent]``, float32 or float64, C-contiguous; never written.
        lengths: Words of each sentence ``[batch]``.
        single_root: Whether exactly one word must hang from the root.
        max_iter: At most so many iterations a sentence.
        tolerance: By how much a tree must be better than the active ones, relative to their score, to be taken in.
    """
    batch, nodes, _ = scores.shape
    state = new_state(batch, nodes - 1, nodes * nodes, max(8, int(_OBJECTS_PER_WORD * nodes)))
    order = np.argsort(-lengths, kind="stable")
    final: State
    if projective:
        work = workspace(scores.dtype, _TABLES * table_size(nodes, scores.itemsize) + 64)
        final = _projective(scores, lengths, order, single_root, max_iter, tolerance, state, work)
    else:
        final = _spanning(scores, lengths, order, single_root, max_iter, tolerance, state)
    return final
