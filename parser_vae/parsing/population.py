"""Arc scores of a whole group of perturbed encoders at once.

What the plain encoder does sentence batch by sentence batch is done here for all members together: first-layer
products for each distinct word rather than each token, all time steps of all members in one product where the noise
has low rank, and nothing twice that no perturbed parameter enters. The numbers agree with ``Encoder`` up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu_, pad

from parser_vae.methods.perturbation import Perturbed
from parser_vae.methods.products import Weight, linear, product
from parser_vae.parsing import kernels
from parser_vae.parsing.batches import Batch
from parser_vae.parsing.encoder import Encoder, MlpArcScorer, external_vectors
from parser_vae.parsing.layers import BidirectionalLSTM

FASTEST = 8  # members at a time; with more, the intermediate results leave the cache
LARGEST = 40  # members that share what none of them perturbs; divides a population of 400 evenly


class SharedStates:
    """The encoder's top states where no perturbed parameter enters them, computed once an update."""

    def __init__(self) -> None:
        self._last: tuple[Batch, Tensor, Tensor] | None = None

    def of(self, encoder: Encoder, parameters: Mapping[str, Perturbed], batch: Batch) -> Tensor | None:
        """Return the states ``[batch, L, 2 * hidden]``, or None where they differ between members."""
        if any(name.startswith(("encoder.embedding.", "encoder.lstm.")) for name in parameters):
            return None
        centre = next(iter(parameters.values())).centre  # one tensor for all groups of an update, another in the next
        last = self._last
        if last is None or last[0] is not batch or last[1] is not centre:
            self._last = last = (batch, centre, encoder.states(batch)[-1])
        return last[2]


