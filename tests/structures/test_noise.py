import math

import pytest
import torch

from parser_vae.structures.categorical import Categorical
from parser_vae.structures.noise import gumbel, gumbel_difference, sum_of_gamma

EULER = 0.5772156649


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


KINDS = [gumbel, gumbel_difference, lambda like, g: sum_of_gamma(like, g, k=5)]


@pytest.mark.parametrize("noise", KINDS)
def test_same_generator_same_numbers_in_both_dtypes_and_all_finite(noise):
    like = torch.empty(50_000)
    narrow, again = noise(like, generator()), noise(like, generator())
    wide = noise(like.double(), generator())
    assert torch.equal(narrow, again) and narrow.dtype == torch.float32 and wide.dtype == torch.float64
    assert torch.equal(narrow, wide.float())
    assert narrow.isfinite().all()
    assert not torch.equal(narrow, noise(like, generator(1)))


@pytest.mark.parametrize("noise", KINDS)
def test_uniforms_of_zero_and_almost_one_stay_finite(noise, monkeypatch):
    for uniform in (0.0, 1 - 2.0**-53):
        monkeypatch.setattr(torch, "rand", lambda shape, **kw: torch.full(shape, uniform, dtype=kw["dtype"]))  # noqa: B023
        assert noise(torch.empty(3), generator()).isfinite().all()


def test_moments():
    like = torch.empty(400_000, dtype=torch.float64)
    drawn = gumbel(like, generator())
    assert drawn.mean().item() == pytest.approx(EULER, abs=0.01)
    assert drawn.var().item() == pytest.approx(math.pi**2 / 6, rel=0.02)
    drawn = gumbel_difference(like, generator())
    assert drawn.mean().item() == pytest.approx(0, abs=0.01)
    assert drawn.var().item() == pytest.approx(math.pi**2 / 3, rel=0.02)


def test_k_sum_of_gamma_numbers_add_up_to_a_gumbel():
    drawn = sum_of_gamma(torch.empty(30_000, 4, dtype=torch.float64), generator(), k=4, terms=40).sum(-1)
    assert drawn.mean().item() == pytest.approx(EULER, abs=0.04)
    assert drawn.var().item() == pytest.approx(math.pi**2 / 6, rel=0.04)
    below = (drawn < 0).double().mean().item()
    assert below == pytest.approx(math.exp(-1), abs=0.015)


def test_gumbel_noise_before_argmax_samples_the_categorical():
    scores = torch.tensor([[1.0, 0.0, -1.0]]).expand(60_000, 3)
    share = Categorical().argmax(scores + gumbel(scores, generator())).mean(0)
    torch.testing.assert_close(share, scores[0].softmax(-1), atol=0.01, rtol=0)
