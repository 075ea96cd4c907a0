"""A plain network whose members are evaluated together by vmap, against the member loop."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from parser_vae.methods import NaturalEvolution, Touched
from parser_vae.methods.population import Parameters, vmapped
from parser_vae.structures.categorical import Categorical


class LoopProblem:
    """An auto-encoder with a categorical latent, all of whose parameters are perturbed, one member at a time."""

    def __init__(self, module: nn.ModuleDict) -> None:
        self.module = module
        self.structure = Categorical()

    def touched(self, batch: Tensor) -> list[Touched]:
        return [Touched(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def lengths(self, batch: Tensor) -> None:
        return None

    def scores(self, batch: Tensor) -> Tensor:
        return self.module["encoder"](batch)

    def reconstruction(self, batch: Tensor, latent: Tensor) -> Tensor:
        logits = self.module["decoder"](latent)
        return binary_cross_entropy_with_logits(logits, batch, reduction="none").sum(-1)

    def population_reconstruction(self, batch: Tensor, latents: Sequence[Tensor]) -> Tensor:
        return torch.stack([self.reconstruction(batch, latent.to(batch.dtype)) for latent in latents])

    def reconstruction_is_shared(self, batch: Tensor) -> bool:
        return False

    def divergence(self, batch: Tensor, scores: Tensor) -> Tensor:
        return self.structure.kl_to_uniform(scores)

    def replica(self) -> LoopProblem:
        return type(self)(copy.deepcopy(self.module))


class TogetherProblem(LoopProblem):
    """The same, all members at once."""

    def population_scores(self, batch: Tensor, parameters: Parameters) -> Tensor:
        return vmapped(self, lambda: self.scores(batch), parameters)

    def population_size(self, batch: Tensor, memory: int) -> int:
        return 10

    def population_losses(self, batch: Tensor, parameters: Parameters, latents: Tensor) -> Tensor:
        return vmapped(self, lambda latent: self.reconstruction(batch, latent), parameters, latents)


def network(dtype: torch.dtype) -> nn.ModuleDict:
    torch.manual_seed(0)

    def layers(*sizes: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(*sizes[:2]), nn.ReLU(), nn.Linear(*sizes[1:]))

    return nn.ModuleDict({"encoder": layers(12, 8, 5), "decoder": layers(5, 8, 12)}).to(dtype)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_members_together_agree_with_one_by_one(dtype: torch.dtype, rank: int) -> None:
    batch = torch.rand(6, 12, generator=torch.Generator().manual_seed(2)).round().to(dtype)
    gradients, objectives = [], []
    for kind, workers in ((LoopProblem, 1), (TogetherProblem, 1), (TogetherProblem, 2)):
        problem = kind(network(dtype))
        method = NaturalEvolution(population=32, sigma=0.3, score_samples=2, rank=rank, workers=workers)
        objectives.append(method.backward(problem, batch, torch.Generator().manual_seed(1)).objective)
        gradients.append(torch.cat([p.grad.flatten() for p in problem.module.parameters()]))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    assert objectives[1] == objectives[2] == pytest.approx(objectives[0], abs=tolerance)
    assert torch.equal(gradients[1], gradients[2])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=100 * tolerance)


def test_members_whose_objective_differs_by_their_own_decoder_are_told_apart() -> None:
    problem = TogetherProblem(network(torch.float64))
    for parameter in problem.module["encoder"].parameters():
        parameter.requires_grad = False
    batch = torch.ones(3, 12, dtype=torch.float64)
    NaturalEvolution(population=32, sigma=0.1).backward(problem, batch, torch.Generator().manual_seed(0))
    grad = problem.module["decoder"][2].bias.grad
    assert grad is not None and float(grad.mean()) < -0.5  # every pixel is 1, so the biases should grow
