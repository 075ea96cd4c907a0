"""A generator of shapes with three binary attributes: material with which control by attributes can be checked.

Each image is one shape, round or square, filled or hollow, with a bar beneath it or without; its place, size and
brightness vary. It stands in for pictures with annotated attributes where none are at hand; it is not a photograph.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ATTRIBUTES = ("round", "filled", "barred")


def draw_shapes(count: int, seed: int, side: int = 28) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return images ``[count, 1, side, side]`` (uint8) and their attributes ``[count, 3]`` in the order ATTRIBUTES."""
    generator = np.random.default_rng(seed)
    attributes = generator.integers(0, 2, (count, 3)).astype(np.bool_)
    unit = side / 28
    centre = generator.uniform(11, 17, (count, 2)) * unit
    radius = generator.uniform(5.5, 7.5, count) * unit
    brightness = generator.uniform(180, 255, count)
    rows, columns = np.mgrid[:side, :side] + 0.5
    down = rows[None] - centre[:, 0, None, None] + 2 * unit
    across = columns[None] - centre[:, 1, None, None]
    disc = np.hypot(down, across)
    # a square of the same area, so that the two differ in form and not in the amount of ink
    square = np.maximum(abs(down), abs(across)) * 2 / np.sqrt(np.pi)
    distance = np.where(attributes[:, 0, None, None], disc, square) - radius[:, None, None]
    inside = distance < 0
    hollow = inside & (distance > -2.2 * unit)
    ink = np.where(attributes[:, 1, None, None], inside, hollow)
    below = down - radius[:, None, None] - 3.5 * unit
    bar = (abs(below) < 1.2 * unit) & (abs(across) < radius[:, None, None])
    ink = ink | (bar & attributes[:, 2, None, None])
    return np.rint(ink * brightness[:, None, None]).astype(np.uint8)[:, None], attributes
