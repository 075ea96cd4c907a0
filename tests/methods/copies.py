"""One item many times in one batch: every item is an independent draw of a method's gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from parser_vae.methods import Method, Touched
from parser_vae.structures.base import Structure

NOTHING = torch.zeros(0)


class Copies:
    """Scores and a decoder for each of ``count`` copies of an item; ``f = l + l^2`` for ``l = <decoder, z>``.

    ``target`` makes it ``f = (z - target)^2`` instead, the toy of Tucker et al. (2017).
    """

    def __init__(
        self,
        structure: Structure,
        shape: tuple[int, ...],
        count: int,
        size: int | None = None,
        target: float | None = None,
        scores: Tensor | None = None,
    ) -> None:
        generator = torch.Generator().manual_seed(5)
        self.structure, self.shape, self.count, self.size, self.target = structure, shape, count, size, target
        drawn = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        self.module = nn.Module()
        start = 0.7 * drawn[0] if scores is None else scores
        self.module.scores = nn.Parameter(start.expand(count, *shape).clone())
        self.module.decoder = nn.Parameter(0.5 * drawn[1].expand(count, *shape).clone())
        self.module.frozen = nn.Parameter(torch.ones(1, dtype=torch.float64), requires_grad=False)

    def touched(self, batch: Tensor) -> list[Touched]:
        return [Touched(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def lengths(self, batch: Tensor) -> Tensor | None:
        return None if self.size is None else torch.full((self.count,), self.size)

    def scores(self, batch: Tensor) -> Tensor:
        return self.module.scores * self.module.frozen

    def reconstruction(self, batch: Tensor, latent: Tensor) -> Tensor:
        return self.population_reconstruction(batch, [latent])[0]

    def population_reconstruction(self, batch: Tensor, latents: Sequence[Tensor]) -> Tensor:
        latent = torch.stack(list(latents)).double()
        if self.target is not None:
            return ((latent - self.target) ** 2).flatten(2).sum(2)
        along = (self.module.decoder * latent).flatten(2).sum(2)
        return along + along**2

    def reconstruction_is_shared(self, batch: Tensor) -> bool:
        return self.target is not None

    def features(self, batch: Tensor) -> Tensor:
        return torch.linspace(-1, 1, 3, dtype=torch.float64).expand(self.count, 3)

    def divergence(self, batch: Tensor, scores: Tensor) -> Tensor | None:
        inside = self.structure.readable(scores, self.lengths(batch))
        return 0.1 * torch.where(inside, scores, 0.0).square().flatten(1).sum(1)

    def replica(self) -> Copies:
        raise NotImplementedError

    def draws(self, method: Method[Tensor], seed: int) -> dict[str, Tensor]:
        """Return one gradient ``[count, *shape]`` for each copy, by parameter."""
        self.module.zero_grad()
        method.backward(self, NOTHING, torch.Generator().manual_seed(seed))
        assert self.module.frozen.grad is None
        return {
            name: self.count * p.grad
            for name, p in self.module.named_parameters()
            if p.requires_grad and p.grad is not None
        }

    def exact(self) -> dict[str, Tensor]:
        """Return the gradient ``[*shape]`` of the objective of one copy, by judging every object."""
        one = Copies(self.structure, self.shape, 1, self.size, self.target, self.module.scores.detach()[0])
        if self.size is None:
            objects = self.structure.enumerate(self.shape)
        else:
            objects = self.structure.enumerate_padded(self.shape, self.size)
        scores = one.scores(NOTHING)
        used = torch.where(objects > 0, scores, 0.0)
        probabilities = used.flatten(1).sum(1).softmax(0)
        losses = one.population_reconstruction(NOTHING, [z[None] for z in objects])[:, 0]
        divergence = one.divergence(NOTHING, scores)
        assert divergence is not None
        ((probabilities * losses).sum() + divergence.sum()).backward()
        return {name: p.grad[0] for name, p in one.module.named_parameters() if p.requires_grad and p.grad is not None}


def assert_unbiased(draws: Tensor, exact: Tensor, least: float = 0.0) -> None:
    """Fail unless the mean of ``draws [count, *shape]`` is ``exact [*shape]`` within what their spread allows.

    Along the exact gradient: within 3 standard errors. Each entry: within 4.5, as there are many. ``least``: how many
    standard errors long the exact gradient has to be, so that a wrong estimate would be noticed.
    """
    count = len(draws)
    flat, goal = draws.flatten(1), exact.flatten()
    along = flat @ (goal / goal.norm())
    error = float(along.std() / math.sqrt(count))
    assert float(goal.norm()) > least * error
    assert abs(float(along.mean() - goal.norm())) < 3 * error + 1e-12
    errors = flat.std(0) / math.sqrt(count)
    assert bool(((flat.mean(0) - goal).abs() <= 4.5 * errors + 1e-12).all())
