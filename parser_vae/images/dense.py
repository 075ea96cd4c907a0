"""The fully connected layer of image models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from parser_vae.methods.products import product

_LEAST_WORK = 2**22
"""Multiplications below which a product is left to torch: there the calls cost more than the products."""


class Dense(nn.Linear):
    """``x W^T + b`` as in torch, but forward and backward by the faster of the libraries that torch has."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``[rows, out]`` of ``inputs [rows, in]``."""
        if inputs.dim() != 2 or len(inputs) * self.weight.numel() < _LEAST_WORK:
            return super().forward(inputs)
        result: Tensor = _Product.apply(inputs, self.weight)  # type: ignore[no-untyped-call]
        return result + self.bias


class _Product(torch.autograd.Function):
    """``left [rows, inner] @ right[out, inner]^T``; its derivatives are such products again, of any order."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return product(left, right)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        # the calls of a Function cost a quarter of such a product, so only where derivatives are differentiated again
        times = _Product.apply if torch.is_grad_enabled() else product
        by_left = times(slopes[0], right.t()) if ctx.needs_input_grad[0] else None
        by_right = times(slopes[0].t(), left.t()) if ctx.needs_input_grad[1] else None
        return by_left, by_right
