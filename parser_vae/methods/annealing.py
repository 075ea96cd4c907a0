"""A quantity that falls from update to update: temperatures, and the epsilon of direct optimisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parser_vae.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """``max(floor, start * exp(-rate * t))`` at update ``t``, renewed every so many updates (Jang et al., 2017).

    Attributes:
        start: The first value.
        floor: The smallest value.
        rate: How fast it falls; 0 keeps it where it starts.
        every: Updates between two changes.
    """

    start: float = 1.0
    floor: float = 0.1
    rate: float = 0.0
    every: int = 500

    def __post_init__(self) -> None:
        if min(self.start, self.floor) <= 0 or self.rate < 0 or self.every < 1:
            raise ConfigError(
                f"a schedule from {self.start} to {self.floor} at rate {self.rate} every {self.every} updates: "
                "start and floor must be above 0, the rate at least 0, and every at least 1"
            )


class Annealing(nn.Module):
    """A schedule and how far it has come, which is saved with the run."""

    updates: Tensor

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def advance(self) -> float:
        """Return the value for this update, and count the update."""
        value = self.value()
        self.updates += 1
        return value

    def value(self) -> float:
        """Return the value for this update."""
        schedule = self.schedule
        if schedule.rate == 0:
            return schedule.start
        renewed = int(self.updates) // schedule.every * schedule.every
        return max(schedule.floor, schedule.start * math.exp(-schedule.rate * renewed))
