"""The dense layer gives what torch's own gives, and so do its derivatives, of large and of small products."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from parser_vae.images.dense import Dense


@pytest.mark.parametrize("rows", [3, 400])
def test_values_and_derivatives_of_second_order_are_those_of_torch(rows: int) -> None:
    """400 rows take the layer's own path, 3 torch's; the gradient's norm is differentiated as well."""
    torch.manual_seed(0)
    inputs = torch.randn(rows, 200)
    results = []
    for kind in (nn.Linear, Dense):
        torch.manual_seed(1)
        layer = kind(200, 100)
        given = inputs.clone().requires_grad_()
        output = layer(given)
        loss = output.tanh().square().sum()
        first = torch.autograd.grad(loss, [given, layer.weight], create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), [given, layer.weight, layer.bias])
        results.append([output, *first, *second])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.detach().abs().max()))


def test_another_precision_is_kept() -> None:
    layer = Dense(200, 100).double()
    inputs = torch.randn(400, 200, dtype=torch.float64)
    torch.testing.assert_close(layer(inputs), inputs @ layer.weight.t() + layer.bias)
