"""A small network that is as wide as the first input it sees: what baselines and control variates learn."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus
from torch.nn.parameter import UninitializedParameter


class Network(nn.Module):
    """One number for each vector: ``w . softplus(W x + b) + c``.

    A method is made, and its parameters given to an optimiser, before any data is seen; the widths of problems differ.
    So the parameters have no values until the first input, or the first saved state, says how wide it is. Softplus,
    because control variates are differentiated twice. The last layer starts at 0: so does what the network returns.
    """

    hidden_weight: nn.Parameter
    hidden_bias: nn.Parameter
    output_weight: nn.Parameter
    output_bias: nn.Parameter

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        for name in _shapes(hidden, 0):
            setattr(self, name, UninitializedParameter())

    @property
    def is_sized(self) -> bool:
        """Return whether the width of the input is known."""
        return not isinstance(self.hidden_weight, UninitializedParameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return one number for each input ``[batch, width]``, ``[batch]``."""
        if not self.is_sized:
            self._size(inputs.shape[-1], inputs.device)
            bound = 1 / math.sqrt(max(1, inputs.shape[-1]))
            # the same first weights for every problem of this width, whatever else drew random numbers
            start = torch.rand(self.hidden_weight.shape, generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                self.hidden_weight.copy_(bound * (2 * start - 1))
        hidden = softplus(linear(inputs.to(self.hidden_weight), self.hidden_weight, self.hidden_bias))
        return linear(hidden, self.output_weight, self.output_bias).squeeze(-1).to(inputs.dtype)

    def _size(self, width: int, device: torch.device | None = None) -> None:
        for name, shape in _shapes(self.hidden, width).items():
            parameter = getattr(self, name)
            parameter.materialize(shape, device=device, dtype=torch.get_default_dtype())
            nn.init.zeros_(parameter)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.is_sized:
            super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}hidden_weight")
        if saved is None and not self.is_sized:
            return  # saved before its first input
        if saved is not None and not self.is_sized:
            self._size(saved.shape[1], saved.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _shapes(hidden: int, width: int) -> dict[str, tuple[int, ...]]:
    return {
        "hidden_weight": (hidden, width),
        "hidden_bias": (hidden,),
        "output_weight": (1, hidden),
        "output_bias": (1,),
    }
