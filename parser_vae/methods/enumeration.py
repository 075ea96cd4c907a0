"""Enumeration: the exact gradient, by judging every object; the yardstick of all other methods."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from parser_vae.errors import IncompatibleError
from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.differentiable import backpropagate
from parser_vae.structures.base import Capability, Structure
from parser_vae.structures.padding import require_feasible

EVALUATIONS_AT_ONCE = 8192
"""How many reconstructions are evaluated in one go; bounds memory."""


@runtime_checkable
class Tabulated(Protocol):
    """A problem that judges all items of a batch under the same objects at once."""

    def table(self, batch: Any, codes: Tensor) -> Tensor:
        """Return the reconstruction ``[batch, objects]`` of every item under each of ``codes [objects, *shape]``."""
        ...


@dataclass(frozen=True)
class Enumeration(Method[BatchT]):
    """The exact gradient of ``E_{p(z)}[reconstruction] + divergence`` under ``p(z) = exp(<scores, z>) / Z``.

    Attributes:
        max_objects: Refuse items that have more objects than this.
    """

    max_objects: int = 65_536

    name = "enumeration"
    requires = frozenset({Capability.ENUMERATE, Capability.COUNT})

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the exact gradient of the mean objective over the batch; see the class.

        Raises:
            IncompatibleError: An item has more than ``max_objects`` objects.
        """
        scores, lengths = problem.scores(batch), problem.lengths(batch)
        objects = AllObjects.of(problem.structure, scores.detach(), lengths, self.max_objects)
        probabilities = objects.scores(scores).log_softmax(0).exp()
        items = len(scores)
        losses = []
        for start, found in objects.judged(problem, batch):
            # only the last part keeps its graph, which bounds memory; its gradient comes with that of the scores
            if found.requires_grad and start + len(found) < len(probabilities):
                held = probabilities[start : start + len(found)].detach().to(found.dtype)
                (weight * (held * found).sum() / items).backward()
                found = found.detach()
            losses.append(found)
        expected = (probabilities * torch.cat(losses).to(probabilities.dtype)).sum(0)
        objective = backpropagate(problem, batch, scores, expected, weight)
        return Estimate(objective, evaluations=len(probabilities) * items)


@dataclass(frozen=True)
class AllObjects:
    """Every object of every item of a batch; items of the same length share theirs.

    Attributes:
        tables: The objects of each distinct length ``[lengths, most, *shape]``; where a length has fewer than
            ``most``, the remaining rows are all 0.
        counts: How many objects each length has ``[lengths]``.
        which: Which of the lengths each item has ``[batch]``.
    """

    tables: Tensor
    counts: Tensor
    which: Tensor

    @classmethod
    def of(cls, structure: Structure, scores: Tensor, lengths: Tensor | None, limit: int) -> AllObjects:
        """Return all objects of a batch with these ``scores [batch, *shape]``.

        Raises:
            IncompatibleError: An item has more than ``limit`` objects.
        """
        largest = float(structure.log_count(scores, lengths).max())
        if largest > math.log(limit) + 1e-3:
            raise IncompatibleError(
                f"an item of the batch has about 10^{largest / math.log(10):.1f} objects ({structure.name}), too many "
                f"to judge them all (the limit is {limit}); choose a method that searches or samples"
            )
        shape = tuple(scores.shape[1:])
        if lengths is None:
            found, which = [structure.enumerate(shape)], torch.zeros(len(scores), dtype=torch.int64)
        else:
            distinct, which = lengths.cpu().unique(return_inverse=True)
            found = [structure.enumerate_padded(shape, int(length)) for length in distinct]
        counts = torch.tensor([len(table) for table in found])
        tables = torch.zeros(len(found), int(counts.max()), *shape, dtype=scores.dtype)
        for padded, table in zip(tables, found, strict=True):
            padded[: len(table)] = table
        return cls(tables.to(scores.device), counts.to(scores.device), which.to(scores.device))

    def scores(self, scores: Tensor) -> Tensor:
        """Return the score ``[most, batch]`` of every object, differentiable; ``-inf`` beyond an item's own.

        Raises:
            InfeasibleError: ``-inf`` scores forbid every object of an item.
        """
        totals = []
        alone = len(self.tables) == 1
        for index, table in enumerate(self.tables):
            parts = table.flatten(1)
            # picking rows would cost more in the backward pass than all else here
            own = (scores if alone else scores[self.which == index]).flatten(1)
            if bool(own.isfinite().all()):
                total = own @ parts.T
            else:
                own = torch.where((parts != 0).any(0), own, 0.0)  # padding may hold anything
                forbidden = own == -torch.inf
                total = own.masked_fill(forbidden, 0.0) @ parts.T
                total = total.masked_fill(forbidden.to(parts.dtype) @ parts.T > 0, -torch.inf)
            if not alone:
                beyond = torch.arange(parts.shape[0], device=parts.device) >= self.counts[index]
                total = total.masked_fill(beyond, -torch.inf)
            totals.append(total)
        every = totals[0].T if alone else torch.cat(totals)[self.which.argsort(stable=True).argsort(stable=True)].T
        require_feasible((every > -torch.inf).any(0), "every object")
        return every

    def judged(self, problem: Problem[BatchT], batch: BatchT) -> Iterator[tuple[int, Tensor]]:
        """Yield the index of a first object and the reconstruction ``[objects, batch]`` of some from there on."""
        size = max(1, EVALUATIONS_AT_ONCE // len(self.which))
        table = problem.table if len(self.tables) == 1 and isinstance(problem, Tabulated) else None
        for start in range(0, self.tables.shape[1], size):
            members = self.tables[:, start : start + size]
            if table is not None:
                yield start, table(batch, members[0]).T
            else:
                yield start, problem.population_reconstruction(batch, list(members[self.which].unbind(1)))

    def pick(self, index: Tensor) -> Tensor:
        """Return one object of each item ``[batch, *shape]`` by its ``index [batch]``."""
        return self.tables[self.which, index]
