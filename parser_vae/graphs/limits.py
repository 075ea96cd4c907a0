"""Memory: whether what was asked for fits into this machine's, and that it is not given back between two updates."""

from __future__ import annotations

import ctypes
import os

import torch

from parser_vae.errors import ConfigError
from parser_vae.graphs.model import GraphModel, ModelSettings

VALUES_AT_ONCE = 2**26  # of a hidden layer of all messages, where samples are only looked at
COPIES_OF_PARAMETERS = 5  # values, gradient, Adam's two moments, the best so far
LAYERS = 8  # results as large as the messages of a frame that a pass through a decoder keeps for its gradient


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Raise ``ConfigError`` if this many bytes are more than the machine's memory."""
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        sizes = [f"{size / 2**30:,.0f} GiB" for size in (needed, available)]
        raise ConfigError(f"{what} would take about {sizes[0]} of memory, and this machine has {sizes[1]}; {remedy}")


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next update, where it is one that can be told to.

    It maps blocks of more than 32 MiB anew each time, and the system clears every page of them: 40% of the time of an
    update with 10 points, hidden size 256 and batches of 128.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not the GNU C library
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # as in malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**28)


def samples_at_once(frames: int, points: int, hidden: int) -> int:
    """Return how many samples to look at together without gradient, at least 1 and at most 500."""
    return max(1, min(500, VALUES_AT_ONCE // (frames * points * (points - 1) * hidden)))


def training_bytes(settings: ModelSettings, frames: int, points: int, dimensions: int, batch: int) -> int:
    """Return about how many bytes an update by gradients takes: parameters and what layers keep for the gradient.

    Args:
        settings: The size of the model.
        frames: Time steps of a trajectory.
        points: Points of a trajectory.
        dimensions: Coordinates of a point.
        batch: Samples an update.
    """
    with torch.device("meta"):
        parameters = sum(p.numel() for p in GraphModel(settings, frames, dimensions).parameters())
    messages = batch * frames * points * (points - 1) * settings.hidden
    return 4 * (COPIES_OF_PARAMETERS * parameters + LAYERS * messages)
