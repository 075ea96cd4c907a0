"""The processes of one run, started by ``torchrun``: each evaluates its share and tells the others the results.

Every process holds the whole model and draws the same random numbers; what they exchange are the members' fitness
values, in one all-gather a step. So all make the same update, bit for bit, however many they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor

from parser_vae.errors import ConfigError, LostProcessError

Item = TypeVar("Item")


@contextmanager
def joined_processes() -> Iterator[None]:
    """Join the other processes for the length of the block, where ``torchrun`` started this one; else do nothing."""
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        yield
        return
    distributed.init_process_group("gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def require_joined_processes() -> None:
    """Raise ``ConfigError`` where ``torchrun`` started this process for work that processes do not share."""
    if distributed.is_available() and distributed.is_torchelastic_launched() and not _joined():
        raise ConfigError("this command works in one process; leave torchrun out")


def process_count() -> int:
    """Return how many processes share the run."""
    return distributed.get_world_size() if _joined() else 1


def is_first() -> bool:
    """Return whether this process is the one that writes files and talks to the user."""
    return not _joined() or distributed.get_rank() == 0


def wait_for_all() -> None:
    """Return once every process has come here."""
    if process_count() > 1:
        with _loss_noticed():
            distributed.barrier()


def own_share(items: Sequence[Item]) -> list[Item]:
    """Return the items that this process is to work on, in order."""
    return list(items[distributed.get_rank() :: process_count()]) if _joined() else list(items)


def gathered(own: Sequence[Tensor], sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return the results of all items, given those of ``own_share`` (float64) and the shape of every item's."""
    count = process_count()
    if count == 1:
        return list(own)
    lengths = [sum(torch.Size(size).numel() for size in sizes[rank::count]) for rank in range(count)]
    message = torch.zeros(max(lengths), dtype=torch.float64)
    filled = torch.cat([torch.zeros(0, dtype=torch.float64), *(one.flatten() for one in own)])
    message[: len(filled)] = filled
    received = [torch.empty_like(message) for _ in range(count)]
    with _loss_noticed():
        distributed.all_gather(received, message)
    results: list[Tensor] = [message] * len(sizes)
    for rank, values in enumerate(received):
        position = 0
        for index in range(rank, len(sizes), count):
            length = torch.Size(sizes[index]).numel()
            results[index] = values[position : position + length].view(*sizes[index])
            position += length
    return results


def agreed(value: float) -> float:
    """Return the first process's ``value``, in every process."""
    if process_count() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    with _loss_noticed():
        distributed.broadcast(shared, 0)
    return float(shared)


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def _loss_noticed() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(
            f"process {distributed.get_rank()} of {distributed.get_world_size()} lost touch with another one, which "
            "ended or was killed; its own message says why. Nothing that was saved is lost: start again with "
            "--resume, on any number of processes"
        ) from error
