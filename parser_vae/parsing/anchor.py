"""The parser before adaptation, to which the divergence ``anchor`` ties the tree distribution."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from parser_vae.parsing.batches import Batch
from parser_vae.parsing.encoder import Encoder


class Anchor:
    """A frozen copy of an encoder, whose scores give the prior over trees ``p(z) = exp(<scores, z>) / Z``.

    With it as prior, reconstruction plus ``KL(q || p)`` from the current distribution q to the prior is the negative
    evidence lower bound of a VAE. The divergence of that direction is large where q puts trees that the source parser
    holds for impossible, and small where q merely gives up some of its alternatives, so it may become surer.
    """

    def __init__(self, encoder: Encoder) -> None:
        shared: dict[int, object] = {id(buffer): buffer for buffer in encoder.buffers()}  # word vectors
        self.encoder = copy.deepcopy(encoder, shared).requires_grad_(False).eval()
        self._last: tuple[Batch, Tensor] | None = None

    def scores(self, batch: Batch) -> Tensor:
        """Return ``arc_scores [batch, head, dependent]`` without gradient; those of the last batch are remembered.

        Methods that look at many perturbations of the same batch ask for them as often.
        """
        last = self._last
        if last is None or last[0] is not batch:
            with torch.no_grad():
                last = (batch, self.encoder.arc_scores(self.encoder.states(batch)[-1]))
            self._last = last
        return last[1]
