"""Run a compiled kernel over a batch on several threads.

Kernels release the interpreter lock, so plain threads suffice; numba's own parallel loops would add seconds of
compilation and a threading layer that does not survive concurrent callers. As many threads are used as torch uses.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

_SHARES_PER_THREAD = 4
_WORTHWHILE = 200_000.0

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


# The threads of a pool do not exist in a forked child, which would wait for them for ever.
os.register_at_fork(after_in_child=_forget_pool)


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
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="structures")
    shares = threads * _SHARES_PER_THREAD
    cuts = np.searchsorted(total, total[-1] * np.arange(1, shares) / shares)
    bounds = np.unique(np.concatenate([[0], cuts, [batch]])).tolist()
    work = [_pool.submit(kernel, first, last) for first, last in itertools.pairwise(bounds)]
    results = [share.result() for share in work]
    return all(results)
