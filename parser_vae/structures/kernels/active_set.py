"""The active-set method for SparseMAP, compiled: one object and a rank-one update at a time.

SparseMAP of ``s`` is ``argmax <s, u> - |u|^2 / 2`` over the convex hull of a structure's objects (Niculae et al.,
2018). The solution is a mixture ``u = sum_t p_t a_t`` of few objects, the active set. Given the set, p solves a linear
system in the Gram matrix of the objects; an object better than all of them under ``s - u`` is then added, and one
whose weight would turn negative is dropped.

The Gram matrix is ``G_xy = <a_x, a_y> + 1``: the 1, a part that every object has, changes nothing on weights that sum
to 1 and makes G invertible as soon as the objects are affinely independent (the empty object included). Its inverse,
and the products of the inverse with the objects' scores and with ones, are updated when an object comes or goes:
O(k^2) a change, where solving anew would take O(k^3).

An object fills a row of slots, each with at most one part. Slots are chosen by the caller so that two objects share a
part only in the same slot (a word's slot holds its arc). A *place* is the memory in which one item is solved; it lists
the parts that its objects have used, so that a slot holds a number in this list and the mean of a mixture is a short
vector. Places lie one after the other in three arrays, ``floats``, ``ints`` and ``counters``, and are as large as
``shape`` says; ``floats`` of objects that are not there are 0 as far as a register reads.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from parser_vae.structures.kernels.simd import count_shared, kernel, load, spread, store, total

Shape = tuple[int, int, int]
"""Objects, slots and parts that a place has room for; see ``padded``."""
Places = tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int64]]
Mixtures = tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]
"""The mixtures of a batch, one object after the other: parts ``[objects, slots]`` (-1: none) and weights ``[objects]``,
both with room to spare; the first object, the objects, the iterations and the outcome of each item ``[batch, 4]``; and
the objects of all items ``[1]``."""

RUNNING, CONVERGED, EXHAUSTED, REFUSED = 0, 1, 2, 3
"""Outcome of an item: not done; optimal; ``max_iter`` reached first; its scores admit no object."""

COUNT, LISTED, SLOTS, ITERATIONS, OUTCOME, REBUILT = 0, 1, 2, 3, 4, 5
"""Counters of a place: objects in the set, parts in the list, slots of an object, iterations spent, the outcome, and
whether the inverse was built anew."""

_VECTORS = 5  # by_score, by_one, weights, gram, combination: one number for each object
_LANES = 8
_BLOCK = 16
_DEPENDENT = 1e-9
_NEGATIVE = -1e-12
_RESIDUAL = 1e-9


def padded(objects: int, slots: int, parts: int) -> Shape:
    """Return the shape of places with room for at least so many objects, slots and parts."""
    return -(-objects // _LANES) * _LANES, -(-slots // _BLOCK) * _BLOCK, -(-parts // _LANES) * _LANES


def new_places(count: int, shape: Shape) -> Places:
    """Return ``count`` places without an object."""
    floats = np.zeros(count * int(_float_size(shape)) + _LANES)
    ints = np.full(count * int(_int_size(shape)), -1, np.int32)
    return floats, ints, np.zeros((count, 6), np.int64)


@numba.njit(cache=True, inline="always")
def _float_size(shape: Any) -> Any:
    return shape[0] * (shape[0] + _VECTORS) + 2 * shape[2]


@numba.njit(cache=True, inline="always")
def _int_size(shape: Any) -> Any:
    return shape[0] * shape[1] + 2 * shape[2]


@numba.njit(cache=True, inline="always")
def _floats_of(shape: Any, place: Any) -> Any:
    """Return where a place has the inverse (by rows), the first vector, the mean, and the listed parts' scores."""
    inverse = place * _float_size(shape)
    vectors = inverse + shape[0] * shape[0]
    mean = vectors + _VECTORS * shape[0]
    return inverse, vectors, mean, mean + shape[2]


@numba.njit(cache=True, inline="always")
def _ints_of(shape: Any, place: Any) -> Any:
    """Return where a place has the objects (by rows), the list of parts, and each part's number in the list or -1."""
    objects = place * _int_size(shape)
    listed = objects + shape[0] * shape[1]
    return objects, listed, listed + shape[2]


