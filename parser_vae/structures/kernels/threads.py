"""Run a compiled kernel over a batch on several threads.

Kernels release the interpreter lock, so plain threads do; unlike numba's own they cost no compile time, survive a
fork and may be entered from several threads at once.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_local = threading.local()
_PARTS_PER_THREAD = 4
_WORTHWHILE = 200_000.0  # nanoseconds below which a batch stays on the caller's thread


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
    """Call ``kernel(indices)`` on parts of the batch that together cover it.

    Args:
        kernel: Handles the sentences of the given indices; their lengths descend.
        lengths: Words of each sentence ``[batch]``.
        lanes: Sentences a kernel handles at once; these stay in one part.
        threads: At most so many parts run at a time.
    """
    order = np.argsort(-lengths, kind="stable")
    groups = -(-len(order) // lanes)
    if threads <= 1 or groups <= 1:
        kernel(order)
        return
    parts = min(groups, threads * _PARTS_PER_THREAD)
    part_of = np.arange(len(order)) // lanes % parts  # in turns, so that every part has its share of long sentences
    for _ in _pool(threads).map(kernel, [order[part_of == part] for part in range(parts)]):
        pass


def for_each_share(kernel: Callable[[int, int], bool], batch: int, costs: Callable[[], NDArray[np.float64]]) -> bool:
    """Return whether ``kernel(first, last)`` was true on all of the slices of equal cost that cover the batch.

    Args:
        kernel: Handles items ``first .. last - 1``; must release the interpreter lock to gain anything.
        batch: Number of items.
        costs: Estimated nanoseconds of each item ``[batch]``; a batch not worth a thread runs on the caller's.
    """
    threads = torch.get_num_threads()
    if threads == 1 or batch < 2:
        return kernel(0, batch)
    total = np.cumsum(costs())
    if total[-1] < _WORTHWHILE:
        return kernel(0, batch)
    shares = threads * _PARTS_PER_THREAD
    cuts = np.searchsorted(total, total[-1] * np.arange(1, shares) / shares)
    bounds = np.unique(np.concatenate([[0], cuts, [batch]])).tolist()
    work = [_pool(threads).submit(kernel, first, last) for first, last in itertools.pairwise(bounds)]
    results = [share.result() for share in work]
    return all(results)


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="structures")


# The threads of a pool do not exist in a forked child, which would wait for them for ever.
os.register_at_fork(after_in_child=_pool.cache_clear)
