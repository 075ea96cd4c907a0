"""The losses of a population: many perturbed networks, or many perturbed scores, on one batch.

A population is cut into groups of members, whose size depends on the memory allowed and nothing else, so that every
number comes out the same whatever the count of threads or processes that share the groups. A group gives scores
``[members, batch, *shape]``; noise, search and judgement are the same for all kinds of groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from parser_vae.methods.base import BatchT, Problem, Touched
from parser_vae.methods.perturbation import Perturbation, Perturbed, assign, values_of

Parameters = Mapping[str, Perturbed]
SCORED_TOGETHER = 16  # with more members that differ in their scores alone, these leave the cache


@runtime_checkable
class PopulationScores(Protocol):
    """A problem that scores all members of a group together; see ``vmapped`` for an easy way to be one."""

    def population_scores(self, batch: Any, parameters: Parameters) -> Tensor | None:
        """Return the scores ``[members, batch, *shape]``, or None where these parameters call for the member loop.

        May be called from several threads, on replicas.
        """
        ...

    def population_size(self, batch: Any, memory: int) -> int:
        """Return how many members to score together: no more than fit ``memory`` bytes, nor than runs fastest."""
        ...


@runtime_checkable
class PopulationLosses(Protocol):
    """A problem that can also judge all members together where perturbed parameters enter the reconstruction."""

    def population_losses(self, batch: Any, parameters: Parameters, latents: Tensor) -> Tensor:
        """Return the reconstruction ``[members, batch]`` of one hard latent each ``[members, batch, *shape]``."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """A problem in which no item's scores and losses depend on the other items of its batch."""

    def divided(self, batch: Any) -> Sequence[Any]:
        """Return the batch in parts ``len(part)`` items long, which depend on nothing but the batch."""
        ...


class Group(ABC, Generic[BatchT]):
    """Some members of a population."""

    @abstractmethod
    def scores(self, problem: Problem[BatchT], batch: BatchT) -> Tensor:
        """Return the scores of each member ``[members, batch, *shape]``, on a problem that this thread owns."""

    @abstractmethod
    def losses(self, problem: Problem[BatchT], batch: BatchT, latents: Tensor) -> Tensor:
        """Return the reconstruction ``[draws, members, batch]`` of latents ``[draws, members, batch, *shape]``."""


class ScoreDirections:
    """The standard normal directions of seeds, shaped like the scores.

    Args:
        centre: The scores ``[batch, *shape]``.
        count: How many directions there are.
        memory: Bytes; directions that fit are kept, else each is drawn again whenever it is asked for.
    """

    def __init__(self, centre: Tensor, count: int, memory: int) -> None:
        self.centre = centre
        self._kept: dict[int, Tensor] = {}
        self._keeps = count * centre.numel() * centre.element_size() <= memory

    def of(self, seed: int) -> Tensor:
        """Return the direction ``[batch, *shape]`` of a seed; not to be changed."""
        found = self._kept.get(seed)
        if found is None:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randn(self.centre.shape, generator=generator, dtype=self.centre.dtype)
            found = drawn.to(self.centre.device)
            if self._keeps:
                self._kept[seed] = found
        return found


@dataclass(frozen=True)
class ScoreGroup(Group[BatchT]):
    """Members that differ in the scores alone: centre ``+- sigma * direction``, a seed for each pair."""

    directions: ScoreDirections
    sigma: float
    seeds: Sequence[int]

    def scores(self, problem: Problem[BatchT], batch: BatchT) -> Tensor:
        """Return the centre's scores with noise added and subtracted, pair by pair."""
        centre = self.directions.centre
        result = centre.new_empty(2 * len(self.seeds), *centre.shape)
        for pair, seed in enumerate(self.seeds):
            direction = self.directions.of(seed)
            torch.add(centre, direction, alpha=self.sigma, out=result[2 * pair])
            torch.sub(centre, direction, alpha=self.sigma, out=result[2 * pair + 1])
        return result

    def losses(self, problem: Problem[BatchT], batch: BatchT, latents: Tensor) -> Tensor:
        """Return the reconstruction of all, which shares its parameters."""
        return shared_losses(problem, batch, latents)