@numba.njit(cache=True, nogil=True)
def with_room(floats: Any, ints: Any, counters: Any, shape: Any) -> Any:
    """Return ``floats``, ``ints`` and ``shape`` of the same places with room for twice as many objects."""
    wide = (2 * shape[0], shape[1], shape[2])
    places = len(counters)
    wide_floats = np.zeros(places * _float_size(wide) + _LANES)
    wide_ints = np.full(places * _int_size(wide), np.int32(-1))
    for place in range(places):
        inverse, vectors, mean, _ = _floats_of(shape, place)
        wide_inverse, wide_vectors, wide_mean, _ = _floats_of(wide, place)
        for x in range(shape[0]):
            for y in range(shape[0]):
                wide_floats[wide_inverse + x * wide[0] + y] = floats[inverse + x * shape[0] + y]
            for vector in range(_VECTORS):
                wide_floats[wide_vectors + vector * wide[0] + x] = floats[vectors + vector * shape[0] + x]
        for part in range(2 * shape[2]):
            wide_floats[wide_mean + part] = floats[mean + part]
        objects, listed, _ = _ints_of(shape, place)
        wide_objects, wide_listed, _ = _ints_of(wide, place)
        for slot in range(shape[0] * shape[1]):
            wide_ints[wide_objects + slot] = ints[objects + slot]
        for part in range(2 * shape[2]):
            wide_ints[wide_listed + part] = ints[listed + part]
    return wide_floats, wide_ints, wide


@kernel
def clear(ints: Any, counters: Any, shape: Any, place: Any, slots: Any) -> None:
    """Make a place ready for an item whose objects fill at most so many slots."""
    objects, listed, number = _ints_of(shape, place)
    for slot in range(objects, listed):
        ints[slot] = -1
    for entry in range(counters[place, LISTED]):
        ints[number + ints[listed + entry]] = -1
    for counter in range(counters.shape[1]):
        counters[place, counter] = 0
    counters[place, SLOTS] = slots


@numba.njit(cache=True, inline="always")
def enter(floats: Any, ints: Any, counters: Any, shape: Any, place: Any, slot: Any, part: Any, score: Any) -> None:
    """Write a part, -1 for none, and its score to a slot of the first row that holds no object."""
    _, _, mean, scores = _floats_of(shape, place)
    objects, listed, number = _ints_of(shape, place)
    entry = np.int64(-1)
    if part >= 0:
        entry = np.int64(ints[number + part])
        if entry < 0:
            entry = counters[place, LISTED]
            counters[place, LISTED] = entry + 1
            ints[listed + entry] = part
            ints[number + part] = entry
            floats[scores + entry] = score
            floats[mean + entry] = 0.0
    ints[objects + counters[place, COUNT] * shape[1] + slot] = entry


@numba.njit(cache=True, inline="always")
def _dot(floats: Any, left: Any, right: Any, width: Any) -> Any:
    result = spread(floats, 0.0)
    for block in range(0, width, _LANES):
        result = result + load(floats, left + block) * load(floats, right + block)
    return total(result)


@numba.njit(cache=True, inline="always")
def _add_scaled(floats: Any, target: Any, scale: Any, source: Any, width: Any) -> None:
    factor = spread(floats, scale)
    for block in range(0, width, _LANES):
        store(floats, target + block, load(floats, target + block) + factor * load(floats, source + block))


@numba.njit(cache=True, inline="always")
def _shared(ints: Any, left: Any, right: Any, slots: Any) -> Any:
    """Return how many parts two objects share."""
    result = 0
    for block in range(0, slots, _BLOCK):
        result += count_shared(ints, left + block, right + block)
    return result