def group_scores(encoder: Encoder, parameters: Mapping[str, Perturbed], batch: Batch, shared: SharedStates) -> Tensor:
    """Return arc scores ``[members, batch, head, dependent]`` of an encoder in evaluation mode; see the module."""
    fixed = shared.of(encoder, parameters, batch)
    pairs = next(iter(parameters.values())).pairs
    parts = [
        {name: one.part(slice(first, first + FASTEST // 2)) for name, one in parameters.items()}
        for first in range(0, pairs, FASTEST // 2)
    ]
    return torch.cat([EncoderGroup(encoder, part, fixed).scores(batch) for part in parts])


class EncoderGroup:
    """The encoder in each of a few members.

    Args:
        encoder: The unperturbed encoder, in evaluation mode.
        parameters: The perturbed parameters, by their names in the whole model.
        fixed: Its top states ``[batch, L, 2 * hidden]`` where no perturbed parameter enters them, else None.
    """

    def __init__(self, encoder: Encoder, parameters: Mapping[str, Perturbed], fixed: Tensor | None) -> None:
        self.encoder = encoder
        self.parameters = parameters
        self.fixed = fixed
        self.members = 2 * next(iter(parameters.values())).pairs

    def scores(self, batch: Batch) -> Tensor:
        """Return arc scores ``[members, batch, head, dependent]``; padding holds no meaning."""
        nodes = batch.words.shape[1]
        dtype = self.encoder.embedding.words.weight.dtype
        scores = torch.zeros(self.members, len(batch), nodes, nodes, dtype=dtype)
        if self.fixed is None:
            types, index = self._types(batch)
        for chosen in _buckets(batch.lengths):
            width = int(batch.lengths[chosen].max()) + 1
            if self.fixed is None:
                lengths = batch.lengths[chosen] + 1
                states = self._lstm("lstm.", self.encoder.lstm, types, index[chosen, :width], lengths)
            else:
                states = _split_pad(self.fixed[chosen, :width].flatten(0, 1), self.encoder.lstm)
            found = self._arcs(states, len(chosen), width)
            distance = self.encoder.distance
            if distance is not None:
                found = found + self._distances(width)
            scores[:, chosen, :width, :width] = found
        return scores

    def _touches(self, prefix: str) -> bool:
        return any(name.startswith(f"encoder.{prefix}") for name in self.parameters)

    def _weight(self, name: str) -> Weight:
        return self.parameters.get(f"encoder.{name}", self.encoder.get_parameter(name).detach())

    # ------------------------------------------------------------------ words

    def _types(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the inputs of distinct words ``[(members,) types, size]`` and which of them is where."""
        embedding = self.encoder.embedding
        spellings = batch.spellings if embedding.settings.character_size else torch.zeros_like(batch.spellings)
        keys = torch.stack([batch.words, batch.vectors, spellings], -1).flatten(0, 1)
        distinct, index = keys.unique(dim=0, return_inverse=True)
        words, vectors, spellings = distinct.t().contiguous()
        parts = [self._rows("embedding.words.weight", words)]
        if embedding.vectors is not None:
            special = self._weight("embedding.special_vectors")
            tables = [special] if isinstance(special, Tensor) else list(special.members())
            found = torch.stack([external_vectors(embedding.vectors, table, vectors) for table in tables])
            parts.append(found if isinstance(special, Perturbed) else found[0])
        if embedding.settings.character_size:
            parts.append(self._spellings(batch.characters)[..., spellings, :])
        if any(part.dim() == 3 for part in parts):
            parts = [part.expand(self.members, *part.shape[-2:]) for part in parts]
        return torch.cat(parts, -1), index.view(batch.words.shape)

    def _rows(self, name: str, wanted: Tensor) -> Tensor:
        """Return rows of an embedding ``[(members,) wanted, size]``."""
        weight = self._weight(name)
        if isinstance(weight, Tensor):
            return weight[wanted]
        if weight.rows is None:
            return weight.members()[:, wanted]
        return weight.members()[:, torch.searchsorted(weight.rows, wanted)]

    def _spellings(self, characters: Tensor) -> Tensor:
        """Return the vectors of distinct spellings ``[(members,) distinct, 2 * character_size]``."""
        embedding = self.encoder.embedding
        if not self._touches("embedding.characters.") and not self._touches("embedding.spelling."):
            return embedding.spellings(characters)
        lengths = (characters != 0).sum(-1)
        size = embedding.settings.character_size
        known, index = characters.unique(return_inverse=True)
        letters = self._rows("embedding.characters.weight", known)
        result = letters.new_empty(self.members, len(characters), 2 * size)
        for chosen in _buckets(lengths):
            width = int(lengths[chosen].max())
            states = self._lstm(
                "embedding.spelling.", embedding.spelling, letters, index[chosen, :width], lengths[chosen]
            ).view(self.members, len(chosen), width, 2, -1)
            last = states[:, torch.arange(len(chosen)), lengths[chosen] - 1, 0, :size]
            result[:, chosen] = torch.cat([last, states[:, :, 0, 1, :size]], -1)
        return result

    # ------------------------------------------------------------------ recurrence

    def _lstm(self, prefix: str, lstm: BidirectionalLSTM, types: Tensor, index: Tensor, lengths: Tensor) -> Tensor:
        """Return the top states ``[members, batch * width, 2 * units]``; each direction's units are padded with 0.

        Args:
            prefix: Name of the LSTM within the encoder.
            lstm: The unperturbed LSTM.
            types: Distinct inputs of the first layer ``[(members,) types, size]``.
            index: Which input comes where ``[batch, width]``.
            lengths: Lengths of the sequences ``[batch]``.
        """
        batch, width = index.shape
        time = torch.arange(width)
        mirror = torch.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)
        states: Tensor | None = None
        for layer in range(len(lstm.forwards)):
            units = _padded(lstm.hidden)
            differ = len(states) > 1 if states is not None else types.dim() == 3
            differ = differ or any(self._touches(f"{prefix}{side}.{layer}.") for side in ("forwards", "backwards"))
            fresh = types.new_empty(self.members if differ else 1, batch * width, 2 * units)
            for direction, (side, order) in enumerate((("forwards", time.expand(batch, -1)), ("backwards", mirror))):
                name = f"{prefix}{side}.{layer}."
                recurrent = _pad_columns(_pad_gates(self._weight(name + "weight_hh_l0")), 1)
                inward = _pad_gates(self._weight(name + "weight_ih_l0"))
                bias = self._sum(*(_pad_gates(self._weight(f"{name}bias_{kind}_l0")) for kind in ("ih", "hh")))
                if states is None:
                    table, joint, kind = linear(types, inward, bias), recurrent, index
                else:
                    members = bias if isinstance(bias, Tensor) else bias.members()
                    table, kind = members.view(-1, 1, members.shape[-1]), torch.zeros_like(index)
                    joint = _side_by_side(_pad_columns(inward, 2), recurrent)
                table = table if table.dim() == 3 else table[None]
                for chosen, weight in _alike(joint, len(fresh)):
                    part = table if len(table) == 1 else table[chosen]
                    below = states if states is None or len(states) == 1 else states[chosen]
                    _recur(weight, part.contiguous(), kind, order, below, fresh[chosen], direction * units)
            states = fresh
        assert states is not None
        return states

    @staticmethod
    def _sum(first: Weight, second: Weight) -> Weight:
        """Return the sum of two vectors of parameters, perturbed if either is."""
        if isinstance(first, Tensor):
            first, second = second, first
        if isinstance(first, Tensor):
            assert isinstance(second, Tensor)
            return first + second
        assert first.full is not None
        if isinstance(second, Tensor):
            return replace(first, centre=first.centre + second)
        assert second.full is not None
        return replace(first, centre=first.centre + second.centre, full=first.full + second.full)

    # ------------------------------------------------------------------ arcs

    def _arcs(self, states: Tensor, batch: int, width: int) -> Tensor:
        """Return scores ``[(members,) batch, width, width]`` of states ``[(members,) batch * width, 2 * units]``."""
        arcs = self.encoder.arcs
        head = linear(states, _pad_columns(self._weight("arcs.head.weight"), 2))
        dependent = linear(states, _pad_columns(self._weight("arcs.dependent.weight"), 2))
        if isinstance(arcs, MlpArcScorer):
            head = self._plus(head, self._weight("arcs.bias"))
            output = self._members_of(self._weight("arcs.output.weight"))[:, 0]
            head, dependent = (x.view(-1, batch, width, x.shape[-1]) for x in (head, dependent))
            scores = states.new_empty(self.members, batch, width, width)
            for member in range(self.members):
                one = [x[member if len(x) > 1 else 0] for x in (head, dependent, output)]
                scores[member] = _tanh_scores(*one)
            return scores
        head = leaky_relu_(self._plus(head, self._weight("arcs.head.bias")), 0.1)
        dependent = leaky_relu_(self._plus(dependent, self._weight("arcs.dependent.bias")), 0.1)
        bent = linear(head, _transposed(self._weight("arcs.weight")))
        lone = torch.matmul(head, self._members_of(self._weight("arcs.head_bias"))[..., None])
        size = bent.shape[-1]
        bent, dependent = (x.reshape(-1, batch, width, size) for x in (bent, dependent))
        members = max(len(bent), len(dependent))
        bent, dependent = (x.expand(members, -1, -1, -1).flatten(0, 1) for x in (bent, dependent))
        return torch.bmm(bent, dependent.transpose(1, 2)).view(members, batch, width, width) + lone.view(
            -1, batch, width, 1
        )

    def _distances(self, width: int) -> Tensor:
        """Return the distance bias ``[members or 1, 1, width, width]``."""
        distance = self.encoder.distance
        assert distance is not None
        return self._members_of(self._weight("distance.bias"))[:, distance.buckets(width)][:, None]

    @staticmethod
    def _plus(values: Tensor, bias: Weight) -> Tensor:
        if isinstance(bias, Tensor):
            return values.add_(bias)
        return values.add_(bias.members()[:, None]) if values.dim() == 3 else values + bias.members()[:, None]

    @staticmethod
    def _members_of(weight: Weight) -> Tensor:
        return weight[None] if isinstance(weight, Tensor) else weight.members()


def group_size(encoder: Encoder, batch: Batch, memory: int) -> int:
    """Return how many members ``group_scores`` should have together, if it may take ``memory`` bytes."""
    units = _padded(encoder.settings.hidden)
    tokens = batch.words.numel()
    scored = 3 * encoder.settings.arc_size * tokens + 2 * tokens * batch.words.shape[1]
    fitting = memory // (4 * (tokens * 12 * units + scored))
    return max(2, fitting if fitting < FASTEST else LARGEST)


def can_score_together(parameters: Mapping[str, Perturbed]) -> bool:
    """Return whether an ``EncoderGroup`` is worthwhile: not where full-rank noise reaches the lowest layer.

    There no two members share a product, and the LSTM of torch is faster alone than this one.
    """
    lowest = ("encoder.embedding.", "encoder.lstm.forwards.0.", "encoder.lstm.backwards.0.")
    return not any(
        one.full is not None and one.centre.dim() > 1 and name.startswith(lowest) for name, one in parameters.items()
    )


def _alike(weight: Weight, members: int) -> Iterator[tuple[slice, Weight]]:
    """Yield sets of members that one product can serve, and their weight: all, or one by one at full rank."""
    if isinstance(weight, Tensor) or weight.full is None:
        yield slice(0, members), weight
    else:
        for member, values in enumerate(weight.members()):
            yield slice(member, member + 1), values


def _recur(
    weight: Weight, table: Tensor, kind: Tensor, order: Tensor, below: Tensor | None, states: Tensor, place: int
) -> None:
    """Write the states of one direction of one layer.

    Args:
        weight: Recurrent weights ``[4 * units, units]``, or with the inputs' to their left.
        table: What inputs and biases give ``[members or 1, list, 4 * units]``.
        kind: Which of the list each token has ``[batch, width]``.
        order: The positions in the order they are read ``[batch, width]``.
        below: States of the layer below ``[members or 1, batch * width, size]``; None at the bottom.
        states: Where to write ``[members, batch * width, 2 * units]``.
        place: Column at which this direction's units start.
    """
    members, total, size = states.shape
    batch, width = kind.shape
    units = size // 2
    joined_size = units if below is None else units + below.shape[-1]
    joined = states.new_zeros(members, batch, joined_size)
    cells = states.new_zeros(members * batch * units)
    sequences = torch.arange(batch)
    offsets = total * torch.arange(members)[:, None]
    flat = None if below is None else below.flatten(0, 1)
    turns, rank = states.new_zeros(1), 0
    if not isinstance(weight, Tensor):
        # the right factors are further outputs of the same product: of all pairs, so that there is one product
        assert weight.left is not None and weight.right is not None
        rank = weight.left.shape[-1]
        turns = weight.left.transpose(1, 2).contiguous().view(-1)
        weight = torch.cat([weight.centre, weight.right.transpose(1, 2).flatten(0, 1)])
        weight = pad(weight, (0, 0, 0, -len(weight) % kernels.LANES))
    listed = 0 if len(table) == 1 else table.shape[1]
    sizes = (members, batch, units, listed, joined_size, size, len(weight), rank)
    kinds = kind.gather(1, order).t().contiguous()
    rows = (offsets[:, None] + (sequences * width)[:, None] + order).permute(2, 0, 1).reshape(width, -1)
    written = (table.view(-1).numpy(), turns.numpy(), cells.numpy(), joined.view(-1).numpy(), states.view(-1).numpy())
    for step in range(width):
        if below is not None and flat is not None:
            used = rows[step, : len(below) * batch]
            joined[:, :, :-units] = flat.index_select(0, used).view(len(below), batch, -1)
        gates = product(joined.view(members * batch, -1), weight)
        kernels.lstm_cell(gates.view(-1).numpy(), kinds[step].numpy(), rows[step].numpy(), *written, place, sizes)


def _tanh_scores(head: Tensor, dependent: Tensor, output: Tensor) -> Tensor:
    if kernels.can_score(head, dependent):
        return kernels.pairwise_tanh(head, dependent, output)
    return torch.tanh(head[:, :, None] + dependent[:, None]) @ output


def _buckets(lengths: Tensor) -> list[Tensor]:
    """Return sets of items of similar length: enough of them for large products, little of it padding."""
    order = lengths.argsort(stable=True, descending=True)
    sizes = lengths[order].tolist()
    result, start = [], 0
    for position, size in enumerate(sizes):
        if size < 0.8 * sizes[start] and position - start >= 48:
            result.append(order[start:position])
            start = position
    return [*result, order[start:]]


def _padded(units: int) -> int:
    return -(-units // kernels.LANES) * kernels.LANES


def _split_pad(states: Tensor, lstm: BidirectionalLSTM) -> Tensor:
    """Return states ``[rows, 2 * hidden]`` with each direction's units padded."""
    return pad(states.view(len(states), 2, lstm.hidden), (0, _padded(lstm.hidden) - lstm.hidden)).flatten(1)


def _pad_units(values: Tensor, dimension: int, parts: int) -> Tensor:
    """Return values whose ``dimension`` holds ``parts`` runs of units, each run padded with 0."""
    apart = values.unflatten(dimension, (parts, -1)).movedim(dimension + 1, -1)
    padded = pad(apart, (0, _padded(apart.shape[-1]) - apart.shape[-1]))
    return padded.movedim(-1, dimension + 1).flatten(dimension, dimension + 1).contiguous()


def _pad_gates(weight: Weight) -> Weight:
    """Return LSTM weights or biases ``[4 * units, ...]`` with each gate's units padded."""
    if isinstance(weight, Tensor):
        return _pad_units(weight, 0, 4)
    full, left = (None if part is None else _pad_units(part, 1, 4) for part in (weight.full, weight.left))
    return replace(weight, centre=_pad_units(weight.centre, 0, 4), full=full, left=left)


def _pad_columns(weight: Weight, parts: int) -> Weight:
    """Return weights ``[out, parts * units]`` with each part's units padded."""
    if isinstance(weight, Tensor):
        return _pad_units(weight, 1, parts)
    full = None if weight.full is None else _pad_units(weight.full, 2, parts)
    right = None if weight.right is None else _pad_units(weight.right, 1, parts)
    return replace(weight, centre=_pad_units(weight.centre, 1, parts), full=full, right=right)


def _side_by_side(first: Weight, second: Weight) -> Weight:
    """Return one matrix with the columns of both."""
    centres = [weight if isinstance(weight, Tensor) else weight.centre for weight in (first, second)]
    centre = torch.cat(centres, 1)
    perturbed = [weight for weight in (first, second) if isinstance(weight, Perturbed)]
    if not perturbed:
        return centre
    if perturbed[0].full is not None:
        pairs = perturbed[0].pairs
        turns = [
            values.new_zeros(pairs, *values.shape) if isinstance(weight, Tensor) else weight.direction()
            for weight, values in zip((first, second), centres, strict=True)
        ]
        return Perturbed(centre, None, torch.cat(turns, 2))
    before, after = (values.shape[1] for values in centres)
    left, right = [], []
    for weight, rows in ((first, (0, 0, 0, after)), (second, (0, 0, before, 0))):
        if isinstance(weight, Perturbed):
            assert weight.left is not None and weight.right is not None
            left.append(weight.left)
            right.append(pad(weight.right, rows))
    return Perturbed(centre, None, None, torch.cat(left, 2), torch.cat(right, 2))


def _transposed(weight: Weight) -> Weight:
    if isinstance(weight, Tensor):
        return weight.t().contiguous()
    full = None if weight.full is None else weight.full.transpose(1, 2).contiguous()
    return Perturbed(weight.centre.t().contiguous(), None, full, weight.right, weight.left)
