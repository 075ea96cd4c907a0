"""Noise for perturb-and-MAP: random numbers added to scores before an argmax. All through a generator, all finite.

Uniforms are drawn in float64 on the generator's device and only the result is cast and moved, so float32 scores, and
scores on a GPU, see the same numbers, and the tails are not cut where float32 uniforms end (2^-24).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard Gumbel noise ``-log(-log u)``, with shape, dtype and device of ``like``; mean 0.577."""
    return (-(-_uniform(like, generator).log()).log()).to(like)


def gumbel_difference(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return the difference of two standard Gumbels, which is standard logistic noise, shaped like ``like``.

    A bit whose score is compared with 0 under this noise is a Bernoulli of ``sigmoid(score)``.
    """
    uniform = _uniform(like, generator)
    return (uniform.log() - (-uniform).log1p()).to(like)


def sum_of_gamma(like: Tensor, generator: torch.Generator, *, k: int, terms: int = 10) -> Tensor:
    """Return sum-of-gamma noise for objects of ``k`` parts, shaped like ``like`` (Niepert et al., 2021).

    Each number is ``(sum_{i=1}^{terms} Gamma(1/k, scale k/i) - log(terms)) / k``. As ``terms`` grows, the sum of ``k``
    of them becomes one standard Gumbel: the score of a whole k-part object is Gumbel-perturbed, not that of a part.

    Args:
        like: Gives shape, dtype and device.
        generator: The source of randomness.
        k: The number of parts every object has.
        terms: How many gamma variables are added; more bring the sum closer to a Gumbel.
    """
    concentration = torch.full((*like.shape, terms), 1.0 / k, dtype=torch.float64, device=generator.device)
    # torch.distributions.Gamma takes no generator; this is the sampler beneath it, which does.
    gamma = torch._standard_gamma(concentration, generator=generator)
    rate = torch.arange(1, terms + 1, dtype=torch.float64, device=generator.device)
    return (((gamma * k / rate).sum(-1) - math.log(terms)) / k).to(like)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(like.shape, generator=generator, dtype=torch.float64, device=generator.device)
    return uniform.clamp_(min=torch.finfo(torch.float64).tiny)
