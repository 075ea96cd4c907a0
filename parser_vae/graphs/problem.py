"""The graph problem: what the methods see of a model of moving points."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call

from parser_vae.graphs.model import GraphModel
from parser_vae.methods.base import Touched
from parser_vae.methods.population import Parameters
from parser_vae.structures.base import Structure
from parser_vae.structures.subset import Subset
from parser_vae.structures.undirected import UndirectedTrees

Latent = Literal["tree", "edges"]
Divergence = Literal["gumbel", "exact_gibbs", "none"]
Unit = Literal["point", "sample"]

VARIANCE = 5e-5  # of a coordinate around its prediction (Paulus et al., 2020)
LOG_DENSITY = -0.5 * math.log(2 * math.pi * VARIANCE)  # of a coordinate that is predicted exactly
LARGEST_LAYER = 16 * 2**20  # bytes, of all members treated at once


def structure_of(latent: Latent, points: int, max_range: float | None = None) -> Structure:
    """Return the latent space over the edges of ``points`` points: spanning trees, or any ``points - 1`` edges.

    ``max_range`` is that of ``UndirectedTrees``. With the published 15, relaxed trees no longer tend to the best tree
    as the temperature falls, because all edges far from the best count the same.
    """
    return UndirectedTrees(max_range) if latent == "tree" else Subset(points - 1)


class GraphProblem:
    """Trees over points (or n - 1 of their edges), judged by how well the points' motion is predicted along them.

    Attributes:
        module: The model; its encoder gives edge scores, its decoder predicts the motion.
        structure: The latent space.
        unit: ``point`` is the convention of Paulus et al. (2020) and Berliner et al. (2022): squared errors and
            divergences are divided by the number of points, the density's constant is left out, and the divergence
            counts both directions of an edge. ``sample`` is the bound on ``log p(trajectory)`` as it should be, in
            nats: every edge once, the constant included, nothing divided.
        divergence_kind: ``gumbel``, between the perturbed scores' distribution and that of plain Gumbel noise;
            ``exact_gibbs``, between ``exp(score) / Z`` and the uniform distribution over latents; or ``none``.
        every: Frames between two true ones in reconstruction.
    """

    def __init__(
        self,
        model: GraphModel,
        structure: Structure,
        every: int,
        unit: Unit = "point",
        divergence: Divergence = "gumbel",
    ) -> None:
        self.module = self.model = model
        self.structure = structure
        self.every, self.unit, self.divergence_kind = every, unit, divergence

    def touched(self, batch: Tensor) -> list[Touched]:
        """Return all trainable parameters."""
        return [Touched(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def lengths(self, batch: Tensor) -> None:
        """Return None: all items have equally many points."""
        return

    def scores(self, batch: Tensor) -> Tensor:
        """Return edge scores ``[batch, edges]`` of normalised positions ``[batch, time, points, dimensions]``."""
        return self.model.encoder(batch)

    def reconstruction(self, batch: Tensor, latent: Tensor) -> Tensor:
        """Return ``-log p(trajectory | latent)`` ``[..., batch]`` of Gaussians around the predictions; see ``unit``."""
        return self._loss(batch, self.model.decoder(batch, latent, self.every))

    def _loss(self, batch: Tensor, predicted: Tensor) -> Tensor:
        squares = (predicted - batch[:, 1:]).square().sum((-3, -2, -1))
        if self.unit == "point":
            return squares / (2 * VARIANCE * batch.shape[2])
        return squares / (2 * VARIANCE) - LOG_DENSITY * batch[0, 1:].numel()

    def population_reconstruction(self, batch: Tensor, latents: Sequence[Tensor]) -> Tensor:
        """Return ``reconstruction`` of each of several hard latents of one batch ``[members, batch]``."""
        members = len(latents)
        together = torch.cat([latent.to(batch.dtype) for latent in latents])
        return self.reconstruction(batch.repeat(members, 1, 1, 1), together).view(members, -1)

    def population_scores(self, batch: Tensor, parameters: Parameters) -> Tensor:
        """Return the scores ``[members, batch, edges]`` of all members, by products over all of them at once."""
        return functional_call(self.model.encoder, self._stacked("encoder.", parameters), (batch,))

    def population_losses(self, batch: Tensor, parameters: Parameters, latents: Tensor) -> Tensor:
        """Return the reconstruction ``[members, batch]`` of one hard latent for each member and item."""
        predicted = functional_call(
            self.model.decoder, self._stacked("decoder.", parameters), (batch, latents, self.every)
        )
        return self._loss(batch, predicted)

    def population_size(self, batch: Tensor, memory: int) -> int:
        """Return how many members to treat at once: a member takes a few hidden layers of all messages.

        A layer of all of them stays below what the C library maps anew at every allocation (32 MiB), which costs
        more than the layer's arithmetic.
        """
        items, frames, points, _ = batch.shape
        starts = -(-(frames - 1) // self.every)
        layer = items * starts * points * (points - 1) * self.model.settings.hidden * batch.element_size()
        return max(2, min(32, memory // (6 * layer), LARGEST_LAYER // layer))

    def _stacked(self, prefix: str, parameters: Parameters) -> dict[str, Tensor]:
        """Return the parameters of encoder or decoder in every member ``[members, ...]``, perturbed or not."""
        result = {name: one.members() for name, one in parameters.items() if name.startswith(prefix)}
        members = 2 * next(iter(parameters.values())).pairs
        return {
            name.removeprefix(prefix): result.get(name, p.expand(members, *p.shape))
            for name, p in self.model.named_parameters()
            if name.startswith(prefix)
        }

    def reconstruction_is_shared(self, batch: Tensor) -> bool:
        """Return whether the decoder is frozen."""
        return not any(parameter.requires_grad for parameter in self.model.decoder.parameters())

    def features(self, batch: Tensor) -> Tensor:
        """Return the encoder's last states of all ordered pairs of points ``[batch, pairs * hidden]``."""
        with torch.no_grad():
            return self.model.encoder.pair_states(batch).view(len(batch), -1)

    def divergence(self, batch: Tensor, scores: Tensor) -> Tensor | None:
        """Return the divergence term ``[..., batch]``; see ``unit`` for what it counts."""
        if self.divergence_kind == "none":
            return None
        if self.divergence_kind == "gumbel":
            # E[log p(u + h) - log p(u)] of standard Gumbel u is h + exp(-h) - 1, for each edge
            total = (scores + (-scores).exp() - 1).sum(-1)
        else:
            flat = scores.reshape(-1, scores.shape[-1])
            total = self.structure.kl_to_uniform(flat).view(scores.shape[:-1])
        return 2 * total / batch.shape[2] if self.unit == "point" else total

    def replica(self) -> GraphProblem:
        """Return a problem with its own parameters."""
        twin = copy.copy(self)
        twin.module = twin.model = copy.deepcopy(self.model)
        return twin
