"""SparseMAP over trees without leaving compiled code: the active set of ``active_set.py`` around a tree search.

For projective trees several sentences are in work at a time, because the search handles one in each lane of a
register; a sentence that is done makes room for the next.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from parser_vae.structures.kernels.active_set import (
    COUNT,
    OUTCOME,
    REFUSED,
    RUNNING,
    SLOTS,
    Mixtures,
    advance,
    clear,
    enter,
    keep,
    new_places,
    nothing_found,
    padded,
    with_room,
)
from parser_vae.structures.kernels.arborescence import _solve
from parser_vae.structures.kernels.eisner import queue_for, scratch_size, search
from parser_vae.structures.kernels.simd import kernel
from parser_vae.structures.kernels.threads import workspace

_IN_WORK = 16
_OBJECTS_PER_WORD = 1.5


@kernel
def _take_in(
    floats: Any, ints: Any, counters: Any, shape: Any, place: Any, heads: Any, item: Any, scores: Any, rest: Any,
    max_iter: Any, tolerance: Any,
) -> None:  # fmt: skip
    """Add the tree of ``heads [batch, nodes]`` to the active set of its sentence."""
    nodes = heads.shape[1]
    at = item * nodes * nodes
    for slot in range(counters[place, SLOTS]):
        part = heads[item, slot + 1] * nodes + slot + 1
        enter(floats, ints, counters, shape, place, slot, part, scores[at + part])
    advance(floats, ints, counters, shape, place, rest, at, max_iter, tolerance)


@numba.njit(cache=True, nogil=True)
def _solve_all(
    projective: Any, scores: Any, lengths: Any, order: Any, single_root: Any, max_iter: Any, tolerance: Any,
    floats: Any, ints: Any, counters: Any, shape: Any, work: Any, queue: Any, marginals: Any, found: Any,
) -> Any:  # fmt: skip
    """Return the mixtures of all sentences, ``marginals [batch, parts]`` being set; lengths descend in ``order``."""
    batch, nodes, _ = scores.shape
    rest = scores.copy()
    flat, flat_rest = scores.reshape(-1), rest.reshape(-1)
    heads = np.zeros((batch, nodes), np.int64)
    narrow_heads = np.zeros((batch, nodes), np.int32)
    status = np.zeros(batch, np.int8)
    items, places = order[: len(counters)].copy(), np.arange(len(counters))  # of the sentences in work
    for place in places:
        clear(ints, counters, shape, place, lengths[items[place]])
    count, following = len(places), len(places)
    while count > 0:
        if projective:
            search(rest, lengths, items[:count], not single_root, heads, status, work, queue)
        else:
            item = items[0]
            one = slice(item, item + 1)
            _solve(rest[item].reshape(-1), nodes, lengths[one], single_root, narrow_heads[one], status[one])
            heads[item] = narrow_heads[item]
        kept = 0
        for position in range(count):
            item, place = items[position], places[position]
            if status[item] != 0:
                counters[place, OUTCOME] = REFUSED
            else:
                _take_in(floats, ints, counters, shape, place, heads, item, flat, flat_rest, max_iter, tolerance)
            if counters[place, COUNT] == shape[0]:
                floats, ints, shape = with_room(floats, ints, counters, shape)
            if counters[place, OUTCOME] != RUNNING:
                found = keep(floats, ints, counters, shape, place, item, found, marginals)
                continue
            items[position], places[position] = items[kept], places[kept]
            items[kept], places[kept] = item, place
            kept += 1
        while kept < len(places) and following < batch:  # behind the others: the search wants descending lengths
            items[kept] = order[following]
            clear(ints, counters, shape, places[kept], lengths[items[kept]])
            following += 1
            kept += 1
        count = kept
    return found


def sparse_trees(
    projective: bool,
    scores: NDArray[Any],
    lengths: NDArray[np.int64],
    single_root: bool,
    max_iter: int,
    tolerance: float,
) -> tuple[Mixtures, NDArray[Any]]:
    """Return the mixtures of a batch of sentences and their means ``[batch, parts]``, in the dtype of the scores.

    Args:
        projective: Whether the trees are projective, or any.
        scores: ``[batch, head, dependent]``, float32 or float64, C-contiguous; never written.
        lengths: Words of each sentence ``[batch]``.
        single_root: Whether exactly one word must hang from the root.
        max_iter: At most so many iterations a sentence.
        tolerance: By how much a tree must be better than the active ones, relative to their score, to be taken in.
    """
    batch, nodes, _ = scores.shape
    shape = padded(int(_OBJECTS_PER_WORD * nodes), nodes - 1, nodes * nodes)
    places = new_places(min(_IN_WORK, batch) if projective else min(1, batch), shape)
    marginals = np.zeros((batch, nodes * nodes), scores.dtype)
    order = np.argsort(-lengths, kind="stable")
    work = workspace(scores.dtype, scratch_size(nodes, scores.itemsize))
    found: Mixtures = _solve_all(
        projective, scores, lengths, order, single_root, max_iter, tolerance, *places, shape, work,
        queue_for(nodes), marginals, nothing_found(batch, nodes - 1),
    )  # fmt: skip
    return found, marginals
