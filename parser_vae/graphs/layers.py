"""Layers of the graph model; each also takes the parameters of many members of a population at once.

Inside the model activations are ``[rows, features]``, or ``[members, rows, features]`` when the parameters put in by
``torch.func.functional_call`` have a leading ``members`` axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, elu, linear

MOMENTUM = 0.1  # of running statistics
EPSILON = 1e-5  # added to variances


class Linear(nn.Linear):
    """An affine layer whose input may come in pieces."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``[..., rows, out]`` of ``inputs [..., rows, in]``."""
        return _with_weights(inputs, self.weight, self.bias)

    def pieces(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return for each piece of the input what it adds to the output; the first brings the bias.

        Pieces may have different rows, such as nodes and edges, which saves multiplying a node once for each edge.
        """
        weights = self.weight.split([piece.shape[-1] for piece in inputs], -1)
        first = _with_weights(inputs[0], weights[0], self.bias)
        return [first, *(_with_weights(x, w) for x, w in zip(inputs[1:], weights[1:], strict=True))]


def _with_weights(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if weight.dim() == 2:
        return linear(inputs, weight, bias)
    if inputs.dim() == 2:
        inputs = inputs.expand(len(weight), -1, -1)
    # of many small matrices a product with transposed ones takes three times as long
    product = torch.bmm(inputs, weight.mT.contiguous())
    return product if bias is None else product.add_(bias[:, None])


class BatchNorm(nn.Module):
    """Normalises by the batch in training mode and by running statistics otherwise.

    A forward pass never changes the running statistics: methods run many, some with perturbed parameters. The trainer
    calls ``keep`` once an update, and the statistics of the last unperturbed pass are counted in.
    """

    mean: Tensor
    variance: Tensor
    batch_mean: Tensor
    batch_variance: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))
        self.register_buffer("batch_mean", torch.zeros(features), persistent=False)
        self.register_buffer("batch_variance", torch.ones(features), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``inputs [..., rows, features]`` with mean ``bias`` and standard deviation ``weight``."""
        if not self.training:
            scale = self.weight * (self.variance + EPSILON).rsqrt()
            shift = self.bias - self.mean * scale
            if scale.dim() > 1:
                scale, shift = scale[:, None], shift[:, None]
            return torch.addcmul(shift, inputs, scale)
        if self.weight.dim() == 1:
            # momentum 1: what is written is this batch's own mean and variance
            return batch_norm(inputs, self.batch_mean, self.batch_variance, self.weight, self.bias, True, 1.0, EPSILON)
        # In two passes, because torch.var over rows takes ten times as long.
        centred = inputs - inputs.mean(-2, keepdim=True)
        scale = self.weight * (centred.square().mean(-2) + EPSILON).rsqrt()
        return torch.addcmul(self.bias[:, None], centred, scale[:, None])

    @torch.no_grad()
    def keep(self) -> None:
        """Count the last batch's statistics into the running ones."""
        self.mean.lerp_(self.batch_mean, MOMENTUM)
        self.variance.lerp_(self.batch_variance, MOMENTUM)


class Perceptron(nn.Module):
    """Two layers with ELU, then batch normalisation; the input may come in pieces that are joined by the caller."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = Linear(inputs, hidden), Linear(hidden, hidden)
        self.norm = BatchNorm(hidden)
        for layer in (self.first, self.second):
            nn.init.xavier_normal_(layer.weight)
            nn.init.constant_(layer.bias, 0.1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``[..., rows, hidden]`` of ``inputs [..., rows, in]``."""
        return self.rest(self.first(inputs))

    def rest(self, first: Tensor) -> Tensor:
        """Return the output, given what the first layer gave before its ELU."""
        return self.norm(elu(self.second(elu(first))))


class Pairs:
    """Where ordered pairs of points lie: ``receiver`` times ``points - 1`` senders, the receiver left out.

    Attributes:
        senders: The sending point of each ordered pair ``[points (points - 1)]``.
        edge: The undirected pair it belongs to, in the order of ``torch.triu_indices(points, points, 1)``.
        ordered: The two ordered pairs of each undirected one ``[2, points (points - 1) / 2]``.
    """

    def __init__(self, points: int) -> None:
        self.points = points
        off_diagonal = ~torch.eye(points, dtype=torch.bool)
        receivers, self.senders = off_diagonal.nonzero().unbind(1)
        first, second = torch.triu_indices(points, points, 1)
        number = torch.zeros(points, points, dtype=torch.int64)
        number[first, second] = number[second, first] = torch.arange(len(first))
        self.edge = number[receivers, self.senders]
        place = torch.zeros(points, points, dtype=torch.int64)
        place[off_diagonal] = torch.arange(len(receivers))
        self.ordered = torch.stack([place[first, second], place[second, first]])

    def join(self, to_receiver: Tensor, from_sender: Tensor) -> Tensor:
        """Return the sum ``[..., graphs, points, points - 1, features]`` for every ordered pair of points.

        Args:
            to_receiver: A term of the receiving point ``[..., graphs * points, features]``.
            from_sender: A term of the sending point, of the same shape.
        """
        features = from_sender.shape[-1]
        flat = from_sender.reshape(-1, self.points, features).index_select(1, self.senders.to(from_sender.device))
        sent = flat.view(*from_sender.shape[:-2], -1, self.points, self.points - 1, features)
        return sent + to_receiver.view(*sent.shape[:-2], 1, features)


@lru_cache(maxsize=8)
def ordered_pairs(points: int) -> Pairs:
    """Return the ordered pairs of this many points."""
    return Pairs(points)
