"""REBAR: the score function with the reconstruction of a relaxed latent as its control variate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parser_vae.errors import ConfigError
from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.differentiable import backpropagate
from parser_vae.structures.base import Capability


class ControlVariate(nn.Module):
    """``c(z) = eta * reconstruction(relaxed z)``: eta and the temperature are learned."""

    evaluations = 1

    def __init__(self, temperature: float, strength: float) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.strength = nn.Parameter(torch.tensor(strength))

    def forward(
        self, problem: Problem[BatchT], batch: BatchT, perturbed: Tensor, inside: Tensor, lengths: Tensor | None
    ) -> Tensor:
        """Return the control variate ``[batch]`` of perturbed scores; ``inside``: the parts that objects can have."""
        scaled = torch.where(inside, perturbed / self.log_temperature.exp(), -torch.inf)
        relaxed = problem.structure.marginals(scaled, lengths)
        return self.strength * problem.reconstruction(batch, relaxed)


@dataclass(eq=False)
class Rebar(Method[BatchT]):
    """The REBAR gradient of the expected reconstruction, plus that of the divergence; unbiased.

    Tucker et al. (2017). With z the scores under noise, b the best object under z, and z' a draw of z given b, the
    gradient in the scores is ``(f(b) - c(z')) grad log p(b) + grad c(z) - grad c(z')``, where
    ``c(z) = eta f(softmax(z / temperature))`` (sigmoid for bits). The random numbers behind z' are those that make
    it equal to z; that leaves the estimate unbiased, and c is evaluated once. Eta and temperature follow the gradient
    of the squared norm of this one estimate. The decoder's gradient is that of ``f(b)``.

    Attributes:
        temperature: The first temperature of the relaxation.
        strength: The first eta.
    """

    temperature: float = 0.5
    strength: float = 1.0

    name = "rebar"
    requires = frozenset({Capability.FACTORISED, Capability.MARGINALS})

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(f"{self.name}.temperature is {self.temperature}; it must be above 0")
        self.control: ControlVariate = self._control()
        self.state = self.control

    def _control(self) -> ControlVariate:
        return ControlVariate(self.temperature, self.strength)

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the gradient of the mean objective over the batch, and to the control variate's that of the variance."""
        structure, lengths = problem.structure, problem.lengths(batch)
        scores = problem.scores(batch)
        leaf = scores.detach().requires_grad_()
        inside = structure.readable(leaf, lengths)
        drawn = structure.perturbed(leaf, lengths, generator=generator)
        latent = structure.argmax(torch.where(inside, drawn.scores, -torch.inf), lengths)
        with torch.set_grad_enabled(not problem.reconstruction_is_shared(batch)):
            losses = problem.reconstruction(batch, latent).to(scores.dtype)

        free = drawn.scores.detach().requires_grad_()
        control = self.control(problem, batch, free, inside, lengths).to(scores.dtype)
        (slope,) = torch.autograd.grad(control.sum(), free, create_graph=True)
        difference = losses.detach() - control
        score = latent - structure.marginals(leaf.detach(), lengths)
        (led,) = torch.autograd.grad(drawn.normalised, leaf, slope * drawn.lead, create_graph=True)
        gradient = difference[:, None] * score + led
        squared = gradient.square().sum(1).mean()
        learned = [parameter for parameter in self.control.parameters() if parameter.requires_grad]
        for parameter, found in zip(learned, torch.autograd.grad(squared, learned, allow_unused=True), strict=True):
            if found is not None:
                parameter.grad = found if parameter.grad is None else parameter.grad + found

        surrogate = structure.score(scores, gradient.detach())
        return Estimate(
            backpropagate(problem, batch, scores, losses, weight, surrogate),
            evaluations=(1 + self.control.evaluations) * len(scores),
            metrics={
                "squared_gradient": float(squared.detach()),
                "temperature": float(self.control.log_temperature.detach().exp()),
                "strength": float(self.control.strength.detach()),
            },
        )