class ParameterGroup(Group[BatchT]):
    """Members that differ in their parameters, a seed for each pair.

    Where losses need the parameters again they are kept from ``scores`` to ``losses``.
    """

    def __init__(self, perturbation: Perturbation, seeds: Sequence[int]) -> None:
        self.perturbation = perturbation
        self.seeds = seeds
        self._kept: Parameters | None = None

    def scores(self, problem: Problem[BatchT], batch: BatchT) -> Tensor:
        """Return the scores of all members at once where the problem can, else of one after the other."""
        parameters = self.perturbation.group(self.seeds)
        self._kept = None if problem.reconstruction_is_shared(batch) else parameters
        if isinstance(problem, PopulationScores):
            scores = problem.population_scores(batch, parameters)
            if scores is not None:
                return scores
        return self._one_by_one(problem, batch, parameters, lambda member: problem.scores(batch))

    def losses(self, problem: Problem[BatchT], batch: BatchT, latents: Tensor) -> Tensor:
        """Return the reconstruction by each member's own parameters where they enter it."""
        if problem.reconstruction_is_shared(batch):
            return shared_losses(problem, batch, latents)
        parameters, self._kept = self._kept or self.perturbation.group(self.seeds), None
        if isinstance(problem, PopulationLosses):
            return torch.stack([problem.population_losses(batch, parameters, draw) for draw in latents])
        return self._one_by_one(
            problem,
            batch,
            parameters,
            lambda member: torch.stack([problem.reconstruction(batch, draw[member]) for draw in latents]),
        ).transpose(0, 1)

    def _one_by_one(
        self, problem: Problem[BatchT], batch: BatchT, parameters: Parameters, value: Callable[[int], Tensor]
    ) -> Tensor:
        wanted = {item.name for item in self.perturbation.touched}
        touched = [item for item in problem.touched(batch) if item.name in wanted]
        former = [values_of(item) for item in touched]
        results = []
        for member in range(2 * len(self.seeds)):
            for item in touched:
                assign(item, parameters[item.name].member(member))
            results.append(value(member))
        for item, centre in zip(touched, former, strict=True):
            assign(item, centre)
        return torch.stack(results)


def shared_losses(problem: Problem[BatchT], batch: BatchT, latents: Tensor) -> Tensor:
    """Return the reconstruction ``[draws, members, batch]`` of latents that one set of parameters judges."""
    losses = problem.population_reconstruction(batch, list(latents.flatten(0, 1)))
    return losses.view(latents.shape[0], latents.shape[1], -1)


def evaluate(
    problem: Problem[BatchT],
    batch: BatchT,
    groups: Sequence[Group[BatchT]],
    noise: Sequence[Tensor],
    *,
    divergence: bool,
    workers: int,
    memory: int,
) -> list[Tensor]:
    """Return, for each group, the objective ``[members, batch]`` (float64), NaN where scores are not finite.

    Args:
        problem: The problem; each worker gets a replica.
        batch: The data.
        groups: The members.
        noise: Draws of noise on the scores, each shaped like them and shared by all members; losses are their mean.
        divergence: Whether the divergence of the scores is added.
        workers: Threads; the result does not depend on it.
        memory: Bytes that latents waiting to be judged may take.
    """
    shared = problem.reconstruction_is_shared(batch) or all(isinstance(group, ScoreGroup) for group in groups)
    replicas = [problem.replica() for _ in range(workers)] if workers > 1 else [problem]
    threads = torch.get_num_threads()

    def search(replica: Problem[BatchT], group: Group[BatchT]) -> _Searched:
        with torch.no_grad():
            found = _search(replica, batch, group, noise, divergence)
            return found if shared else found.judged(group.losses(replica, batch, found.latents.to(noise[0].dtype)))

    results: list[Tensor] = []
    waiting: list[_Searched] = []

    def judge() -> None:
        if waiting and shared:
            latents = torch.cat([found.latents for found in waiting], 1)
            losses = shared_losses(problem, batch, latents).split([found.latents.shape[1] for found in waiting], 1)
            waiting[:] = [found.judged(loss) for found, loss in zip(waiting, losses, strict=True)]
        results.extend(found.fixed for found in waiting)
        waiting.clear()

    try:
        # members run side by side, so each thread's own products must not be spread over the cores again
        with torch.no_grad(), ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for start in range(0, len(groups), workers):
                some = groups[start : start + workers]
                jobs = [pool.submit(search, *pair) for pair in zip(replicas, some, strict=False)]
                waiting += [job.result() for job in jobs]
                if sum(found.latents.numel() for found in waiting) > memory:
                    judge()
            judge()
    finally:
        torch.set_num_threads(threads)
    return results


