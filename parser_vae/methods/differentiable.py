"""What the methods that differentiate the reconstruction have in common."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from parser_vae.methods.base import BatchT, Problem
from parser_vae.structures.base import Structure

Noise = Literal["gumbel", "none"]
Mode = Literal["soft", "hard_forward", "straight_through"]


def perturb(structure: Structure, scores: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """Return the scores plus the structure's Gumbel noise, or as they are."""
    return scores if noise == "none" else scores + structure.noise(scores, generator)


def forward_latent(structure: Structure, scores: Tensor, soft: Tensor, lengths: Tensor | None, mode: Mode) -> Tensor:
    """Return the latent ``[batch, *shape]`` that the reconstruction is to see, and through which gradients pass.

    ``soft``: the soft object as it is. ``hard_forward``: the best object under ``scores``, with the soft object's
    gradient. ``straight_through``: the best object, with the gradient passed on to the scores as it is (Bengio et
    al., 2013).
    """
    if mode == "soft":
        return soft
    passed = soft
    if mode == "straight_through":
        passed = torch.where(structure.readable(scores, lengths), scores, 0.0)
    return structure.argmax(scores.detach(), lengths) + (passed - passed.detach())


def backpropagate(
    problem: Problem[BatchT],
    batch: BatchT,
    scores: Tensor,
    losses: Tensor,
    weight: float,
    surrogate: Tensor | None = None,
) -> float:
    """Return the mean objective (losses plus divergence), having added ``weight`` times its gradient to ``.grad``.

    Args:
        problem: Whose divergence is added.
        batch: The batch.
        scores: Its scores, with their graph ``[batch, *shape]``.
        losses: The reconstruction of each item ``[batch]``, with whatever graph it has.
        weight: Of the gradient.
        surrogate: A term of each item ``[batch]`` whose value means nothing, but whose gradient counts.
    """
    divergence = problem.divergence(batch, scores)
    objective = losses if divergence is None else losses + divergence
    total = (objective if surrogate is None else objective + surrogate).mean()
    if total.requires_grad:
        (weight * total).backward()
    return float(objective.detach().mean())


def reconstruction_slope(
    problem: Problem[BatchT], batch: BatchT, latent: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Return the losses ``[batch]`` and their slopes in the latent's parts ``[batch, *shape]``, both without graph.

    Adds ``weight`` times the gradient of the mean loss to ``.grad`` of the parameters behind the reconstruction, in
    the same pass.
    """
    leaf = latent.detach().requires_grad_()
    shared = problem.reconstruction_is_shared(batch)
    parameters = [] if shared else [item.parameter for item in problem.touched(batch)]
    losses = problem.reconstruction(batch, leaf)
    slope, *gradients = torch.autograd.grad(losses.mean(), [leaf, *parameters], allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            scaled = weight * gradient
            parameter.grad = scaled if parameter.grad is None else parameter.grad + scaled
    return losses.detach(), torch.zeros_like(leaf) if slope is None else slope * len(losses)
