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


def test_kernel_is_not_used_where_it_cannot_be() -> None:
    head, dependent = torch.randn(2, 1, 3, 4)
    assert kernels.can_score(head, dependent)
    assert not kernels.can_score(head.double(), dependent.double())
    assert not kernels.can_score(head + 50, dependent)
    assert not kernels.can_score(head.requires_grad_(), dependent)
    with torch.no_grad():
        assert kernels.can_score(head, dependent)
