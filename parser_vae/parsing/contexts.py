# mypy: disable-error-code="no-untyped-call, untyped-decorator"
"""Many trees of the same sentences judged at once, each distinct left context only once.

The language model's LSTM does not depend on the tree, and its prediction at a step only on which words to the left
send messages there; of a population's trees, few per cent of the steps differ in that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

ROWS = 512  # contexts judged together; a fixed number, so that a context's loss does not depend on the others


Judge = Callable[[Tensor, Tensor, Tensor], Tensor]


def distinct_losses(trees: Tensor, mask: Tensor, shift: int, judge: Judge) -> Tensor:
    """Return the mean loss per step ``[members, batch]`` of 0/1 trees ``[members, batch, head, dependent]``.

    Steps of the same sentence that receive messages from the same senders are judged once. They are recognised by
    sums of random 64-bit keys: among a million distinct ones, two agree by chance once in 37 million batches.

    Args:
        trees: Many trees of each sentence.
        mask: Which steps count ``[batch, steps]``.
        shift: Step ``i`` receives along the arcs of word ``i + shift``.
        judge: Gives the losses ``[rows]`` of rows of members, sentences and steps.
    """
    members, sentences = trees.shape[:2]
    steps = mask.shape[1]
    generator = torch.Generator().manual_seed(0)
    sender_keys = torch.randint(-(2**62), 2**62, (2, trees.shape[-1]), generator=generator).numpy()
    place_keys = torch.randint(-(2**62), 2**62, (sentences, steps), generator=generator).numpy()
    keys = np.empty((members, sentences, steps), np.int64)
    _keys_of_senders(trees.to(torch.bool).contiguous().cpu().numpy(), shift, sender_keys, place_keys, keys)
    numbers = np.empty(keys.shape, np.int32)
    table = np.zeros(1 << int(2 * keys.size).bit_length(), np.int32)
    examples = np.empty(keys.size, np.int64)
    count = _number_distinct(
        keys.reshape(members, -1), mask.cpu().numpy().reshape(-1), table, numbers.reshape(members, -1), examples
    )
    member, place = np.divmod(examples[:count], sentences * steps)
    sentence, step = np.divmod(place, steps)
    # the last part is filled up with repetitions: products of another size may round differently
    filled = np.arange(-(-count // ROWS) * ROWS) % count
    rows = torch.from_numpy(np.stack([member, sentence, step])[:, filled]).to(trees.device)
    losses = torch.cat([judge(*part) for part in rows.split(ROWS, 1)])
    if losses.requires_grad:
        index = torch.from_numpy(numbers).to(torch.int64).clamp_(min=0)
        return (losses[index] * mask).sum(-1) / mask.sum(-1)
    totals = np.empty((members, sentences))
    _sum_losses(losses.double().cpu().numpy(), numbers, totals)
    return (torch.from_numpy(totals).to(trees.device) / mask.sum(-1)).to(losses.dtype)


@numba.njit(cache=True, nogil=True)
def _keys_of_senders(trees: Any, shift: Any, sender_keys: Any, place_keys: Any, keys: Any) -> None:
    """Fill ``keys [members, batch, steps]`` with the place's key plus those of the words that send messages there."""
    steps = keys.shape[2]
    for member in range(trees.shape[0]):
        for sentence in range(trees.shape[1]):
            line = keys[member, sentence]
            line[:] = place_keys[sentence]
            tree = trees[member, sentence]
            for head in range(tree.shape[0]):
                for dependent in range(1, tree.shape[1]):
                    if tree[head, dependent]:
                        step = max(head, dependent) - shift
                        if 0 <= step < steps:
                            line[step] += sender_keys[0, head] if head < dependent else sender_keys[1, dependent]


@numba.njit(cache=True, nogil=True)
def _number_distinct(keys: Any, mask: Any, table: Any, numbers: Any, examples: Any) -> Any:
    """Return how many distinct keys there are where ``mask``, after numbering them and noting an example of each.

    ``table`` is a power of two large and all 0; ``numbers`` becomes -1 where not ``mask``.
    """
    count = 0
    last = np.int64(len(table) - 1)
    for member in range(keys.shape[0]):
        for place in range(keys.shape[1]):
            if not mask[place]:
                numbers[member, place] = -1
                continue
            key = keys[member, place]
            slot = (key ^ (key >> 29)) & last
            while True:
                entry = table[slot]
                if entry == 0:
                    table[slot] = count + 1
                    examples[count] = member * keys.shape[1] + place
                    numbers[member, place] = count
                    count += 1
                    break
                example = examples[entry - 1]
                if keys[example // keys.shape[1], example % keys.shape[1]] == key:
                    numbers[member, place] = entry - 1
                    break
                slot = (slot + 1) & last
    return count


@numba.njit(cache=True, nogil=True)
def _sum_losses(losses: Any, numbers: Any, totals: Any) -> None:
    for member in range(numbers.shape[0]):
        for sentence in range(numbers.shape[1]):
            total = 0.0
            for number in numbers[member, sentence]:
                if number >= 0:
                    total += losses[number]
            totals[member, sentence] = total
