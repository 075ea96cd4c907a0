"""The active-set method for SparseMAP, compiled: one object and a rank-one update at a time.

SparseMAP of ``s`` is ``argmax <s, u> - |u|^2 / 2`` over the convex hull of a structure's objects (Niculae et al.,
2018). The solution is a mixture ``u = sum_t p_t a_t`` of few objects, the active set. Given the set, p solves a linear
system in the Gram matrix of the objects; an object better than all of them under ``s - u`` is then added, and one
whose weight would turn negative is dropped.

The Gram matrix is ``G_xy = <a_x, a_y> + 1``: the 1, a part that every object has, changes nothing on weights that sum
to 1 and makes G invertible as soon as the objects are affinely independent (the empty object included). Its inverse,
and the products of the inverse with the objects' scores and with ones, are updated when an object comes or goes:
O(k^2) a change, where solving anew would take O(k^3).

An object is a row of part indices, one a slot, -1 where a slot is unused. Slots are chosen by the caller so that two
objects share a part only in the same slot (a word's slot holds its arc). The state of a batch is the tuple of arrays
that ``new_state`` returns; every function below works on one item of it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

State = tuple[Any, ...]

RUNNING, CONVERGED, EXHAUSTED, REFUSED = 0, 1, 2, 3
"""Outcome of an item: not done; optimal; ``max_iter`` reached first; its scores admit no object."""

_FAST = {"reassoc", "contract", "nsz"}
_DEPENDENT = 1e-9
_NEGATIVE = -1e-12
_RESIDUAL = 1e-9


def new_state(batch: int, slots: int, parts: int, capacity: int) -> State:
    """Return the empty active sets of ``batch`` items, with room for ``capacity`` objects in each.

    The arrays are: objects ``[batch, capacity, slots]``; inverse ``[batch, capacity, capacity]``; inverse times scores,
    inverse times ones, and weights, each ``[batch, capacity]``; marginals ``[batch, parts]``; and, for each item, the
    objects in the set, the iterations spent, the outcome, and whether the inverse was already rebuilt.
    """
    return (
        np.full((batch, capacity, slots), -1, np.int32),
        np.zeros((batch, capacity, capacity)),
        np.zeros((batch, capacity)),
        np.zeros((batch, capacity)),
        np.zeros((batch, capacity)),
        np.zeros((batch, parts)),
        np.zeros(batch, np.int64),
        np.zeros(batch, np.int64),
        np.zeros(batch, np.int64),
        np.zeros(batch, np.bool_),
    )


@numba.njit(cache=True)
def with_room(state: State) -> State:
    """Return a state with room for twice as many objects, the same otherwise."""
    objects, inverse, by_score, by_one, weights = state[:5]
    batch, capacity, slots = objects.shape
    wider = (
        np.full((batch, 2 * capacity, slots), -1, np.int32),
        np.zeros((batch, 2 * capacity, 2 * capacity)),
        np.zeros((batch, 2 * capacity)),
        np.zeros((batch, 2 * capacity)),
        np.zeros((batch, 2 * capacity)),
    )
    wider[0][:, :capacity] = objects
    wider[1][:, :capacity, :capacity] = inverse
    wider[2][:, :capacity] = by_score
    wider[3][:, :capacity] = by_one
    wider[4][:, :capacity] = weights
    return wider + state[5:]


@numba.njit(cache=True, fastmath=_FAST, boundscheck=False)
def _dot(left: Any, right: Any, count: Any) -> Any:
    total = 0.0
    for index in range(count):
        total += left[index] * right[index]
    return total


@numba.njit(cache=True, fastmath=_FAST, boundscheck=False)
def _add_scaled(target: Any, scale: Any, source: Any, count: Any) -> None:
    for index in range(count):
        target[index] += scale * source[index]


@numba.njit(cache=True, boundscheck=False, inline="always")
def _shared(left: Any, right: Any, count: Any) -> Any:
    """Return how many parts two objects share."""
    total = np.int32(0)
    for index in range(count):
        total += np.int32((left[index] == right[index]) & (left[index] >= 0))
    return total


@numba.njit(cache=True, boundscheck=False)
def _append(state: State, item: int, scores: Any) -> bool:
    """Return whether the object in the first free row joins the set; not if it depends affinely on those there."""
    objects, inverse, by_score, by_one, weights = state[:5]
    count = state[6][item]
    rows = objects[item]
    new = rows[count]
    slots = np.uint64(len(new))
    size = np.uint64(count)
    matrix = inverse[item]
    gram = np.empty(count)
    combination = np.empty(count)
    own = 1.0 + _shared(new, new, slots)
    score = 0.0
    for slot in range(slots):
        if new[slot] >= 0:
            score += scores[new[slot]]
    for x in range(size):
        gram[x] = 1.0 + _shared(rows[x], new, slots)
    for x in range(size):
        combination[x] = _dot(matrix[x], gram, size)
    rest = own - _dot(combination, gram, size)
    if rest <= _DEPENDENT * own:
        return False
    # Inverse of the bordered matrix, and its products with the bordered vectors.
    ahead = (_dot(gram, by_score[item], size) - score) / rest
    spread = (_dot(gram, by_one[item], size) - 1.0) / rest
    _add_scaled(by_score[item], ahead, combination, size)
    _add_scaled(by_one[item], spread, combination, size)
    for x in range(size):
        scaled = combination[x] / rest
        _add_scaled(matrix[x], scaled, combination, size)
        matrix[x, count] = -scaled
        matrix[count, x] = -scaled
    matrix[count, count] = 1.0 / rest
    by_score[item, count] = -ahead
    by_one[item, count] = -spread
    weights[item, count] = 0.0
    state[6][item] = count + 1
    return True


@numba.njit(cache=True, boundscheck=False)
def _drop(state: State, item: int, gone: int) -> None:
    """Take an object out of the set: it changes places with the last one, and its row stays readable after the end."""
    objects, inverse, by_score, by_one, weights = state[:5]
    last = state[6][item] - 1
    matrix = inverse[item]
    size = np.uint64(last)
    if gone != last:
        for x in range(last + 1):
            matrix[gone, x], matrix[last, x] = matrix[last, x], matrix[gone, x]
        for x in range(last + 1):
            matrix[x, gone], matrix[x, last] = matrix[x, last], matrix[x, gone]
        for vector in (by_score[item], by_one[item], weights[item]):
            vector[gone], vector[last] = vector[last], vector[gone]
        for slot in range(objects.shape[2]):
            kept, dropped = objects[item, last, slot], objects[item, gone, slot]
            objects[item, gone, slot], objects[item, last, slot] = kept, dropped
    border = matrix[last]
    _add_scaled(by_score[item], -by_score[item, last] / border[last], border, size)
    _add_scaled(by_one[item], -by_one[item, last] / border[last], border, size)
    for x in range(size):
        _add_scaled(matrix[x], -border[x] / border[last], border, size)
    state[6][item] = last


@numba.njit(cache=True, boundscheck=False, inline="always")
def _multiplier(state: State, item: int) -> float:
    """Return what is added to every score so that the solution of the linear system sums to 1."""
    total_score, total_one = 0.0, 0.0
    for x in range(state[6][item]):
        total_score += state[2][item, x]
        total_one += state[3][item, x]
    return (1.0 - total_score) / total_one


@numba.njit(cache=True, boundscheck=False, inline="always")
def _move(state: State, item: int) -> bool:
    """Return whether all weights reached the optimum of the active set; else one object blocked and was dropped."""
    by_score, by_one, weights = state[2][item], state[3][item], state[4][item]
    count = state[6][item]
    multiplier = _multiplier(state, item)
    step, blocking = 1.0, -1
    for x in range(count):
        aim = by_score[x] + multiplier * by_one[x]
        if aim < _NEGATIVE:
            reach = weights[x] / (weights[x] - aim)
            if reach < step:
                step, blocking = reach, x
    for x in range(count):
        weights[x] += step * (by_score[x] + multiplier * by_one[x] - weights[x])
    if blocking >= 0:
        weights[blocking] = 0.0
        _drop(state, item, blocking)
    return blocking < 0


@numba.njit(cache=True, boundscheck=False, inline="always")
def _mix(state: State, item: int, before: int) -> None:
    """Set the marginals to the mean of the set; ``before`` rows are in it or left it since they were last set."""
    objects, weights, marginals = state[0][item], state[4][item], state[5][item]
    count = state[6][item]
    slots = np.uint64(objects.shape[1])
    for x in range(before):
        row = objects[x]
        for slot in range(slots):
            if row[slot] >= 0:
                marginals[row[slot]] = 0.0
    for x in range(count):
        row = objects[x]
        weight = weights[x]
        for slot in range(slots):
            if row[slot] >= 0:
                marginals[row[slot]] += weight


@numba.njit(cache=True, boundscheck=False)
def _rebuild(state: State, item: int, scores: Any) -> bool:
    """Return whether the inverse had drifted and was built anew, object by object; at most once an item."""
    objects, _, _, _, weights, marginals = state[:6]
    count = state[6][item]
    value = 1.0 - _multiplier(state, item)
    worst = 0.0
    for x in range(count):
        gap = -value
        for slot in range(objects.shape[2]):
            part = objects[item, x, slot]
            if part >= 0:
                gap += scores[part] - marginals[item, part]
        worst = max(worst, abs(gap))
    if state[9][item] or worst <= _RESIDUAL * (1.0 + abs(value)):
        return False
    state[9][item] = True
    kept = weights[item].copy()
    state[6][item] = 0
    for _ in range(count):
        _append(state, item, scores)
    weights[item] = kept
    complete: bool = state[6][item] == count
    return complete


@numba.njit(cache=True, boundscheck=False)
def advance(state: State, item: int, scores: Any, max_iter: int, tolerance: float) -> None:
    """Take in the best object under ``scores - marginals``, written in the first free row, and set the item's outcome.

    An iteration is a solution of the linear system or a search for the best object, as in the authors' code.
    """
    objects, _, _, _, weights, marginals, counts, iterations, outcome = state[:9]
    new = objects[item, counts[item]]
    if counts[item] == 0:
        _append(state, item, scores)
        weights[item, 0] = 1.0
        for slot in range(len(new)):
            if new[slot] >= 0:
                marginals[item, new[slot]] = 1.0
        iterations[item] = 1
        outcome[item] = EXHAUSTED if max_iter <= 1 else RUNNING
        return
    iterations[item] += 1
    value = 0.0
    for slot in range(len(new)):
        if new[slot] >= 0:
            value += scores[new[slot]] - marginals[item, new[slot]]
    common = 1.0 - _multiplier(state, item)
    better = value > common + tolerance * (1.0 + abs(common))
    grown = better and _append(state, item, scores)
    if not grown and not _rebuild(state, item, scores):
        outcome[item] = CONVERGED
        return
    before = counts[item]
    accepted = False
    while not accepted and iterations[item] < max_iter:
        iterations[item] += 1
        accepted = _move(state, item)
    _mix(state, item, before)
    if iterations[item] >= max_iter:
        outcome[item] = EXHAUSTED


@numba.njit(cache=True)
def advance_all(state: State, items: Any, scores: Any, max_iter: int, tolerance: float) -> None:
    """Call ``advance`` for every item of ``items``; ``scores [batch, parts]``."""
    for item in items:
        advance(state, item, scores[item], max_iter, tolerance)


@numba.njit(cache=True, nogil=True)
def pull_back(
    objects: NDArray[np.int32],
    inverse: NDArray[np.float64],
    by_one: NDArray[np.float64],
    counts: NDArray[np.int64],
    grad_marginals: NDArray[np.float64],
    grad_weights: NDArray[np.float64],
    grad_scores: NDArray[np.float64],
) -> None:
    """Add to ``grad_scores [batch, parts]`` the product of the gradients with the Jacobian of the solution.

    On the active set ``dp/ds = Q A^T`` and ``du/ds = A Q A^T`` with ``Q = G^-1 - G^-1 1 1^T G^-1 / (1^T G^-1 1)``.
    """
    for item in range(len(counts)):
        count = counts[item]
        pulled = np.empty(count)
        for x in range(count):
            pulled[x] = grad_weights[item, x]
            for slot in range(objects.shape[2]):
                part = objects[item, x, slot]
                if part >= 0:
                    pulled[x] += grad_marginals[item, part]
        solved = np.zeros(count)
        total, total_one = 0.0, 0.0
        for x in range(count):
            for y in range(count):
                solved[x] += inverse[item, x, y] * pulled[y]
            total += solved[x]
            total_one += by_one[item, x]
        for x in range(count):
            change = solved[x] - by_one[item, x] * total / total_one
            for slot in range(objects.shape[2]):
                part = objects[item, x, slot]
                if part >= 0:
                    grad_scores[item, part] += change
