"""Vectors of n bits: independent, or coupled by a weight for every pair that is on together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from parser_vae.errors import IncompatibleError, InputError
from parser_vae.structures.base import Capability, Perturbed, Structure
from parser_vae.structures.binary_solvers import coordinate, max_flow, mixed_integer
from parser_vae.structures.categorical import draw_index
from parser_vae.structures.noise import gumbel_difference
from parser_vae.structures.padding import forbid_padding, sizes

Solver = Literal["exhaustive", "mixed_integer", "max_flow", "coordinate"]

MAX_EXHAUSTIVE_BITS = 18
"""The largest n for which all 2^n objects are scored: 262,144 numbers an item."""


class Binary(Structure):
    """Independent bits; ``scores [batch, n]``, objects 0/1 ``[batch, n]``: a score counts where its bit is 1.

    The probability of a bit is ``sigmoid(score)``. ``-inf`` forbids a bit; ``lengths`` counts the bits of an item.
    """

    name = "binary"
    capabilities = frozenset(
        {
            Capability.ARGMAX,
            Capability.LOG_PARTITION,
            Capability.MARGINALS,
            Capability.SAMPLE,
            Capability.SMOOTHED_ARGMAX,
            Capability.ENUMERATE,
            Capability.COUNT,
            Capability.NOISE_SCORE,
            Capability.FACTORISED,
        }
    )

    def argmax(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the bits ``[batch, n]`` whose score is above 0."""
        return (forbid_padding(scores.detach(), lengths) > 0).to(scores.dtype)

    def log_partition(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``sum softplus(scores) [batch]``."""
        # A threshold of 20, torch's default, would cost nine digits in float64.
        return softplus(forbid_padding(scores, lengths), threshold=80.0).sum(-1)

    def marginals(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``sigmoid(scores) [batch, n]``."""
        return forbid_padding(scores, lengths).sigmoid()

    def sample(
        self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator, count: int = 1
    ) -> Tensor:
        """Return ``count`` independent samples ``[count, batch, n]``."""
        probability = self.marginals(scores.detach(), lengths)
        uniform = torch.rand(
            (count, *scores.shape), generator=generator, dtype=torch.float64, device=generator.device
        ).to(scores.device)
        return (uniform < probability).to(scores.dtype)

    def noise(self, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Return the difference of two Gumbels for each bit: the best bits under it are an exact sample."""
        return gumbel_difference(scores, generator)

    def noise_score(self, noise: Tensor) -> Tensor:
        """Return ``tanh(noise / 2)``, the gradient in ``scores`` of the log density of ``scores + noise``."""
        return (noise / 2).tanh()

    def perturbed(self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator) -> Perturbed:
        """Return the scores plus logistic noise ``logit(u)``.

        Given the bit b, u is uniform on ``[1 - p, 1]`` or ``[0, 1 - p]`` for ``p = sigmoid(score)`` and moves with that
        interval (Tucker et al., 2017, appendix C): z falls behind by ``(1 - p) / u`` where b is 1 and ``p / (1 - u)``
        where it is 0.
        """
        inside = forbid_padding(scores, lengths) > -torch.inf
        normalised = scores.masked_fill(~inside, 0.0)
        noise, centre = gumbel_difference(scores, generator), normalised.detach()
        sign = torch.where(centre + noise > 0, 1.0, -1.0).to(scores)
        lead = (logsigmoid(-sign * centre) - logsigmoid(sign * noise)).exp()
        return Perturbed((centre + noise).masked_fill(~inside, 0.0), normalised, lead.masked_fill(~inside, 0.0))

    def smoothed_argmax(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``sigmoid(scores) [batch, n]``: for a choice between two the softened argmax is the marginals."""
        return self.marginals(scores, lengths)

    def enumerate(self, shape: tuple[int, ...]) -> Tensor:
        """Return every vector ``[2^n, n]`` of an item of shape ``(n,)`` (float64)."""
        return all_bits(shape[0])

    def log_count(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``n log 2 [batch]``."""
        return sizes(scores, lengths).to(scores.dtype) * math.log(2.0)


class PairwiseBinary(Structure):
    """Bits coupled in pairs: ``<scores, parts> = sum_i a_i z_i + sum_{i<j} w_ij z_i z_j``.

    The parts are the n bits and then the n(n-1)/2 products in the order of ``torch.triu_indices(n, n, 1)``: a product
    is a part like any other, so objects, marginals and gradients cover both. ``-inf`` on a product forbids the two bits
    to be on together. ``lengths`` counts the bits of an item. ``log_partition``, ``marginals``, ``sample`` and the
    exhaustive solver score all objects and stop at 18 bits.

    Attributes:
        solver: How ``argmax`` searches. ``exhaustive``: all 2^n, batched, up to 18 bits. ``mixed_integer``: exact for
            any n, by branch and bound (HiGHS). ``max_flow``: exact for any n where no product has a negative weight.
            ``coordinate``: iterated conditional modes, a local optimum, for any n and on any device.
    """

    name = "pairwise_binary"
    capabilities = frozenset(
        {
            Capability.ARGMAX,
            Capability.LOG_PARTITION,
            Capability.MARGINALS,
            Capability.SAMPLE,
            Capability.ENUMERATE,
            Capability.COUNT,
        }
    )

    def __init__(self, solver: Solver = "exhaustive") -> None:
        if solver not in get_args(Solver):
            raise InputError(f"unknown solver '{solver}'; choose one of {', '.join(get_args(Solver))}")
        self.solver = solver

    def argmax(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the best bits of each item and their products, 0/1 ``[batch, n + n(n-1)/2]``.

        Raises:
            InputError: More bits than the exhaustive solver takes, or a negative product for ``max_flow``.
        """
        unary, pairs = self._split(scores.detach(), lengths)
        search: Callable[[Tensor, Tensor], Tensor] = {
            "exhaustive": self._exhaustive,
            "mixed_integer": mixed_integer,
            "max_flow": max_flow,
            "coordinate": coordinate,
        }[self.solver]
        return with_products(search(unary, pairs).to(scores.dtype))

    def log_partition(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``log Z [batch]`` over all 2^n objects."""
        return object_scores(*self._split(scores, lengths)).logsumexp(-1)

    def marginals(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the probability of each bit and of each product ``[batch, n + n(n-1)/2]``."""
        differentiable = torch.is_grad_enabled() and scores.requires_grad
        with torch.enable_grad():
            leaf = scores if differentiable else scores.detach().requires_grad_()
            total = self.log_partition(leaf, lengths).sum()
            (marginals,) = torch.autograd.grad(total, leaf, create_graph=differentiable)
        return marginals

    def sample(
        self, scores: Tensor, lengths: Tensor | None = None, *, generator: torch.Generator, count: int = 1
    ) -> Tensor:
        """Return ``count`` exact samples ``[count, batch, n + n(n-1)/2]``."""
        unary, pairs = self._split(scores.detach(), lengths)
        index = draw_index(object_scores(unary, pairs), generator, count)
        return with_products(_bits(index, unary.shape[1]).to(scores.dtype))

    def noise(self, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Return the difference of two Gumbels for each bit, and 0 for each product (Lorberbom et al., 2019).

        The best object under it is an exact sample only where all products weigh 0.
        """
        bits = bit_count(scores.shape[1])
        products = scores.new_zeros(len(scores), scores.shape[1] - bits)
        return torch.cat([gumbel_difference(scores[:, :bits], generator), products], -1)

    def enumerate(self, shape: tuple[int, ...]) -> Tensor:
        """Return every object ``[2^n, n + n(n-1)/2]`` of an item of shape ``(n + n(n-1)/2,)`` (float64)."""
        return with_products(all_bits(bit_count(shape[0])))

    def log_count(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``n log 2 [batch]``."""
        bits = torch.full_like(sizes(scores, None), bit_count(scores.shape[1])) if lengths is None else lengths
        return bits.to(device=scores.device, dtype=scores.dtype) * math.log(2.0)

    def inside(self, shape: tuple[int, ...], lengths: Tensor) -> Tensor:
        """Return which parts ``[batch, n + n(n-1)/2]`` (bool) are bits of their item, or products of two of them."""
        bits = bit_count(shape[0])
        last = torch.cat([torch.arange(bits), torch.triu_indices(bits, bits, 1)[1]])
        return last.to(lengths.device) < lengths[:, None]

    def _split(self, scores: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the bits' scores ``[batch, n]`` and the products' ``[batch, n(n-1)/2]``, padding forbidden."""
        bits = bit_count(scores.shape[1])
        unary, pairs = forbid_padding(scores[:, :bits], lengths), scores[:, bits:]
        if lengths is not None:
            # The later bit of a pair decides: in padding, its product can never be on.
            later = torch.triu_indices(bits, bits, 1, device=scores.device)[1]
            pairs = pairs.masked_fill(later >= sizes(scores, lengths)[:, None], 0.0)
        return unary, pairs

    @staticmethod
    def _exhaustive(unary: Tensor, pairs: Tensor) -> Tensor:
        return _bits(object_scores(unary, pairs).argmax(-1), unary.shape[1])


def bit_count(parts: int) -> int:
    """Return the n for which ``n + n(n-1)/2`` is ``parts``.

    Raises:
        IncompatibleError: No n gives this number of parts.
    """
    bits = (math.isqrt(8 * parts + 1) - 1) // 2
    if bits * (bits + 1) // 2 != parts:
        raise IncompatibleError(
            f"{parts} scores cannot be n bits and n(n-1)/2 pairs; {bits} bits need {bits * (bits + 1) // 2} scores"
        )
    return bits


def object_scores(unary: Tensor, pairs: Tensor) -> Tensor:
    """Return the score ``[batch, 2^n]`` of every object; bit i of an object's index is its i-th bit.

    The bits are split in two halves, each with 2^(n/2) objects; the pairs across are one batched matrix product with an
    inner dimension of n/2, where a product with the matrix of all objects would have n(n+1)/2.

    Raises:
        InputError: More than 18 bits.
    """
    bits = unary.shape[1]
    if bits > MAX_EXHAUSTIVE_BITS:
        raise InputError(
            f"{bits} bits have 2^{bits} objects, and exhaustive search stops at {MAX_EXHAUSTIVE_BITS} bits; "
            "choose the solver mixed_integer, max_flow or coordinate"
        )
    forbidden = torch.cat([unary, pairs], -1) == -torch.inf
    total = _finite_scores(unary.masked_fill(unary == -torch.inf, 0.0), pairs.masked_fill(pairs == -torch.inf, 0.0))
    if bool(forbidden.any()):
        # An infinity would turn into NaN in a product with 0, so forbidden parts are counted by themselves.
        count = forbidden.to(unary.dtype)
        total = total.masked_fill(_finite_scores(count[:, :bits], count[:, bits:]) > 0, -torch.inf)
    return total


def _finite_scores(unary: Tensor, pairs: Tensor) -> Tensor:
    batch, bits = unary.shape
    first, second = torch.triu_indices(bits, bits, 1, device=unary.device)
    weights = unary.new_zeros((batch, bits, bits))
    weights[:, first, second] = pairs
    low = slice(0, bits // 2)
    high = slice(bits // 2, bits)
    low_bits = all_bits(bits // 2).to(unary)
    high_bits = all_bits(bits - bits // 2).to(unary)
    across = high_bits @ weights[:, low, high].mT @ low_bits.T
    within_low = (low_bits * (low_bits @ weights[:, low, low] + unary[:, None, low])).sum(-1)
    within_high = (high_bits * (high_bits @ weights[:, high, high] + unary[:, None, high])).sum(-1)
    return (across + within_low[:, None] + within_high[:, :, None]).flatten(1)


def all_bits(bits: int) -> Tensor:
    """Return every vector of ``bits`` bits ``[2^bits, bits]`` (float64), in the order of ``object_scores``."""
    return _bits(torch.arange(2**bits), bits).double()


def with_products(bits: Tensor) -> Tensor:
    """Return bits ``[..., n]`` followed by the products of their pairs ``[..., n + n(n-1)/2]``."""
    first, second = torch.triu_indices(bits.shape[-1], bits.shape[-1], 1, device=bits.device)
    return torch.cat([bits, bits[..., first] * bits[..., second]], -1)


def _bits(index: Tensor, bits: int) -> Tensor:
    return (index[..., None] >> torch.arange(bits, device=index.device)) & 1
