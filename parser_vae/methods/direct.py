"""Direct optimisation: two searches under the same noise, one of them with the loss in its scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from parser_vae.errors import IncompatibleError
from parser_vae.methods.annealing import Annealing, Schedule
from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.differentiable import backpropagate, reconstruction_slope
from parser_vae.methods.enumeration import AllObjects
from parser_vae.structures.base import Capability, Structure
from parser_vae.structures.binary import Binary, PairwiseBinary, bit_count, with_products
from parser_vae.structures.categorical import Categorical

Approximation = Literal["auto", "linear", "coordinate", "enumerate"]
Difference = Literal["towards", "away", "symmetric"]


@dataclass(eq=False)
class Direct(Method[BatchT]):
    """An approximate gradient of ``E_noise[reconstruction(argmax(scores + noise))]``, plus that of the divergence.

    Lorberbom et al. (2019): with ``z = argmax(h + noise)`` and ``z_eps = argmax(h + noise - epsilon * loss)``, the
    gradient in ``h`` is the limit of ``E[z - z_eps] / epsilon`` as epsilon goes to 0 (their theorem 1). The decoder's
    is that of the reconstruction at ``z``.

    Attributes:
        epsilon: Weight of the loss in the second search, at the first update. Bias falls with it; variance grows.
        floor: The lowest epsilon.
        rate: How fast it falls: ``max(floor, epsilon * exp(-rate * updates))``; 0 keeps it.
        every: Updates between two changes of epsilon.
        difference: ``towards``: the second search prefers low losses; ``away``: high ones (a negative epsilon);
            ``symmetric``: both, and half their difference, with a bias of order epsilon squared.
        loss: What stands for the loss in the second search. ``enumerate``: the loss of every object, exact. ``linear``:
            the slope of the reconstruction at ``z``, part by part; exact where losses add up over parts.
            ``coordinate``: the change of the loss where one bit of ``z`` is flipped; exact where they add up over bits.
            ``auto``: enumerate for a categorical latent, coordinate for bits, linear for anything else.
        max_objects: ``enumerate`` refuses items that have more objects than this.
    """

    epsilon: float = 1.0
    floor: float = 0.1
    rate: float = 0.0
    every: int = 500
    difference: Difference = "towards"
    loss: Approximation = "auto"
    max_objects: int = 65_536
    state: Annealing = field(init=False, repr=False)

    name = "direct"
    requires = frozenset({Capability.ARGMAX})

    def __post_init__(self) -> None:
        self.state = Annealing(Schedule(self.epsilon, self.floor, self.rate, self.every))

    def check(self, problem: Problem[BatchT]) -> None:
        """Raise ``IncompatibleError`` also where the structure cannot serve the chosen approximation of the loss."""
        super().check(problem)
        structure = problem.structure
        if self.loss == "coordinate" and not isinstance(structure, Binary | PairwiseBinary):
            raise IncompatibleError(
                f"direct.loss = coordinate flips one bit at a time, and the structure '{structure.name}' is not made "
                "of bits; choose linear, or enumerate where there are few objects"
            )
        if self.loss == "enumerate":
            structure.require(frozenset({Capability.ENUMERATE, Capability.COUNT}), "direct.loss = enumerate")

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the approximate gradient of the mean objective over the batch; see the class.

        Raises:
            IncompatibleError: An item has more than ``max_objects`` objects, and all were to be judged.
        """
        structure, lengths = problem.structure, problem.lengths(batch)
        epsilon = self.state.advance()
        scores = problem.scores(batch)
        noisy = scores.detach() + structure.noise(scores, generator)
        best = structure.argmax(noisy, lengths)
        augmented: _ByParts | _ByObjects
        loss = automatic(structure) if self.loss == "auto" else self.loss
        if loss == "linear":
            losses, slope = reconstruction_slope(problem, batch, best, weight)
            augmented = _ByParts(structure, lengths, noisy, slope, members=0)
        else:
            losses = problem.reconstruction(batch, best)
            judge = self._by_bits if loss == "coordinate" else self._by_objects
            augmented = judge(problem, batch, noisy, best, losses.detach())
        ahead = best if self.difference == "away" else augmented.search(-epsilon)
        behind = best if self.difference == "towards" else augmented.search(epsilon)
        width = 2 * epsilon if self.difference == "symmetric" else epsilon
        surrogate = structure.score(scores, (behind - ahead) / width)
        moved = float((behind != ahead).flatten(1).any(1).double().mean())
        return Estimate(
            backpropagate(problem, batch, scores, losses, weight, surrogate),
            evaluations=(1 + augmented.members) * len(scores),
            metrics={"moved": moved, "epsilon": epsilon},
        )

    @torch.no_grad()
    def _by_bits(
        self, problem: Problem[BatchT], batch: BatchT, noisy: Tensor, best: Tensor, losses: Tensor
    ) -> _ByParts:
        """Return the search where each bit costs what flipping it in ``best`` changes."""
        flipped = flips(problem.structure, best)
        bits = len(flipped)
        rise = (problem.population_reconstruction(batch, flipped) - losses).to(noisy.dtype).T
        costs = torch.nn.functional.pad(rise * (1 - 2 * best[:, :bits]), (0, noisy.shape[1] - bits))
        return _ByParts(problem.structure, problem.lengths(batch), noisy, costs, members=bits)

    @torch.no_grad()
    def _by_objects(
        self, problem: Problem[BatchT], batch: BatchT, noisy: Tensor, best: Tensor, losses: Tensor
    ) -> _ByObjects:
        """Return the search among all objects, each with its own loss."""
        objects = AllObjects.of(problem.structure, noisy, problem.lengths(batch), self.max_objects)
        every = torch.cat([losses for _, losses in objects.judged(problem, batch)])
        return _ByObjects(objects, objects.scores(noisy), every.to(noisy.dtype))


@dataclass(frozen=True)
class _ByParts:
    """A search among all objects where each part has a cost ``[batch, *shape]``."""

    structure: Structure
    lengths: Tensor | None
    scores: Tensor
    costs: Tensor
    members: int

    def search(self, weight: float) -> Tensor:
        """Return the best objects ``[batch, *shape]`` once ``weight`` times the costs is added to the scores."""
        return self.structure.argmax(self.scores + weight * self.costs, self.lengths)


@dataclass(frozen=True)
class _ByObjects:
    """A search among enumerated objects, each with its score and its loss ``[objects, batch]``."""

    objects: AllObjects
    scores: Tensor
    losses: Tensor

    @property
    def members(self) -> int:
        return len(self.losses)

    def search(self, weight: float) -> Tensor:
        """Return the best objects ``[batch, *shape]`` once ``weight`` times the losses is added to the scores."""
        return self.objects.pick((self.scores + weight * self.losses).argmax(0))


def automatic(structure: Structure) -> Approximation:
    """Return the approximation of the loss that suits a structure."""
    if isinstance(structure, Categorical):
        return "enumerate"
    return "coordinate" if isinstance(structure, Binary | PairwiseBinary) else "linear"


def flips(structure: Structure, latent: Tensor) -> list[Tensor]:
    """Return the latents ``[batch, parts]`` that differ from this one in one bit, bit by bit."""
    bits = bit_count(latent.shape[1]) if isinstance(structure, PairwiseBinary) else latent.shape[1]
    flipped = []
    for bit in range(bits):
        other = latent[:, :bits].clone()
        other[:, bit] = 1 - other[:, bit]
        flipped.append(with_products(other) if isinstance(structure, PairwiseBinary) else other)
    return flipped
