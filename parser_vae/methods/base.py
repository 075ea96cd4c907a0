"""What a method asks of a problem, and what it gives back.

A *problem* turns data into scores over a structure and judges a latent object; a *method* adds to ``.grad`` an
estimate of the gradient of the expected objective. The training loop zeroes gradients, clips and steps; a method
never does, so methods mix by weighted sums and freezing is ``requires_grad = False``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from parser_vae.structures.base import Capability, Structure

BatchT = TypeVar("BatchT")


@dataclass(frozen=True)
class Touched:
    """A parameter that the objective depends on.

    Attributes:
        name: Its name within the problem's module, stable across runs.
        parameter: The parameter itself.
        rows: The rows that this batch reads ``[rows]``, for an embedding; None means all of it.
    """

    name: str
    parameter: nn.Parameter
    rows: Tensor | None = None


class Problem(Protocol[BatchT]):
    """Scores over a structure and a judgement of latent objects; parsing, images and graphs each provide one.

    Every method of a problem is without randomness, and draws no conclusion from gradient mode: whether gradients
    are recorded is the caller's choice.
    """

    @property
    def module(self) -> nn.Module:
        """The network."""

    @property
    def structure(self) -> Structure:
        """The structure that is searched."""

    def touched(self, batch: BatchT) -> list[Touched]:
        """Return the parameters the objective depends on, in a fixed order; frozen ones are left out."""
        ...

    def lengths(self, batch: BatchT) -> Tensor | None:
        """Return the size of each item ``[batch]`` where the batch mixes sizes."""
        ...

    def scores(self, batch: BatchT) -> Tensor:
        """Return the scores of all parts ``[batch, *shape]``."""
        ...

    def reconstruction(self, batch: BatchT, latent: Tensor) -> Tensor:
        """Return the loss ``[batch]`` of the data given hard or soft parts ``[batch, *shape]``; lower is better."""
        ...

    def population_reconstruction(self, batch: BatchT, latents: Sequence[Tensor]) -> Tensor:
        """Return ``reconstruction`` of each of several hard latents of one batch ``[members, batch]``.

        Differentiable in the reconstruction's parameters, not in the latents; shares between members what it can.
        """
        ...

    def reconstruction_is_shared(self, batch: BatchT) -> bool:
        """Return whether no touched parameter enters ``reconstruction``, so that members can share its work."""
        ...

    def features(self, batch: BatchT) -> Tensor:
        """Return a fixed-size description ``[batch, features]`` of each item's data, for learned baselines.

        Without gradient, and independent of the latent.
        """
        ...

    def divergence(self, batch: BatchT, scores: Tensor) -> Tensor | None:
        """Return the divergence term ``[batch]`` of these scores, or None where the objective has none."""
        ...

    def replica(self) -> Problem[BatchT]:
        """Return a problem whose touched parameters are its own, for evaluation in another thread."""
        ...


@dataclass(frozen=True)
class Estimate:
    """What ``backward`` reports: the objective's value and how it was come by.

    Attributes:
        objective: Mean objective per item under the method's own sampling, in nats.
        evaluations: How often the reconstruction of an item was evaluated.
        metrics: Anything else worth logging, by name.
    """

    objective: float
    evaluations: int
    metrics: dict[str, float] = field(default_factory=dict)


class Method(ABC, Generic[BatchT]):
    """A way of getting a gradient past an argmax.

    Attributes:
        name: What ``--method`` calls it.
        requires: What it asks of the structure.
        state: What the method itself learns or counts: parameters (a baseline, a temperature), to whose ``.grad``
            ``backward`` adds as well, and buffers (a running mean, the number of updates so far). The loop trains the
            one and saves both. None for a method that remembers nothing.
    """

    name: str
    requires: frozenset[Capability]
    state: nn.Module | None = None

    @abstractmethod
    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add ``weight`` times the estimated gradient to ``.grad`` of the touched parameters and return the estimate.

        The same generator state gives the same gradient.
        """

    def check(self, problem: Problem[BatchT]) -> None:
        """Raise ``IncompatibleError`` naming what is missing unless the problem's structure can serve this method."""
        problem.structure.require(self.requires, f"the method '{self.name}'")
