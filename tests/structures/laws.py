"""Laws every structure obeys, checked against plain enumeration. A new structure gets them all by one ``Instance``.

``Instance.objects(size, full)`` is the independent truth: every object of an item of ``size`` in a batch padded to
``full``. Everything else here is a sum over those objects.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from parser_vae.errors import InfeasibleError
from parser_vae.structures.base import Structure


@dataclass(frozen=True)
class Instance:
    """One structure and what the laws need to know of it.

    Attributes:
        name: Shown by pytest.
        structure: The structure under test.
        objects: ``(size, full) -> [count, *shape]`` (float64), by brute force.
        sizes: Sizes of the items of the test batch, the largest of them ``full``.
    """

    name: str
    structure: Structure
    objects: Callable[[int, int], Tensor]
    sizes: tuple[int, ...]

    @property
    def full(self) -> int:
        return max(self.sizes)

    @property
    def lengths(self) -> Tensor:
        return torch.tensor(self.sizes)

    @property
    def all_objects(self) -> list[Tensor]:
        return [self.objects(size, self.full) for size in self.sizes]

    def scores(self, seed: int = 0, unread: float = float("nan"), dtype: torch.dtype = torch.float64) -> Tensor:
        """Gaussian scores of the test batch; parts that no object of an item has (padding included) hold ``unread``."""
        shape = self.objects(self.full, self.full).shape[1:]
        scores = torch.randn(
            (len(self.sizes), *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        used = torch.stack([objects.amax(0) for objects in self.all_objects]) > 0
        return torch.where(used, scores, torch.full_like(scores, unread)).to(dtype)


def object_scores(objects: Tensor, scores: Tensor) -> Tensor:
    """The score of each object ``[count]`` of one item, by looking up the parts it has."""
    return torch.where(objects > 0, scores.double(), 0.0).flatten(1).sum(-1)


def truth(instance: Instance, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-partition ``[batch]``, marginals ``[batch, *shape]`` and entropy ``[batch]`` by enumeration."""
    log_partition, marginals, entropy = [], [], []
    for objects, item in zip(instance.all_objects, scores, strict=True):
        values = object_scores(objects, item)
        probability = values.softmax(0)
        log_partition.append(values.logsumexp(0))
        marginals.append((probability @ objects.flatten(1)).view(item.shape))
        entropy.append(-torch.xlogy(probability, probability).sum())
    return torch.stack(log_partition), torch.stack(marginals), torch.stack(entropy)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found.detach().double(), expected.double(), rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- the laws


def argmax_is_the_best_object(instance: Instance) -> None:
    for dtype in (torch.float32, torch.float64):
        for seed, scale in enumerate((1.0, 1.0, 1e-3, 1e4)):
            scores = instance.scores(seed, dtype=dtype) * scale
            check_argmax(instance, scores)
        check_argmax(instance, instance.scores(9, dtype=dtype).round())  # ties
        check_argmax(instance, instance.scores(9, dtype=dtype) * 0)


def check_argmax(instance: Instance, scores: Tensor) -> None:
    before = scores.clone()
    found = instance.structure.argmax(scores, instance.lengths)
    torch.testing.assert_close(scores, before, equal_nan=True, rtol=0, atol=0)
    assert found.dtype == scores.dtype and found.shape == scores.shape
    value = instance.structure.score(scores, found)
    for index, objects in enumerate(instance.all_objects):
        assert (objects == found[index]).flatten(1).all(-1).any(), "not an object of the structure"
        best = object_scores(objects, scores[index]).max()
        tolerance = 1e-6 if scores.dtype == torch.float32 else 1e-9
        torch.testing.assert_close(value[index].double(), best, rtol=tolerance, atol=tolerance)


def sums_equal_enumeration(instance: Instance) -> None:
    for scale in (1.0, 30.0):
        scores = instance.scores() * scale
        log_partition, marginals, _ = truth(instance, scores)
        close(instance.structure.log_partition(scores, instance.lengths), log_partition)
        close(instance.structure.marginals(scores, instance.lengths), marginals)


def derived_quantities_equal_enumeration(instance: Instance) -> None:
    structure, lengths = instance.structure, instance.lengths
    scores, other = instance.scores(1), instance.scores(2)
    log_partition, marginals, entropy = truth(instance, scores)
    close(structure.entropy(scores, lengths), entropy)
    counts = torch.tensor([float(len(objects)) for objects in instance.all_objects], dtype=torch.float64)
    close(structure.kl_to_uniform(scores, lengths), counts.log() - entropy)
    difference = torch.where(marginals > 0, scores - other, 0.0)
    divergence = (marginals * difference).flatten(1).sum(-1) - log_partition + truth(instance, other)[0]
    close(structure.kl(scores, other, lengths), divergence)
    found = structure.argmax(scores, lengths)
    close(structure.log_prob(scores, found, lengths), structure.score(scores, found) - log_partition)


def count_equals_enumeration(instance: Instance) -> None:
    counts = torch.tensor([float(len(objects)) for objects in instance.all_objects], dtype=torch.float64)
    close(instance.structure.log_count(instance.scores(), instance.lengths), counts.log())


