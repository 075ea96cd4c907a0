"""A small problem with a decoder of its own, whose exact objective and gradients plain enumeration gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from parser_vae.methods import Touched
from parser_vae.structures.base import Structure


class ToyProblem:
    """Scores are parameters; a latent costs a curved function of its parts, through a decoder of one matrix.

    ``divergence_weight`` times the mean square of the scores is the divergence; 0 means that there is none.
    """

    def __init__(
        self,
        structure: Structure,
        shape: tuple[int, ...],
        batch: int = 2,
        lengths: Sequence[int] | None = None,
        seed: int = 3,
        curvature: float = 0.5,
        divergence_weight: float = 0.0,
        freeze_decoder: bool = False,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator, dtype=torch.float64)

        self.structure, self.shape = structure, shape
        self.sizes = None if lengths is None else torch.tensor(list(lengths))
        parts = torch.Size(shape).numel()
        self.targets = draw(batch, parts)
        self.curvature, self.divergence_weight = curvature, divergence_weight
        self.module = nn.Module()
        self.module.scores = nn.Parameter(0.5 * draw(batch, *shape))
        self.module.decoder = nn.Parameter(draw(parts, parts) / parts**0.5, requires_grad=not freeze_decoder)

    def touched(self, batch: Tensor) -> list[Touched]:
        return [Touched(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def lengths(self, batch: Tensor) -> Tensor | None:
        return self.sizes

    def scores(self, batch: Tensor) -> Tensor:
        return self.module.scores * 1.0

    def reconstruction(self, batch: Tensor, latent: Tensor) -> Tensor:
        return self.population_reconstruction(batch, [latent])[0]

    def population_reconstruction(self, batch: Tensor, latents: Sequence[Tensor]) -> Tensor:
        decoded = torch.stack(list(latents)).flatten(2).double() @ self.module.decoder
        return (self.targets * decoded).sum(-1) + self.curvature * decoded.square().sum(-1)

    def reconstruction_is_shared(self, batch: Tensor) -> bool:
        return not self.module.decoder.requires_grad

    def features(self, batch: Tensor) -> Tensor:
        return torch.ones(len(self.targets), 1, dtype=torch.float64)

    def divergence(self, batch: Tensor, scores: Tensor) -> Tensor | None:
        return self.divergence_weight * scores.square().flatten(1).mean(1) if self.divergence_weight else None

    def replica(self) -> ToyProblem:
        raise NotImplementedError

    def gradients(self) -> dict[str, Tensor | None]:
        """Return copies of the gradients by name."""
        return {n: None if p.grad is None else p.grad.clone() for n, p in self.module.named_parameters()}

    def objects(self, item: int) -> Tensor:
        """Return every object of an item ``[count, *shape]``."""
        if self.sizes is None:
            return self.structure.enumerate(self.shape)
        return self.structure.enumerate_padded(self.shape, int(self.sizes[item]))

    def exact_objective(self) -> Tensor:
        """Return the mean objective under ``exp(<scores, z>) / Z``, item by item and object by object."""
        scores, total = self.scores(torch.zeros(0)), torch.zeros((), dtype=torch.float64)
        for item in range(len(scores)):
            objects = self.objects(item)
            logits = torch.stack([(scores[item] * z).sum() for z in objects])
            costs = torch.stack(
                [self.reconstruction(torch.zeros(0), z.expand_as(scores))[item] for z in objects.unbind(0)]
            )
            total = total + (logits.softmax(0) * costs).sum()
        divergence = self.divergence(torch.zeros(0), scores)
        return total / len(scores) + (0.0 if divergence is None else divergence.mean())
