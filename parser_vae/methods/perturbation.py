"""Directions in parameter space: rebuilt from integer seeds, of full or of low rank, scaled parameter by parameter.

A direction of rank ``r`` for a matrix is ``A B^T / sqrt(r)`` with standard normal ``A`` and ``B``: its entries have
mean 0 and variance 1 and are uncorrelated, which is all that eq. 6 of Berliner et al. (2022) needs to first order in
sigma, and a product with it costs two thin products (as in Sarkar et al., 2025). Vectors always get full noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn

from parser_vae.errors import ConfigError
from parser_vae.methods.base import Touched

SigmaScale = Literal["absolute", "relative", "adapted"]


@dataclass(frozen=True)
class Perturbed:
    """One parameter in each member of a group; members come in pairs, plus before minus.

    Attributes:
        centre: The unperturbed values ``[*shape]``; of an embedding the rows of the batch only.
        rows: Which rows these are ``[rows]``, or None for all.
        full: The scaled direction of each pair ``[pairs, *shape]``; None where it is given by factors.
        left: Scaled left factors ``[pairs, shape[0], rank]``, or None.
        right: Right factors ``[pairs, shape[1], rank]``, or None; the direction is ``left right^T``.
    """

    centre: Tensor
    rows: Tensor | None
    full: Tensor | None
    left: Tensor | None = None
    right: Tensor | None = None

    @property
    def pairs(self) -> int:
        """Return the number of pairs."""
        noise = self.left if self.full is None else self.full
        assert noise is not None
        return len(noise)

    def part(self, pairs: slice) -> Perturbed:
        """Return the same for some of the pairs."""
        full, left, right = (None if x is None else x[pairs] for x in (self.full, self.left, self.right))
        return Perturbed(self.centre, self.rows, full, left, right)

    def direction(self) -> Tensor:
        """Return the scaled direction of each pair ``[pairs, *shape]``."""
        if self.full is not None:
            return self.full
        assert self.left is not None and self.right is not None
        return torch.bmm(self.left, self.right.transpose(1, 2))

    def member(self, number: int) -> Tensor:
        """Return the parameter in one member ``[*shape]``."""
        pair = number // 2
        direction = self.full[pair] if self.full is not None else self.part(slice(pair, pair + 1)).direction()[0]
        return torch.add(self.centre, direction, alpha=1 - 2 * (number % 2))

    def members(self) -> Tensor:
        """Return the parameter in every member ``[2 * pairs, *shape]``."""
        direction = self.direction()
        return torch.stack([self.centre + direction, self.centre - direction], 1).flatten(0, 1)


class Perturbation:
    """The noise of one update: which parameters, how large, of which rank.

    Args:
        touched: The parameters to perturb, of one type.
        sigma: The standard deviation of the noise.
        scale: ``absolute``: sigma itself. ``relative``: sigma times the root mean square of each tensor's values (of 1
            where all are 0). ``adapted``: sigma times a learned factor for each value.
        rank: Rank of the directions of matrices; 0 means full.
        learned: The learned factors, for ``adapted``.
    """

    def __init__(
        self, touched: Sequence[Touched], sigma: float, scale: SigmaScale, rank: int, learned: LearnedScales | None
    ) -> None:
        self.touched = list(touched)
        self.rank = rank
        self.centres = [values_of(item) for item in self.touched]
        self.scales: list[Tensor]
        if scale == "adapted":
            assert learned is not None
            self.scales = [sigma * learned.factors(item) for item in self.touched]
        elif scale == "relative":
            size = [centre.double().square().mean().sqrt() for centre in self.centres]
            self.scales = [
                (sigma * torch.where(s > 0, s, 1.0)).to(c.dtype) for s, c in zip(size, self.centres, strict=True)
            ]
        else:
            self.scales = [torch.tensor(sigma, dtype=centre.dtype) for centre in self.centres]
        self._sizes = [
            [self.rank * size for size in centre.shape] if rank and centre.dim() == 2 else [centre.numel()]
            for centre in self.centres
        ]

    def group(self, seeds: Sequence[int]) -> dict[str, Perturbed]:
        """Return every touched parameter, by name, in the members of these seeds."""
        result = {}
        for item, centre, scale, noise in zip(
            self.touched, self.centres, self.scales, self._split(self._draw(seeds)), strict=True
        ):
            if isinstance(noise, tuple):
                left, right = noise
                result[item.name] = Perturbed(centre, item.rows, None, left * (scale / self.rank**0.5), right)
            else:
                result[item.name] = Perturbed(centre, item.rows, noise * scale)
        return result

    def accumulate(self, seeds: Sequence[int], weights: Sequence[float]) -> None:
        """Add to the gradients the sum over seeds of ``weight`` times direction, divided by the scale.

        With ``weight = (u+ - u-) / N`` this is the estimate of eq. 6 from mirrored pairs.
        """
        totals = self._weighted(seeds, weights)
        for item, total, scale in zip(self.touched, totals, self.scales, strict=True):
            add_to_gradient(item, total / scale)

    def squares(self, seeds: Sequence[int], weights: Sequence[float]) -> list[Tensor]:
        """Return, for each touched parameter, the sum over seeds of ``weight * (w ** 2 - 1)``, full rank only."""
        totals = [torch.zeros_like(centre) for centre in self.centres]
        for seed, weight in zip(seeds, weights, strict=True):
            for total, noise in zip(totals, self._split(self._draw([seed])), strict=True):
                assert isinstance(noise, Tensor)
                total.add_(noise[0].square_().sub_(1.0), alpha=weight)
        return totals

    def _weighted(self, seeds: Sequence[int], weights: Sequence[float]) -> list[Tensor]:
        totals = [torch.zeros_like(centre) for centre in self.centres]
        for start in range(0, len(seeds), 16):
            used = slice(start, start + 16)
            drawn = self._draw(seeds[used])
            factors = torch.tensor(weights[used], dtype=drawn.dtype, device=drawn.device)
            for total, noise in zip(totals, self._split(drawn), strict=True):
                if isinstance(noise, tuple):
                    left, right = (factor.transpose(0, 1).flatten(1) for factor in noise)
                    total.addmm_(left * (factors / self.rank**0.5).repeat_interleave(self.rank), right.t())
                else:
                    total.view(-1).addmv_(noise.flatten(1).t(), factors)
        return totals

    def _draw(self, seeds: Sequence[int]) -> Tensor:
        """Return the standard normal numbers of each seed, of all parameters in a row ``[seeds, numbers]``.

        One call a seed: a call for each parameter would cost more than the numbers of a small network.
        """
        like = self.centres[0]
        drawn = torch.empty(len(seeds), sum(map(sum, self._sizes)), dtype=like.dtype)
        for row, seed in zip(drawn, seeds, strict=True):
            row.normal_(generator=torch.Generator().manual_seed(seed))
        return drawn.to(like.device)

    def _split(self, drawn: Tensor) -> list[Tensor | tuple[Tensor, Tensor]]:
        """Return views of drawn numbers as each parameter's unscaled noise ``[seeds, *shape]``, or its two factors."""
        result: list[Tensor | tuple[Tensor, Tensor]] = []
        pieces = iter(drawn.split([size for sizes in self._sizes for size in sizes], 1))
        for centre, sizes in zip(self.centres, self._sizes, strict=True):
            parts = [next(pieces) for _ in sizes]
            if len(parts) == 2:
                left, right = (part.unflatten(1, (-1, self.rank)) for part in parts)
                result.append((left, right))
            else:
                result.append(parts[0].unflatten(1, centre.shape))
        return result


