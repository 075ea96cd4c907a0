"""The compiled loops of the language model against torch."""

from __future__ import annotations

import pytest
import torch

from parser_vae.parsing.judging import log_sum_exp, mixed_states


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("size", [1, 15, 16, 100])
def test_log_sum_exp_equals_torch(dtype: torch.dtype, tolerance: float, size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    scores = 20 * torch.randn(5, size, generator=generator, dtype=dtype)
    bias = torch.randn(size, generator=generator, dtype=dtype)
    exact = torch.logsumexp(scores.double() + bias.double(), -1)
    torch.testing.assert_close(log_sum_exp(scores.clone(), bias).double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shift", [0, 1])
def test_only_arcs_from_words_to_the_left_bring_messages(shift: int) -> None:
    generator = torch.Generator().manual_seed(shift)
    own, from_head, from_dependent = torch.randn(3, 2, 5, 3, generator=generator, dtype=torch.float64)
    trees = torch.rand(4, 2, 5, 5, generator=generator) < 0.4
    rows = (torch.tensor([0, 3, 2, 1]), torch.tensor([0, 1, 1, 0]), torch.tensor([0, 3, 4, 1]))
    found = mixed_states(own, from_head, from_dependent, trees, rows, shift)
    for row, (member, sentence, step) in enumerate(zip(*(one.tolist() for one in rows), strict=True)):
        expected, word = own[sentence, step].clone(), step + shift
        for left in range(word if word < 5 else 0):
            expected += trees[member, sentence, left, word] * from_head[sentence, left]
            expected += trees[member, sentence, word, left] * from_dependent[sentence, left]
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)
