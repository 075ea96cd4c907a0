# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"
"""Numbers that may carry a derivative: the same recursion gives a value, or a value and its directional derivative.

A number is a tuple of one vector (its value) or two (value, tangent). Tables lie in one flat array ``work``; the
tangent of what is at ``at`` is at ``at + tangent``. ``tangent`` None means values only. The choice is made by type,
when a kernel is compiled, so that values alone cost nothing more. Only compiled code can call these.
"""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import overload

from parser_vae.structures.kernels.simd import load, spread, store


def constant(work: Any, value: Any, tangent: Any) -> Any:
    """Return ``value`` in every lane, derivative 0."""


def get(work: Any, at: Any, tangent: Any) -> Any:
    """Return the number at ``at``."""


def put(work: Any, at: Any, number: Any, tangent: Any) -> None:
    """Write ``number`` at ``at``."""


def plus(left: Any, right: Any, tangent: Any) -> Any:
    """Return ``left + right``."""


def times(left: Any, right: Any, tangent: Any) -> Any:
    """Return ``left * right``."""


def plus_times(total: Any, left: Any, right: Any, tangent: Any) -> Any:
    """Return ``total + left * right``."""


@overload(constant)
def _constant(work, value, tangent):
    if isinstance(tangent, types.NoneType):
        return lambda work, value, tangent: (spread(work, value),)
    return lambda work, value, tangent: (spread(work, value), spread(work, 0.0))


@overload(get)
def _get(work, at, tangent):
    if isinstance(tangent, types.NoneType):
        return lambda work, at, tangent: (load(work, at),)
    return lambda work, at, tangent: (load(work, at), load(work, at + tangent))


@overload(put)
def _put(work, at, number, tangent):
    if isinstance(tangent, types.NoneType):
        return lambda work, at, number, tangent: store(work, at, number[0])

    def both(work, at, number, tangent):
        store(work, at, number[0])
        store(work, at + tangent, number[1])

    return both


@overload(plus)
def _plus(left, right, tangent):
    if isinstance(tangent, types.NoneType):
        return lambda left, right, tangent: (left[0] + right[0],)
    return lambda left, right, tangent: (left[0] + right[0], left[1] + right[1])


@overload(times)
def _times(left, right, tangent):
    if isinstance(tangent, types.NoneType):
        return lambda left, right, tangent: (left[0] * right[0],)
    return lambda left, right, tangent: (left[0] * right[0], left[0] * right[1] + left[1] * right[0])


@overload(plus_times)
def _plus_times(total, left, right, tangent):
    if isinstance(tangent, types.NoneType):
        return lambda total, left, right, tangent: (total[0] + left[0] * right[0],)
    return lambda total, left, right, tangent: (
        total[0] + left[0] * right[0],
        total[1] + left[0] * right[1] + left[1] * right[0],
    )
