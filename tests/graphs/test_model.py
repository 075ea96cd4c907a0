"""Encoder, decoder and batch normalisation: what depends on what, and equal results by every way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from parser_vae.graphs.layers import BatchNorm
from parser_vae.graphs.model import GraphModel
from parser_vae.structures.undirected import UndirectedTrees


def edge_order(permutation: Tensor) -> Tensor:
    """Return which old edge each edge of permuted points was."""
    points = len(permutation)
    first, second = torch.triu_indices(points, points, 1)
    number = torch.zeros(points, points, dtype=torch.int64)
    number[first, second] = number[second, first] = torch.arange(len(first))
    return number[permutation[first], permutation[second]]


def test_renaming_points_renames_edges(model: GraphModel, positions: Tensor) -> None:
    permutation = torch.tensor([2, 0, 3, 1])
    scores = model.encoder(positions)
    torch.testing.assert_close(model.encoder(positions[:, :, permutation]), scores[:, edge_order(permutation)])
    assert scores.std() > 0
    edges = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    predicted = model.decoder(positions, edges, 3)
    permuted = model.decoder(positions[:, :, permutation], edges[:, edge_order(permutation)], 3)
    torch.testing.assert_close(permuted, predicted[:, :, permutation])


@pytest.mark.parametrize("every", [1, 2, 4, 6, 9])
def test_predictions_start_from_true_frames(model: GraphModel, positions: Tensor, every: int) -> None:
    edges = UndirectedTrees().argmax(model.encoder(positions)).detach()
    predicted = model.decoder(positions, edges, every)
    assert predicted.shape == (5, 6, 4, 2)
    state = positions
    for frame in range(6):
        state = positions[:, frame] if frame % every == 0 else state
        state = model.decoder(torch.stack([state, state], 1), edges, 1)[:, 0]
        torch.testing.assert_close(predicted[:, frame], state)


def test_swapped_kinds_predict_the_same_with_the_other_edges(model: GraphModel, positions: Tensor) -> None:
    scores = model.encoder(positions)
    edges = UndirectedTrees().argmax(scores).detach()
    predicted = model.decoder(positions, edges, 3)
    model.swap_kinds()
    torch.testing.assert_close(model.decoder(positions, 1 - edges, 3), predicted)
    assert not torch.allclose(model.decoder(positions, edges, 3), predicted)
    assert scores.any() and not model.encoder(positions).any()


@pytest.mark.parametrize("every", [1, 4])
def test_hard_edges_take_a_shorter_way_to_the_same(model: GraphModel, positions: Tensor, every: int) -> None:
    edges = (torch.rand(5, 6, generator=torch.Generator().manual_seed(0)) < 0.4).double()
    assert 0 < edges.mean() < 1
    shorter = model.decoder(positions, edges, every)
    longer = model.decoder(positions, edges.clone().requires_grad_(), every)
    torch.testing.assert_close(shorter, longer)
    weights = list(model.decoder.parameters())
    gradients = [torch.autograd.grad(way.square().sum(), weights) for way in (shorter, longer)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(shorter, model.decoder(positions, 1 - edges, every))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("soft", [True, False])
def test_members_together_are_members_alone(model: GraphModel, positions: Tensor, training: bool, soft: bool) -> None:
    model.train(training)
    generator = torch.Generator().manual_seed(0)
    stacked = {
        name: p.detach() + 0.1 * torch.randn(3, *p.shape, generator=generator, dtype=p.dtype)
        for name, p in model.named_parameters()
    }
    encoder, decoder = (
        {name.removeprefix(part): p for name, p in stacked.items() if name.startswith(part)}
        for part in ("encoder.", "decoder.")
    )
    scores = functional_call(model.encoder, encoder, (positions,))
    edges = scores.sigmoid() if soft else UndirectedTrees().argmax(scores.flatten(0, 1)).view_as(scores)
    predicted = functional_call(model.decoder, decoder, (positions, edges, 4))
    for member in range(3):
        alone = functional_call(model.encoder, {name: p[member] for name, p in encoder.items()}, (positions,))
        torch.testing.assert_close(scores[member], alone)
        own = {name: p[member] for name, p in decoder.items()}
        alone = functional_call(model.decoder, own, (positions, edges[member], 4))
        torch.testing.assert_close(predicted[member], alone)


def test_unequal_members_are_possible(model: GraphModel, positions: Tensor) -> None:
    stacked = {name: p.detach().expand(2, *p.shape) for name, p in model.decoder.named_parameters()}
    edges = torch.stack([torch.zeros(5, 6), torch.ones(5, 6)]).double()
    predicted = functional_call(model.decoder, stacked, (positions, edges, 4))
    torch.testing.assert_close(predicted[1], model.decoder(positions, edges[1], 4))


def test_running_statistics_change_once_an_update_and_as_in_torch() -> None:
    own, torchs = BatchNorm(3), nn.BatchNorm1d(3)
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        assert torch.equal(own(inputs), own(inputs))
        torch.testing.assert_close(own(inputs), torchs(inputs))
        own.keep()
    torch.testing.assert_close(own.mean, torchs.running_mean)
    torch.testing.assert_close(own.variance, torchs.running_var)
    torch.testing.assert_close(own.eval()(inputs), torchs.eval()(inputs))
    assert set(own.state_dict()) == {"weight", "bias", "mean", "variance"}


def test_the_training_data_fill_the_scale(model: GraphModel) -> None:
    positions = torch.tensor([[3.0, 7.0], [5.0, 4.0]])
    model.fit_extremes(positions)
    assert model.normalised(positions).tolist() == [[-1.0, 1.0], [0.0, -0.5]]
