"""Stochastic softmax tricks: back-propagation through the marginals of perturbed scores."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from parser_vae.methods.annealing import Annealing, Schedule
from parser_vae.methods.base import BatchT, Estimate, Method, Problem
from parser_vae.methods.differentiable import Mode, Noise, backpropagate, forward_latent, perturb
from parser_vae.structures.base import Capability


@dataclass(eq=False)
class Relaxed(Method[BatchT]):
    """The gradient of ``E_noise[reconstruction(marginals((scores + noise) / temperature))] + divergence``.

    Paulus et al. (2020); for one class out of k it is Gumbel-softmax (Jang et al., 2017; Maddison et al., 2017).

    Attributes:
        temperature: At the first update.
        floor: The lowest temperature.
        rate: How fast it falls: ``max(floor, temperature * exp(-rate * updates))``; 0 keeps it.
        every: Updates between two changes of the temperature.
        mode: What the reconstruction sees and how gradients pass: ``soft``, ``hard_forward`` (straight-through
            Gumbel-softmax) or ``straight_through`` (the identity's gradient).
        noise: On the scores, one draw an update.
    """

    temperature: float = 1.0
    floor: float = 0.1
    rate: float = 0.0
    every: int = 500
    mode: Mode = "soft"
    noise: Noise = "gumbel"
    state: Annealing = field(init=False, repr=False)

    name = "relaxed"
    requires = frozenset({Capability.MARGINALS})

    def __post_init__(self) -> None:
        self.state = Annealing(Schedule(self.temperature, self.floor, self.rate, self.every))

    def backward(
        self, problem: Problem[BatchT], batch: BatchT, generator: torch.Generator, weight: float = 1.0
    ) -> Estimate:
        """Add the gradient of the relaxed mean objective over the batch; see the class."""
        structure, lengths = problem.structure, problem.lengths(batch)
        temperature = self.state.advance()
        scores = problem.scores(batch)
        sharp = perturb(structure, scores, self.noise, generator) / temperature
        latent = forward_latent(structure, sharp, structure.marginals(sharp, lengths), lengths, self.mode)
        losses = problem.reconstruction(batch, latent)
        objective = backpropagate(problem, batch, scores, losses, weight)
        return Estimate(objective, evaluations=len(losses), metrics={"temperature": temperature})