class LearnedScales(nn.Module):
    """A factor on sigma for each value of each parameter, learned as in separable NES (Schaul et al., 2011).

    ``log s -= rate / 2 * mean over members of u (w^2 - 1)`` with utilities ``u`` of mean 0 and variance 1, lower being
    better, and ``rate = (3 + ln d) / (5 sqrt(d))`` for ``d`` values. Grown as parameters are met; saved with the run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logarithms: dict[str, Tensor] = {}

    def factors(self, item: Touched) -> Tensor:
        """Return the factors of a parameter's (rows') values."""
        if item.name not in self.logarithms:
            self.logarithms[item.name] = torch.zeros_like(item.parameter.detach())
        logarithms = self.logarithms[item.name]
        return (logarithms if item.rows is None else logarithms[item.rows]).exp()

    def update(self, touched: Sequence[Touched], squares: Sequence[Tensor]) -> None:
        """Move the factors, given ``mean of u (w^2 - 1)`` of each touched parameter."""
        size = torch.tensor(float(sum(square.numel() for square in squares)))
        rate = float((3 + size.log()) / (5 * size.sqrt()))
        for item, square in zip(touched, squares, strict=True):
            if item.rows is None:
                self.logarithms[item.name].sub_(square, alpha=rate / 2)
            else:
                self.logarithms[item.name].index_add_(0, item.rows, square, alpha=-rate / 2)

    def get_extra_state(self) -> dict[str, Tensor]:
        """Return the logarithms of the factors, for a checkpoint."""
        return self.logarithms

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take over the factors of a checkpoint."""
        self.logarithms = dict(state)


def matching(touched: Sequence[Touched], patterns: Sequence[str]) -> list[Touched]:
    """Return the parameters whose name fits one of the shell-style ``patterns``, in their order.

    Raises:
        ConfigError: A pattern fits no parameter.
    """
    for pattern in patterns:
        if not any(fnmatchcase(item.name, pattern) for item in touched):
            names = ", ".join(item.name for item in touched)
            raise ConfigError(f"nes.pattern: '{pattern}' fits none of the trainable parameters: {names}")
    return [item for item in touched if any(fnmatchcase(item.name, pattern) for pattern in patterns)]


def values_of(item: Touched) -> Tensor:
    """Return a copy of the parameter's values, of an embedding the rows of the batch."""
    data = item.parameter.detach()
    return data.clone() if item.rows is None else data[item.rows]


def add_to_gradient(item: Touched, values: Tensor) -> None:
    """Add to the gradient of the parameter (of its rows)."""
    parameter = item.parameter
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    if item.rows is None:
        parameter.grad.add_(values)
    else:
        parameter.grad.index_add_(0, item.rows, values)


def assign(item: Touched, values: Tensor) -> None:
    """Overwrite the parameter's (rows') values."""
    with torch.no_grad():
        if item.rows is None:
            item.parameter.copy_(values)
        else:
            item.parameter[item.rows] = values
