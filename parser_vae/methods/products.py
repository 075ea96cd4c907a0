"""Products of inputs with the weights of all members of a group, sharing between members what they share.

``inputs [rows, in]`` are the same in every member, ``inputs [members, rows, in]`` are not; a weight is a tensor (the
same in every member) or ``Perturbed``. Members come in pairs, plus before minus, so that for shared inputs
``x (W +- D)^T`` costs ``x W^T`` once and ``x D^T`` once for each pair, and a direction of low rank is never built.
"""

from __future__ import annotations

import torch
from torch import Tensor

from parser_vae.methods.perturbation import Perturbed

Weight = Tensor | Perturbed


def product(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return ``inputs [rows, in] @ weight[out, in]^T``, by oneDNN where torch has it; not differentiable.

    On processors with AVX-512 that torch's default library does not favour it is twice as fast.
    """
    if inputs.dtype == torch.float32 and inputs.device.type == "cpu" and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        result: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, None, "none", [], "")
        return result
    return inputs @ weight.t()


def linear(inputs: Tensor, weight: Weight, bias: Weight | None = None) -> Tensor:
    """Return ``inputs W^T + b`` ``[members, rows, out]``, or ``[rows, out]`` where nothing differs between members."""
    if isinstance(weight, Tensor):
        result = product(inputs.flatten(0, -2), weight).view(*inputs.shape[:-1], -1)
    elif weight.full is not None:
        result = _full(inputs, weight.centre, weight.full)
    else:
        result = _low_rank(inputs, weight)
    if bias is None:
        return result
    if isinstance(bias, Tensor):
        return result.add_(bias)
    return result.add_(bias.members()[:, None]) if result.dim() == 3 else result + bias.members()[:, None]


def _full(inputs: Tensor, centre: Tensor, full: Tensor) -> Tensor:
    members, rows = 2 * len(full), inputs.shape[-2]
    result = inputs.new_empty(members, rows, len(centre))
    if inputs.dim() == 3:
        for member in range(members):
            values = torch.add(centre, full[member // 2], alpha=1 - 2 * (member % 2))
            result[member] = product(inputs[member], values)
        return result
    base = product(inputs, centre)
    for pair, direction in enumerate(full):
        turn = product(inputs, direction)
        torch.add(base, turn, out=result[2 * pair])
        torch.sub(base, turn, out=result[2 * pair + 1])
    return result


def _low_rank(inputs: Tensor, weight: Perturbed) -> Tensor:
    assert weight.left is not None and weight.right is not None
    left = weight.left.transpose(1, 2)
    pairs, rows = len(left), inputs.shape[-2]
    base = product(inputs.flatten(0, -2), weight.centre)
    if inputs.dim() == 2:
        turn = torch.bmm(torch.matmul(inputs, weight.right), left)
        return torch.stack([base + turn, base - turn], 1).flatten(0, 1)
    thin = torch.bmm(inputs.reshape(pairs, 2 * rows, -1), weight.right)
    thin[:, rows:].neg_()
    return base.view(pairs, 2 * rows, -1).baddbmm_(thin, left).view(2 * pairs, rows, -1)
