"""Neural relational inference (Kipf et al., 2018): trajectories to edge scores, and edges back to trajectories."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import relu

from parser_vae.graphs.layers import BatchNorm, Linear, Pairs, Perceptron, ordered_pairs
from parser_vae.training.config import Settings


class ModelSettings(Settings):
    """The size of the networks."""

    hidden: int = Field(256, ge=1, description="units of every hidden layer")


class Encoder(nn.Module):
    """Edge scores from whole trajectories, by two rounds of messages between points."""

    def __init__(self, frames: int, dimensions: int, hidden: int) -> None:
        super().__init__()
        self.points = Perceptron(frames * dimensions, hidden)
        self.pairs = Perceptron(2 * hidden, hidden)
        self.points_again = Perceptron(hidden, hidden)
        self.pairs_again = Perceptron(3 * hidden, hidden)
        self.score = Linear(hidden, 1)
        nn.init.xavier_normal_(self.score.weight)
        nn.init.constant_(self.score.bias, 0.1)

    def forward(self, positions: Tensor) -> Tensor:
        """Return scores ``[..., graphs, edges]`` of ``positions [graphs, time, points, dimensions]``.

        A score is the mean of those of its edge's two directions.
        """
        pairs = ordered_pairs(positions.shape[2])
        scores = self.score(self.pair_states(positions)).unflatten(-2, (len(positions), -1)).squeeze(-1)
        return scores[..., pairs.ordered.to(scores.device)].mean(-2)

    def pair_states(self, positions: Tensor) -> Tensor:
        """Return the last hidden states of ordered pairs ``[..., graphs * points * (points - 1), hidden]``."""
        graphs, _, points, _ = positions.shape
        pairs = ordered_pairs(points)
        nodes = self.points(positions.transpose(1, 2).reshape(graphs * points, -1))
        edges = self._between(self.pairs, pairs, nodes)
        # The published model divides by the number of points, not of senders.
        received = edges.unflatten(-2, (graphs * points, points - 1)).sum(-2) / points
        return self._between(self.pairs_again, pairs, self.points_again(received), edges)

    def _between(self, network: Perceptron, pairs: Pairs, nodes: Tensor, *edges: Tensor) -> Tensor:
        """Return the network's output for each ordered pair, from both its nodes and its edge's former states."""
        to_receiver, from_sender, *others = network.first.pieces([nodes, nodes, *edges])
        joined = pairs.join(to_receiver, from_sender).flatten(-4, -2)
        return network.rest(sum(others, joined))


@dataclass(frozen=True)
class Routes:
    """Which messages of hard edges go through one of the two networks: rows of senders and receivers ``[messages]``."""

    senders: Tensor
    receivers: Tensor


class Message(nn.Module):
    """What one point sends to another, in two layers."""

    def __init__(self, dimensions: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = Linear(2 * dimensions, hidden), Linear(hidden, hidden)


class Decoder(nn.Module):
    """The next frame from this one and the edges, by one round of messages of two kinds: with and without an edge."""

    def __init__(self, dimensions: int, hidden: int) -> None:
        super().__init__()
        self.without_edge, self.with_edge = Message(dimensions, hidden), Message(dimensions, hidden)
        self.update = Linear(dimensions + hidden, hidden)
        self.update_again = Linear(hidden, hidden)
        self.move = Linear(hidden, dimensions)

    def forward(self, positions: Tensor, edges: Tensor, every: int) -> Tensor:
        """Return predicted frames ``[..., graphs, time - 1, points, dimensions]``, from the second frame on.

        Args:
            positions: True positions ``[graphs, time, points, dimensions]``.
            edges: Hard or soft edges ``[..., graphs, points (points - 1) / 2]``.
            every: Frames between two true ones: predictions start from the true frames 0, ``every``, 2 ``every``, ...
                and in between go on from themselves.
        """
        _, frames, points, _ = positions.shape
        starts = torch.arange(0, frames - 1, every)
        state = positions[:, starts.to(positions.device)]
        hard = not edges.requires_grad and bool(((edges == 0) | (edges == 1)).all())
        predicted: list[Tensor] = []
        times: list[Tensor] = []
        routes: list[Routes] = []
        for step in range(min(every, frames - 1)):
            running = int((starts + step < frames - 1).sum())
            if running < state.shape[-3]:
                state, routes = state[..., :running, :, :], []
            if hard and not routes:
                routes = _routes(edges, running, points)
            state = self._step(state, edges, routes)
            predicted.append(state)
            times.append(starts[:running] + step)
        order = torch.cat(times).argsort().to(positions.device)
        return torch.cat(predicted, -3).index_select(-3, order)

    def _step(self, state: Tensor, edges: Tensor, routes: list[Routes]) -> Tensor:
        """Return the state after one frame ``[..., graphs, starts, points, dimensions]``."""
        if self.move.weight.dim() > 2 and state.dim() == 4:
            state = state.expand(len(self.move.weight), *state.shape)
        rows = state.flatten(-4, -2)
        received = self._hard(rows, routes) if routes else self._soft(rows, state, edges)
        own, others = self.update.pieces([rows, received])
        moved = self.move(relu(self.update_again(relu(own + others))))
        return (rows + moved).view(*moved.shape[:-2], *state.shape[-4:])

    def _soft(self, rows: Tensor, state: Tensor, edges: Tensor) -> Tensor:
        """Return what each point receives ``[..., rows, hidden]``: both kinds of message, weighted by the edge."""
        starts, points = state.shape[-3:-1]
        pairs = ordered_pairs(points)
        with_edge = _at_starts(edges, starts, points).unflatten(-1, (points, points - 1)).unsqueeze(-1)
        kinds = []
        for network, weight in ((self.without_edge, 1 - with_edge), (self.with_edge, with_edge)):
            hidden = relu(pairs.join(*network.first.pieces([rows, rows])))
            message = relu(network.second(hidden.flatten(-4, -2))).view_as(hidden)
            kinds.append((message * weight).sum(-2).flatten(-3, -2))
        return kinds[0] + kinds[1]

    def _hard(self, rows: Tensor, routes: list[Routes]) -> Tensor:
        """Return the same for hard edges: each message goes through the one network that counts."""
        received = rows.new_zeros(rows[..., 0].numel(), self.move.in_features)
        for network, route in zip((self.without_edge, self.with_edge), routes, strict=True):
            to_receiver, from_sender = (term.flatten(0, -2) for term in network.first.pieces([rows, rows]))
            hidden = relu(from_sender.index_select(0, route.senders) + to_receiver.index_select(0, route.receivers))
            message = relu(network.second(hidden.view(*rows.shape[:-2], -1, hidden.shape[-1])))
            received = received.index_add(0, route.receivers, message.flatten(0, -2))
        return received.view(*rows.shape[:-1], -1)


def _at_starts(edges: Tensor, starts: int, points: int) -> Tensor:
    """Return the edge of each ordered pair ``[..., graphs * starts, points * (points - 1)]``, once for every start."""
    ordered = edges[..., ordered_pairs(points).edge.to(edges.device)]
    return ordered.unsqueeze(-2).expand(*ordered.shape[:-1], starts, -1).flatten(-3, -2)


def _routes(edges: Tensor, starts: int, points: int) -> list[Routes]:
    """Return the messages without and with an edge; nothing unless all members of a population have equally many."""
    with_edge = _at_starts(edges, starts, points) != 0
    if with_edge.dim() > 2 and with_edge.flatten(1).sum(1).unique().numel() > 1:
        return []
    senders = ordered_pairs(points).senders.to(edges.device)
    routes = []
    for chosen in (~with_edge, with_edge):
        message = chosen.flatten().nonzero().squeeze(1)
        graph = message // (points * (points - 1))
        routes.append(Routes(graph * points + senders[message % len(senders)], message // (points - 1)))
    return routes


class GraphModel(nn.Module):
    """Encoder and decoder over positions that the training data's extremes take to [-1, 1].

    Attributes:
        frames: Time steps of a trajectory; the encoder reads all of them.
        dimensions: Coordinates of a point.
    """

    extremes: Tensor

    def __init__(self, settings: ModelSettings, frames: int, dimensions: int) -> None:
        super().__init__()
        self.settings, self.frames, self.dimensions = settings, frames, dimensions
        self.encoder = Encoder(frames, dimensions, settings.hidden)
        self.decoder = Decoder(dimensions, settings.hidden)
        self.register_buffer("extremes", torch.tensor([-1.0, 1.0]))

    def fit_extremes(self, positions: Tensor) -> None:
        """Let the smallest and the largest of these coordinates be -1 and 1 from now on."""
        self.extremes.copy_(torch.stack(positions.aminmax()))

    def normalised(self, positions: Tensor) -> Tensor:
        """Return positions on the scale that encoder and decoder work in."""
        low, high = self.extremes
        return (positions.to(low) - low) * 2 / (high - low) - 1

    @torch.no_grad()
    def swap_kinds(self) -> None:
        """Let the two kinds of message change places, and let all edges score 0.

        From a state in which edges avoid the true ones, the next scores then grow towards them.
        """
        kinds = self.decoder.without_edge, self.decoder.with_edge
        for one, other in zip(*(kind.parameters() for kind in kinds), strict=True):
            former = one.clone()
            one.copy_(other)
            other.copy_(former)
        for parameter in self.encoder.score.parameters():
            parameter.zero_()

    def keep_statistics(self) -> None:
        """Count the last batch into the running statistics of batch normalisation; once an update."""
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.keep()