@kernel
def _append(floats: Any, ints: Any, counters: Any, shape: Any, place: Any) -> bool:
    """Return whether the object in the first free row joins the set; not if it depends affinely on those there."""
    inverse, by_score, _, scores = _floats_of(shape, place)
    room, slots, _ = shape
    by_one, weights, gram, combination = by_score + room, by_score + 2 * room, by_score + 3 * room, by_score + 4 * room
    objects, _, _ = _ints_of(shape, place)
    count = counters[place, COUNT]
    width = (count // _LANES + 1) * _LANES
    zero = spread(floats, 0.0)
    if count % _LANES == 0:  # a register further than before
        for x in range(count):
            store(floats, inverse + x * room + count, zero)
        for vector in (by_score, by_one):
            store(floats, vector + count, zero)
    new = objects + count * slots
    own, score = 1.0, 0.0
    for slot in range(counters[place, SLOTS]):
        if ints[new + slot] >= 0:
            own += 1.0
            score += floats[scores + ints[new + slot]]
    store(floats, gram + width - _LANES, zero)
    for x in range(count):
        floats[gram + x] = 1.0 + _shared(ints, objects + x * slots, new, slots)
    for block in range(0, width, _LANES):
        column = zero
        for x in range(count):
            column = column + spread(floats, floats[gram + x]) * load(floats, inverse + x * room + block)
        store(floats, combination + block, column)
    rest = own - _dot(floats, combination, gram, width)
    if rest <= _DEPENDENT * own:
        return False
    # Inverse of the bordered matrix, and its products with the bordered vectors.
    ahead = (_dot(floats, gram, by_score, width) - score) / rest
    beyond = (_dot(floats, gram, by_one, width) - 1.0) / rest
    _add_scaled(floats, by_score, ahead, combination, width)
    _add_scaled(floats, by_one, beyond, combination, width)
    last = inverse + count * room
    for block in range(0, width, _LANES):
        store(floats, last + block, zero)
    _add_scaled(floats, last, -1.0 / rest, combination, width)
    for x in range(count):
        _add_scaled(floats, inverse + x * room, -floats[last + x], combination, width)
        floats[inverse + x * room + count] = floats[last + x]
    floats[last + count] = 1.0 / rest
    floats[by_score + count] = -ahead
    floats[by_one + count] = -beyond
    floats[weights + count] = 0.0
    counters[place, COUNT] = count + 1
    return True


@kernel
def _drop(floats: Any, ints: Any, counters: Any, shape: Any, place: Any, gone: Any) -> None:
    """Take an object out of the set; the last one takes its row."""
    inverse, by_score, _, _ = _floats_of(shape, place)
    room, slots, _ = shape
    by_one, weights, border = by_score + room, by_score + 2 * room, by_score + 4 * room
    objects, _, _ = _ints_of(shape, place)
    count = counters[place, COUNT]
    last = count - 1
    width = (last // _LANES + 1) * _LANES
    for block in range(0, width, _LANES):
        store(floats, border + block, load(floats, inverse + gone * room + block))
    pivot = floats[border + gone]
    for vector in (by_score, by_one):
        _add_scaled(floats, vector, -floats[vector + gone] / pivot, border, width)
    for x in range(count):
        _add_scaled(floats, inverse + x * room, -floats[border + x] / pivot, border, width)
    for block in range(0, width, _LANES):
        store(floats, inverse + gone * room + block, load(floats, inverse + last * room + block))
    for x in range(count):
        floats[inverse + x * room + gone] = floats[inverse + x * room + last]
        floats[inverse + x * room + last] = 0.0
    for vector in (by_score, by_one, weights):
        floats[vector + gone] = floats[vector + last]
        floats[vector + last] = 0.0
    for slot in range(slots):
        ints[objects + gone * slots + slot] = ints[objects + last * slots + slot]
    counters[place, COUNT] = last


@numba.njit(cache=True, inline="always")
def _multiplier(floats: Any, counters: Any, shape: Any, place: Any) -> Any:
    """Return what is added to every score so that the solution of the linear system sums to 1."""
    _, by_score, _, _ = _floats_of(shape, place)
    total_score, total_one = spread(floats, 0.0), spread(floats, 0.0)
    for block in range(0, counters[place, COUNT], _LANES):
        total_score = total_score + load(floats, by_score + block)
        total_one = total_one + load(floats, by_score + shape[0] + block)
    return (1.0 - total(total_score)) / total(total_one)


@kernel
def _move(floats: Any, ints: Any, counters: Any, shape: Any, place: Any) -> bool:
    """Return whether all weights reached the optimum of the active set; else one object blocked and was dropped."""
    _, by_score, _, _ = _floats_of(shape, place)
    by_one, weights = by_score + shape[0], by_score + 2 * shape[0]
    multiplier = _multiplier(floats, counters, shape, place)
    step, blocking = 1.0, -1
    for x in range(counters[place, COUNT]):
        aim = floats[by_score + x] + multiplier * floats[by_one + x]
        if aim < _NEGATIVE:
            reach = floats[weights + x] / (floats[weights + x] - aim)
            if reach < step:
                step, blocking = reach, x
    for x in range(counters[place, COUNT]):
        aim = floats[by_score + x] + multiplier * floats[by_one + x]
        floats[weights + x] += step * (aim - floats[weights + x])
    if blocking >= 0:
        floats[weights + blocking] = 0.0
        _drop(floats, ints, counters, shape, place, blocking)
    return blocking < 0


@kernel
def _mix(floats: Any, ints: Any, counters: Any, shape: Any, place: Any, rest: Any, at: Any) -> None:
    """Set the mean of the set, and ``rest[at:]`` to the scores less the mean."""
    _, vectors, mean, scores = _floats_of(shape, place)
    weights = vectors + 2 * shape[0]
    objects, listed, _ = _ints_of(shape, place)
    zero = spread(floats, 0.0)
    for block in range(0, counters[place, LISTED], _LANES):
        store(floats, mean + block, zero)
    for x in range(counters[place, COUNT]):
        weight = floats[weights + x]
        here = objects + x * shape[1]
        for slot in range(counters[place, SLOTS]):
            entry = ints[here + slot]
            if entry >= 0:
                floats[mean + entry] += weight
    for entry in range(counters[place, LISTED]):
        rest[at + ints[listed + entry]] = floats[scores + entry] - floats[mean + entry]


@numba.njit(cache=True, inline="always")
def _lead(floats: Any, ints: Any, counters: Any, shape: Any, place: Any, x: Any) -> Any:
    """Return the value of an object under the scores less the mean."""
    _, _, mean, scores = _floats_of(shape, place)
    here = _ints_of(shape, place)[0] + x * shape[1]
    value = 0.0
    for slot in range(counters[place, SLOTS]):
        entry = ints[here + slot]
        if entry >= 0:
            value += floats[scores + entry] - floats[mean + entry]
    return value


@kernel
def _rebuild(floats: Any, ints: Any, counters: Any, shape: Any, place: Any) -> bool:
    """Return whether the inverse had drifted and was built anew, object by object; at most once an item."""
    _, vectors, _, _ = _floats_of(shape, place)
    weights = vectors + 2 * shape[0]
    count = counters[place, COUNT]
    common = 1.0 - _multiplier(floats, counters, shape, place)
    worst = 0.0
    for x in range(count):
        worst = max(worst, abs(_lead(floats, ints, counters, shape, place, x) - common))
    if counters[place, REBUILT] or worst <= _RESIDUAL * (1.0 + abs(common)):
        return False
    counters[place, REBUILT] = 1
    counters[place, COUNT] = 0
    for x in range(count):
        kept = floats[weights + x]
        _append(floats, ints, counters, shape, place)
        floats[weights + x] = kept
    complete: bool = counters[place, COUNT] == count
    return complete


@kernel
def advance(
    floats: Any, ints: Any, counters: Any, shape: Any, place: Any, rest: Any, at: Any, max_iter: Any, tolerance: Any
) -> None:
    """Take in the object that was entered, the best under ``rest``, renew ``rest[at:]``, and set the outcome.

    An iteration is a solution of the linear system or a search for the best object, as in the authors' code.
    """
    counters[place, ITERATIONS] += 1
    first = counters[place, COUNT] == 0
    common = 0.0
    if not first:
        common = 1.0 - _multiplier(floats, counters, shape, place)
    value = _lead(floats, ints, counters, shape, place, counters[place, COUNT])
    better = first or value > common + tolerance * (1.0 + abs(common))
    grown = better and _append(floats, ints, counters, shape, place)
    if not grown and not _rebuild(floats, ints, counters, shape, place):
        counters[place, OUTCOME] = CONVERGED
        return
    if first:
        floats[_floats_of(shape, place)[1] + 2 * shape[0]] = 1.0
    accepted = first
    while not accepted and counters[place, ITERATIONS] < max_iter:
        counters[place, ITERATIONS] += 1
        accepted = _move(floats, ints, counters, shape, place)
    _mix(floats, ints, counters, shape, place, rest, at)
    if counters[place, ITERATIONS] >= max_iter:
        counters[place, OUTCOME] = EXHAUSTED


@kernel
def advance_all(
    floats: Any, ints: Any, counters: Any, shape: Any, items: Any, used: Any, scores: Any, rest: Any, max_iter: Any,
    tolerance: Any,
) -> None:  # fmt: skip
    """Take in an object for every one of ``items``, each in the place of its number.

    ``used [items, parts]`` says which parts the objects have; a part's slot is its number. ``rest`` is flat, else like
    ``scores [batch, parts]``; see ``advance``.
    """
    parts = scores.shape[1]
    for position in range(len(items)):
        item = items[position]
        for part in range(parts):
            chosen = part if used[position, part] else -1
            enter(floats, ints, counters, shape, item, part, chosen, scores[item, part])
        advance(floats, ints, counters, shape, item, rest, item * parts, max_iter, tolerance)


def nothing_found(batch: int, slots: int) -> Mixtures:
    """Return what ``keep`` adds to, empty, for a batch of so many items."""
    return np.empty((0, slots), np.int32), np.empty(0), np.zeros((batch, 4), np.int64), np.zeros(1, np.int64)


@numba.njit(cache=True, nogil=True)
def keep(floats: Any, ints: Any, counters: Any, shape: Any, place: Any, item: Any, found: Any, marginals: Any) -> Any:
    """Return ``found`` with the active set of a place, and write its mean to ``marginals [batch, parts]``."""
    parts, weights, of_item, used = found
    _, vectors, mean, _ = _floats_of(shape, place)
    objects, listed, _ = _ints_of(shape, place)
    begin, count = used[0], counters[place, COUNT]
    if begin + count > len(weights):
        room = 2 * (begin + count)
        more_parts, more_weights = np.empty((room, parts.shape[1]), np.int32), np.empty(room)
        more_parts[:begin], more_weights[:begin] = parts[:begin], weights[:begin]
        parts, weights = more_parts, more_weights
    used[0] += count
    of_item[item, 0], of_item[item, 1] = begin, count
    of_item[item, 2], of_item[item, 3] = counters[place, ITERATIONS], counters[place, OUTCOME]
    for x in range(count):
        weights[begin + x] = floats[vectors + 2 * shape[0] + x]
        for slot in range(parts.shape[1]):
            entry = np.int64(ints[objects + x * shape[1] + slot]) if slot < counters[place, SLOTS] else -1
            parts[begin + x, slot] = ints[listed + entry] if entry >= 0 else -1
    for entry in range(counters[place, LISTED]):
        marginals[item, ints[listed + entry]] = floats[mean + entry]
    return parts, weights, of_item, used


@numba.njit(cache=True, nogil=True)
def keep_all(floats: Any, ints: Any, counters: Any, shape: Any, found: Any, marginals: Any) -> Any:
    """Return ``found`` with the active sets of all places, whose means are written to ``marginals [batch, parts]``."""
    for place in range(len(counters)):
        found = keep(floats, ints, counters, shape, place, place, found, marginals)
    return found


@kernel
def pull_back(
    floats: Any, ints: Any, counters: Any, shape: Any, found: Any, grad_marginals: Any, grad_weights: Any,
    grad_scores: Any,
) -> None:  # fmt: skip
    """Add to ``grad_scores [batch, parts]`` the product of the gradients with the Jacobian of the solutions.

    On the active set ``dp/ds = Q A^T`` and ``du/ds = A Q A^T`` with ``Q = G^-1 - G^-1 1 1^T G^-1 / (1^T G^-1 1)``.
    The inverse is built anew, in the one place given: that costs a fraction of the search.
    """
    parts, _, of_item, _ = found
    inverse, by_score, _, _ = _floats_of(shape, 0)
    by_one, pulled, solved = by_score + shape[0], by_score + 3 * shape[0], by_score + 4 * shape[0]
    slots = parts.shape[1]
    for item in range(len(of_item)):
        begin = of_item[item, 0]
        clear(ints, counters, shape, 0, slots)
        for x in range(begin, begin + of_item[item, 1]):
            for slot in range(slots):
                enter(floats, ints, counters, shape, 0, slot, parts[x, slot], 0.0)
            _append(floats, ints, counters, shape, 0)
        count = counters[0, COUNT]
        for x in range(count):
            gradient = np.float64(grad_weights[item, x])
            for slot in range(slots):
                if parts[begin + x, slot] >= 0:
                    gradient += grad_marginals[item, parts[begin + x, slot]]
            floats[pulled + x] = gradient
        total_solved, total_one = 0.0, 0.0
        for x in range(count):
            floats[solved + x] = 0.0
            for y in range(count):
                floats[solved + x] += floats[inverse + x * shape[0] + y] * floats[pulled + y]
            total_solved += floats[solved + x]
            total_one += floats[by_one + x]
        for x in range(count):
            change = floats[solved + x] - floats[by_one + x] * total_solved / total_one
            for slot in range(slots):
                if parts[begin + x, slot] >= 0:
                    grad_scores[item, parts[begin + x, slot]] += change