def enumerate_lists_every_object(instance: Instance) -> None:
    expected = instance.objects(instance.full, instance.full)
    found = instance.structure.enumerate(tuple(expected.shape[1:]))
    assert found.dtype == torch.float64
    assert {tuple(o) for o in found.flatten(1).tolist()} == {tuple(o) for o in expected.flatten(1).tolist()}
    assert len(found) == len(expected)
    for size, objects in zip(instance.sizes, instance.all_objects, strict=True):
        padded = instance.structure.enumerate_padded(tuple(objects.shape[1:]), size)
        assert {tuple(o) for o in padded.flatten(1).tolist()} == {tuple(o) for o in objects.flatten(1).tolist()}
        assert len(padded) == len(objects)
    used = torch.stack([objects.amax(0) for objects in instance.all_objects]) > 0
    assert torch.equal(instance.structure.readable(instance.scores(), instance.lengths), used)


def samples_follow_the_distribution(instance: Instance) -> None:
    count = 4000
    scores = instance.scores(3)
    generator = torch.Generator().manual_seed(0)
    samples = instance.structure.sample(scores, instance.lengths, generator=generator, count=count)
    assert samples.shape == (count, *scores.shape) and samples.dtype == scores.dtype
    for index, objects in enumerate(instance.all_objects):
        expected = object_scores(objects, scores[index]).softmax(0) * count
        flat, wanted = samples[:, index].flatten(1), objects.flatten(1)
        code = torch.randn(wanted.shape[1], dtype=torch.float64, generator=generator)
        ranked, order = (wanted @ code).sort()
        position = torch.searchsorted(ranked, flat.double() @ code - 1e-9).clamp(max=len(ranked) - 1)
        assert torch.equal(wanted[order[position]], flat.double()), "a sample is not an object of the structure"
        observed = torch.bincount(order[position], minlength=len(objects)).double()
        rare = expected < 5
        bins = torch.cat([expected[~rare], expected[rare].sum()[None]])
        seen = torch.cat([observed[~rare], observed[rare].sum()[None]])
        bins, seen = bins[bins > 0], seen[bins > 0]
        statistic = float(((seen - bins) ** 2 / bins).sum())
        assert statistic <= chi2.isf(1e-5, max(len(bins) - 1, 1)), f"item {index}: chi-squared {statistic}"
    again = instance.structure.sample(scores, instance.lengths, generator=torch.Generator().manual_seed(0), count=count)
    assert torch.equal(samples, again)


def padding_and_order_change_nothing(instance: Instance, results: Callable[[Tensor, Tensor], Tensor]) -> None:
    scores, lengths = instance.scores(4), instance.lengths
    found = results(scores, lengths)
    assert found.isfinite().all()
    torch.testing.assert_close(results(instance.scores(4, unread=7.0), lengths), found, rtol=0, atol=0)
    order = torch.arange(len(lengths)).flip(0)
    close(results(scores[order], lengths[order]), found[order], 1e-12)
    for index in range(len(lengths)):
        alone = results(scores[index : index + 1], lengths[index : index + 1])
        close(alone, found[index : index + 1], 1e-12)
    whole = lengths == instance.full
    close(results(scores[whole], None), found[whole], 1e-12)


def gradients_are_right(instance: Instance, results: Callable[[Tensor, Tensor], Tensor]) -> None:
    scores = instance.scores(5)
    read = ~scores.isnan()

    def of_read(values: Tensor) -> Tensor:
        return results(scores.masked_scatter(read, values), instance.lengths)

    assert torch.autograd.gradcheck(of_read, scores[read].clone().requires_grad_(), atol=1e-6)


def gradient_is_the_marginals(instance: Instance) -> None:
    scores = instance.scores(6).requires_grad_()
    instance.structure.log_partition(scores, instance.lengths).sum().backward()
    close(scores.grad, truth(instance, scores.detach())[1])


def float32_agrees_with_float64(instance: Instance, results: Callable[[Tensor, Tensor], Tensor]) -> None:
    scores = instance.scores(7, dtype=torch.float32) * 3
    narrow, wide = results(scores, instance.lengths), results(scores.double(), instance.lengths)
    assert narrow.dtype == torch.float32 and wide.dtype == torch.float64
    close(narrow, wide, 2e-5)


def forbidden_parts_are_not_used(instance: Instance, sums: bool) -> None:
    structure, lengths = instance.structure, instance.lengths
    generator = torch.Generator().manual_seed(8)
    scores = instance.scores(8)
    for index, objects in enumerate(instance.all_objects):
        kept = objects[int(torch.randint(len(objects), (1,), generator=generator))] > 0
        forbidden = (torch.rand(kept.shape, generator=generator) < 0.4) & ~kept
        scores[index] = scores[index].masked_fill(forbidden, -torch.inf)
    check_argmax(instance, scores)
    if sums:
        log_partition, marginals, entropy = truth(instance, scores)
        close(structure.log_partition(scores, lengths), log_partition)
        close(structure.marginals(scores, lengths), marginals)
        close(structure.entropy(scores, lengths), entropy)
        leaf = scores.clone().requires_grad_()
        structure.log_partition(leaf, lengths).sum().backward()
        close(leaf.grad, marginals)


def infeasible_items_are_named(instance: Instance, search: Callable[[Tensor, Tensor], Tensor]) -> None:
    if any((objects == 0).flatten(1).all(-1).any() for objects in instance.all_objects):
        return  # the empty object cannot be forbidden
    scores = instance.scores(9)
    scores[2] = -torch.inf
    with pytest.raises(InfeasibleError, match=r"\b2\b.*-inf"):
        search(scores, instance.lengths)
