"""The compiled tanh scorer against torch."""

from __future__ import annotations

import pytest
import torch

from parser_vae.parsing import kernels


@pytest.mark.parametrize(("size", "scale"), [(1, 1), (4, 2), (99, 1), (100, 2), (100, 9)])
def test_pairwise_tanh_equals_torch(size: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(size)
    head, dependent = (scale * torch.randn(2, 3, 9, size, generator=generator)).clamp(-39, 39)
    output = torch.randn(size, generator=generator)
    exact = torch.tanh(head[:, :, None].double() + dependent[:, None].double()) @ output.double()
    torch.testing.assert_close(kernels.pairwise_tanh(head, dependent, output).double(), exact, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("size", "scale"), [(1, 1.0), (16, 1.0), (35, 2.0), (100, 9.0)])
def test_the_gradient_of_pairwise_tanh_equals_that_of_torch(size: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(size)
    head, dependent = (scale * torch.randn(2, 3, 9, size, generator=generator)).clamp(-39, 39)
    inputs = [tensor.requires_grad_() for tensor in (head, dependent, torch.randn(size, generator=generator))]
    upstream = torch.randn(3, 9, 9, generator=generator)
    found = torch.autograd.grad(kernels.pairwise_tanh(*inputs), inputs, upstream)
    double = [tensor.detach().double().requires_grad_() for tensor in inputs]
    scores = torch.tanh(double[0][:, :, None] + double[1][:, None]) @ double[2]
    exact = torch.autograd.grad(scores, double, upstream.double())
    for one, other in zip(found, exact, strict=True):
        assert float(other.abs().max()) > 0.1
        torch.testing.assert_close(one.double(), other, rtol=0, atol=3e-5)


def test_kernel_is_not_used_where_it_cannot_be() -> None:
    head, dependent = torch.randn(2, 1, 3, 4)
    assert kernels.can_score(head, dependent)
    assert not kernels.can_score(head.double(), dependent.double())
    assert not kernels.can_score(head + 50, dependent)
