"""RELAX: REBAR with a learned network in its control variate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from parser_vae.methods.base import BatchT, Problem
from parser_vae.methods.network import Network
from parser_vae.methods.rebar import ControlVariate, Rebar

Control = Literal["relaxation_and_network", "network"]


class NetworkControlVariate(ControlVariate):
    """A network of the perturbed scores and of the item's features, plus ``eta * reconstruction(relaxed z)``."""

    def __init__(self, temperature: float, strength: float, hidden: int, kind: Control) -> None:
        super().__init__(temperature, strength)
        self.network = Network(hidden)
        self.kind = kind
        self.evaluations = 1 if kind == "relaxation_and_network" else 0
        if kind == "network":
            self.log_temperature.requires_grad = self.strength.requires_grad = False

    def forward(
        self, problem: Problem[BatchT], batch: BatchT, perturbed: Tensor, inside: Tensor, lengths: Tensor | None
    ) -> Tensor:
        """Return the control variate ``[batch]`` of perturbed scores; ``inside``: the parts that objects can have."""
        learned = self.network(torch.cat([perturbed, problem.features(batch).to(perturbed)], 1))
        if self.kind == "network":
            return learned
        return learned + super().forward(problem, batch, perturbed, inside, lengths)


@dataclass(eq=False)
class Relax(Rebar[BatchT]):
    """The RELAX gradient of the expected reconstruction, plus that of the divergence; unbiased.

    Grathwohl et al. (2018): as ``rebar``, with a control variate that a network learns by descending the squared norm
    of the estimate.

    Attributes:
        control_variate: ``relaxation_and_network``: REBAR's plus the network, which starts as REBAR. ``network``: the
            network alone; the reconstruction is then only asked for values of hard latents.
        hidden: Hidden units of the network.
    """

    control_variate: Control = "relaxation_and_network"
    hidden: int = 100

    name = "relax"

    def _control(self) -> ControlVariate:
        return NetworkControlVariate(self.temperature, self.strength, self.hidden, self.control_variate)
