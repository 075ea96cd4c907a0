"""SparseMAP over trees without leaving compiled code: the active set of ``active_set.py`` around a tree search.

Several sentences are in work at a time, because the projective search handles one in each lane of a register; a
sentence that is done makes room for the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from parser_vae.structures.kernels.active_set import REFUSED, RUNNING, State, advance, new_state, with_room
from parser_vae.structures.kernels.arborescence import _solve
from parser_vae.structures.kernels.eisner import _TABLES, _eisner
from parser_vae.structures.kernels.layout import table_size
from parser_vae.structures.kernels.threads import workspace

_IN_FLIGHT = 16
_OBJECTS_PER_WORD = 1.5


@numba.njit(cache=True, nogil=True)
def _search_projective(
    scores: Any, lengths: Any, items: Any, single_root: Any, heads: Any, status: Any, work: Any
) -> None:
    _eisner(scores, lengths, items, not single_root, heads, status, work)


@numba.njit(cache=True, nogil=True)
def _search_spanning(
    scores: Any, lengths: Any, items: Any, single_root: Any, heads: Any, status: Any, work: Any
) -> None:
    nodes = scores.shape[1]
    for item in items:
        one = slice(item, item + 1)
        _solve(scores[item].reshape(-1), nodes, lengths[one], single_root, heads[one], status[one])


def _driver(search: Callable[..., None]) -> Callable[..., Any]:
    """Return the compiled loop that alternates ``search`` and ``advance`` until every sentence is done."""

    @numba.njit(cache=True, nogil=True)
    def drive(
        scores: Any, lengths: Any, order: Any, single_root: Any, max_iter: Any, tolerance: Any, state: Any, work: Any
    ) -> Any:
        batch, nodes, _ = scores.shape
        flat = scores.reshape(batch, nodes * nodes)
        rest = scores.copy()
        flat_rest = rest.reshape(batch, nodes * nodes)
        heads = np.zeros((batch, nodes), np.int32)
        status = np.zeros(batch, np.int8)
        running = np.empty(min(_IN_FLIGHT, batch), np.int64)
        count, following = 0, 0
        while True:
            while count < len(running) and following < batch:
                running[count] = order[following]
                count += 1
                following += 1
            if count == 0:
                return state
            search(rest, lengths, running[:count], single_root, heads, status, work)
            kept = 0
            for position in range(count):
                item = running[position]
                if status[item] != 0:
                    state[8][item] = REFUSED
                    continue
                objects, marginals, counts, outcome = state[0], state[5], state[6], state[8]
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
            count = kept

    compiled: Callable[..., Any] = drive
    return compiled


_drive_projective = _driver(_search_projective)
_drive_spanning = _driver(_search_spanning)


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
    work = workspace(scores.dtype, _TABLES * table_size(nodes, scores.itemsize) + 64)
    drive = _drive_projective if projective else _drive_spanning
    final: State = drive(scores, lengths, order, single_root, max_iter, tolerance, state, work)
    return final
