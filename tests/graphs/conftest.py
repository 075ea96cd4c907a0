"""A small model of moving points, in double precision, for exact comparisons."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parser_vae.graphs.model import GraphModel, ModelSettings
from parser_vae.graphs.simulate import simulate


def small_model(hidden: int = 6, frames: int = 7) -> GraphModel:
    torch.manual_seed(2)
    return GraphModel(ModelSettings(hidden=hidden), frames, 2).double()


@pytest.fixture
def model() -> GraphModel:
    return small_model()


@pytest.fixture
def positions() -> Tensor:
    return simulate({"train": 5}, 4, 7, 0)["train"].positions.double()
