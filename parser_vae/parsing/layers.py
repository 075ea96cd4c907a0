"""Layers shared by the encoder and the decoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from parser_vae.methods.products import product


class BidirectionalLSTM(nn.Module):
    """A deep BiLSTM over padded sequences: each layer reads both directions of the one below.

    Every direction of every layer is a one-way LSTM over the whole padded batch; the backward one reads sentences
    reversed within their own length, so padding never reaches a real position. That keeps to the dense LSTM of the
    CPU back end, which trains twice as fast as the packed one and gives the same numbers.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = hidden
        sizes = [inputs] + [2 * hidden] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes)
        self.dropout = SharedDropout(dropout)
        for lstm in [*self.forwards, *self.backwards]:
            initialise_lstm(lstm)

    def forward(self, inputs: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return the states ``[batch, time, 2 * hidden]`` of each layer; padded positions hold no meaning."""
        sentences, width, _ = inputs.shape
        time = torch.arange(width, device=inputs.device)
        mirror = torch.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)
        rows = (mirror + width * torch.arange(sentences, device=inputs.device)[:, None]).flatten()

        def reverse(sequences: Tensor) -> Tensor:  # whole rows are copied, several times faster than by gather
            return sequences.flatten(0, 1).index_select(0, rows).view(sentences, width, -1)

        states: list[Tensor] = []
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            inputs = self.dropout(inputs) if states else inputs
            rightward, _ = ahead(inputs)
            leftward, _ = back(reverse(inputs))
            inputs = torch.cat([rightward, reverse(leftward)], dim=-1)
            states.append(inputs)
        return states


class Affine(nn.Linear):
    """``nn.Linear`` that is twice as fast on some processors where no gradient is wanted; see ``product``."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``inputs W^T + b``."""
        if torch.is_grad_enabled():
            return super().forward(inputs)
        result = product(inputs.flatten(0, -2), self.weight).view(*inputs.shape[:-1], -1)
        return result if self.bias is None else result.add_(self.bias)


class SharedDropout(nn.Module):
    """Dropout whose mask is shared by all positions of a sequence ``[batch, time, size]``."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs with whole features dropped and the rest scaled up; unchanged in evaluation."""
        if not self.training or self.probability == 0:
            return inputs
        keep = 1 - self.probability
        mask = torch.empty(inputs.shape[0], 1, inputs.shape[2], dtype=inputs.dtype, device=inputs.device)
        return inputs * mask.bernoulli_(keep).div_(keep)


def initialise_lstm(lstm: nn.LSTM) -> None:
    """Set Xavier-uniform weights and zero biases with a forget bias of 1.

    torch adds two bias vectors, so each carries half of the forget bias.
    """
    for name, parameter in lstm.named_parameters():
        if "weight" in name:
            nn.init.xavier_uniform_(parameter)
        else:
            hidden = parameter.shape[0] // 4
            nn.init.zeros_(parameter)
            nn.init.constant_(parameter[hidden : 2 * hidden], 0.5)


def uniform_(parameter: Tensor, size: int) -> Tensor:
    """Fill with the uniform distribution on ``+-sqrt(3 / size)`` (unit variance per ``size`` inputs)."""
    bound = math.sqrt(3 / size)
    return nn.init.uniform_(parameter, -bound, bound)
