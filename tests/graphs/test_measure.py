"""What a model is judged by, under each of the two distributions over latents."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parser_vae.graphs.limits import samples_at_once
from parser_vae.graphs.measure import infer, measures
from parser_vae.graphs.model import GraphModel
from parser_vae.graphs.problem import structure_of
from parser_vae.graphs.trajectories import Trajectories


@pytest.mark.parametrize("latent", ["tree", "edges"])
def test_exact_gibbs_models_are_judged_by_their_own_distribution(
    model: GraphModel, positions: Tensor, latent: str
) -> None:
    structure = structure_of(latent, positions.shape[2])  # type: ignore[arg-type]
    model.fit_extremes(positions)
    many = positions[:1].expand(4000, -1, -1, -1)
    found = infer(model, structure, many, divergence="exact_gibbs")
    scores = found.scores[:1]
    torch.testing.assert_close(found.divergence[:1], structure.kl_to_uniform(scores))
    expected = structure.marginals(scores)[0]
    torch.testing.assert_close(found.drawn.double().mean(0), expected.double(), atol=0.04, rtol=0)
    # All latents have equally many edges, so that a constant added to all scores says nothing.
    before = measures(found, Trajectories(many, None))
    with torch.no_grad():
        model.encoder.score.bias.sub_(20.0)
    after = measures(infer(model, structure, many, divergence="exact_gibbs"), Trajectories(many, None))
    assert after["elbo"] == pytest.approx(before["elbo"], rel=1e-2)
    assert measures(infer(model, structure, many), Trajectories(many, None))["elbo"] < 10 * before["elbo"]


def test_large_samples_are_looked_at_few_at_a_time() -> None:
    assert samples_at_once(10, 6, 64) == 500
    assert samples_at_once(10, 130, 64) == 6
    assert samples_at_once(10, 1000, 64) == 1
