"""Run a compiled kernel over the sentences of a batch, on as many threads as were asked for.

Kernels release the interpreter lock, so plain threads do; unlike numba's own they cost no compile time, survive a
fork and may be entered from several threads at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_local = threading.local()
_CHUNKS_PER_THREAD = 4


def workspace(dtype: Any, elements: int) -> NDArray[Any]:
    """Return this thread's scratch array of at least ``elements``, aligned to a register, contents arbitrary."""
    buffers: dict[Any, NDArray[Any]] = _local.__dict__
    key = np.dtype(dtype).char
    buffer = buffers.get(key)
    if buffer is None or buffer.size < elements:
        raw = np.zeros(elements + 64, dtype)
        shift = (-raw.ctypes.data % 64) // raw.itemsize
        buffers[key] = buffer = raw[shift : shift + elements]
    return buffer


def run_over_sentences(
    kernel: Callable[[NDArray[np.int64]], None], lengths: NDArray[np.int64], lanes: int, threads: int
) -> None:
    """Call ``kernel(indices)`` on parts of the batch that together cover it, longest sentences first.

    Args:
        kernel: Handles the sentences of the given indices; their lengths descend.
        lengths: Words of each sentence ``[batch]``.
        lanes: Sentences a kernel handles at once; parts are multiples of it.
        threads: At most so many parts run at a time.
    """
    order = np.argsort(-lengths, kind="stable")
    groups = -(-len(order) // lanes)
    if threads <= 1 or groups <= 1:
        kernel(order)
        return
    size = -(-groups // min(groups, threads * _CHUNKS_PER_THREAD)) * lanes
    parts = [order[begin : begin + size] for begin in range(0, len(order), size)]
    for _ in _pool(threads).map(kernel, parts):
        pass


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="structures")