@dataclass(frozen=True)
class _Searched:
    """A group's latents ``[draws, members, batch, *shape]`` (bool), and the known part of its objective."""

    latents: Tensor
    fixed: Tensor

    def judged(self, losses: Tensor) -> _Searched:
        return _Searched(self.latents[:0], self.fixed + losses.double().mean(0))


def _search(
    problem: Problem[BatchT], batch: BatchT, group: Group[BatchT], noise: Sequence[Tensor], divergence: bool
) -> _Searched:
    scores = group.scores(problem, batch)
    members, items = scores.shape[:2]
    fixed = torch.zeros(members, items, dtype=torch.float64, device=scores.device)
    finite = torch.isfinite(scores.flatten(1).sum(1))
    if divergence:
        for member in range(members):
            value = problem.divergence(batch, scores[member]) if bool(finite[member]) else None
            if value is not None:
                fixed[member] = value.double()
    if not bool(finite.all()):
        fixed[~finite] = torch.nan
        scores[~finite] = 0.0
    lengths = problem.lengths(batch)
    repeated = None if lengths is None else lengths.repeat(members)
    latents = torch.empty(len(noise), *scores.shape, dtype=torch.bool, device=scores.device)
    for draw, found in zip(noise, latents, strict=True):
        found.copy_(problem.structure.argmax((scores + draw).flatten(0, 1), repeated).view(scores.shape))
    return _Searched(latents, fixed)


def pairs_in_a_group(
    problem: Problem[BatchT], batch: BatchT, scores: Tensor, touched: Sequence[Touched], memory: int
) -> int:
    """Return how many mirrored pairs to evaluate together: at least 1, else no more than fit ``memory`` bytes.

    Args:
        problem: Has a say, if it scores members together.
        batch: The data.
        scores: Shaped and typed like one member's scores.
        touched: The perturbed parameters; none where the scores are perturbed.
        memory: Bytes.
    """
    values = 4 * scores.numel() + 3 * sum(values_of(item).numel() for item in touched)
    members = memory // (values * scores.element_size())
    if not touched:
        members = min(members, SCORED_TOGETHER)
    elif isinstance(problem, PopulationScores):
        members = min(members, problem.population_size(batch, memory))
    return max(1, members // 2)


def vmapped(
    problem: Problem[BatchT], function: Callable[..., Tensor], parameters: Parameters, *inputs: Tensor
) -> Tensor:
    """Return ``function(*inputs)`` for every member ``[members, ...]``, run once with batched parameters.

    What ``function`` does with the problem's module must be within the reach of ``torch.func.vmap``: linear layers,
    elementwise functions, sums. It sees the module with a member's parameters in place.

    Args:
        problem: Its module's parameters are replaced; not thread-safe, so each thread needs a replica of its own.
        function: Uses ``problem.module``, for example ``lambda: problem.scores(batch)``.
        parameters: The perturbed parameters by name.
        inputs: Further arguments, one for each member ``[members, ...]``.
    """
    carrier = _Carrier(problem.module, function)
    values = {f"module.{name}": _whole(problem.module, name, one) for name, one in parameters.items()}

    def member(changed: dict[str, Tensor], *arguments: Tensor) -> Tensor:
        return torch.func.functional_call(carrier, changed, arguments)

    return torch.func.vmap(member)(values, *inputs)


class _Carrier(nn.Module):
    """A module whose forward pass is a function that uses another module, so that its parameters can be replaced."""

    def __init__(self, module: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def _whole(module: nn.Module, name: str, perturbed: Perturbed) -> Tensor:
    members = perturbed.members()
    if perturbed.rows is None:
        return members
    whole = module.get_parameter(name).detach().expand(len(members), *module.get_parameter(name).shape).clone()
    whole[:, perturbed.rows] = members
    return whole
