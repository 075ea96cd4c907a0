"""The parsing problem: what the methods see of the parser and its language model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from parser_vae.methods.base import Touched
from parser_vae.methods.perturbation import Perturbed
from parser_vae.parsing.anchor import Anchor
from parser_vae.parsing.batches import Batch
from parser_vae.parsing.encoder import Encoder
from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.population import SharedStates, can_score_together, group_scores, group_size
from parser_vae.structures.trees import TreeStructure

PART = 32

Divergence = Literal["none", "exact_gibbs", "gumbel", "paper", "anchor"]


class ParsingProblem:
    """Trees over sentences, judged by how well the language model reconstructs the words given the tree.

    Attributes:
        module: The parser model; its encoder gives scores, its decoder judges trees.
        structure: The family of trees; several roots unless ``single_root``.
        divergence_kind: The divergence term: ``none`` as the official code; ``exact_gibbs``, the divergence of the
            tree distribution from the uniform one; ``gumbel``, its upper bound by the arcs' Gumbel distributions
            (Paulus et al., 2020); ``paper``, eq. 37 of Berliner et al. (2022) on normalised scores; ``anchor``, the
            divergence of the tree distribution from that of ``source``.
        divergence_weight: What the divergence is multiplied by.
        perturb_all: Whether relation scorer and tagger count as touched although no tree depends on them.
    """

    def __init__(
        self,
        model: ParserModel,
        structure: TreeStructure,
        divergence: Divergence = "none",
        perturb_all: bool = False,
        divergence_weight: float = 1.0,
        source: Encoder | None = None,
    ) -> None:
        """Pose the problem; ``source`` is the parser before adaptation, by default the model as it is now."""
        self.module = self.model = model
        self.structure = structure
        self.divergence_kind = divergence
        self.perturb_all = perturb_all
        self.divergence_weight = divergence_weight
        self._shared_states = SharedStates()
        self.anchor = Anchor(source or model.encoder) if divergence == "anchor" else None
        if divergence == "paper":
            warnings.warn(
                "eq. 37 treats exp(score) as a normalised probability; scores are normalised by log Z here, without "
                "which the objective has no lower bound",
                stacklevel=2,
            )

    def touched(self, batch: Batch) -> list[Touched]:
        """Return the trainable parameters behind arc scores and reconstruction, embeddings by this batch's rows."""
        rows = {
            "encoder.embedding.words.weight": batch.words.unique(),
            "encoder.embedding.characters.weight": batch.characters.unique(),
            "decoder.words.weight": batch.words.unique(),
        }
        idle = () if self.perturb_all else ("encoder.labels.", "encoder.tags.")
        return [
            Touched(name, parameter, rows.get(name))
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad and not name.startswith(idle)
        ]

    def lengths(self, batch: Batch) -> Tensor:
        """Return words per sentence ``[batch]``."""
        return batch.lengths

    def divided(self, batch: Batch) -> list[Batch]:
        """Return the batch in parts of up to 32 sentences, large enough for the products of an LSTM's steps."""
        return [batch.part(slice(first, first + PART)) for first in range(0, len(batch), PART)]

    def scores(self, batch: Batch) -> Tensor:
        """Return ``arc_scores [batch, head, dependent]``."""
        return self.model.encoder.arc_scores(self.model.encoder.states(batch)[-1])

    def reconstruction(self, batch: Batch, latent: Tensor) -> Tensor:
        """Return ``-log p(words | tree)`` ``[batch]`` in nats per word."""
        decoder = self.model.decoder
        return decoder.reconstruction(decoder.context(batch), latent)

    @property
    def reconstruction_is_additive(self) -> bool:
        """Return whether the loss of a tree is the sum of losses of its arcs."""
        return self.model.decoder.is_additive

    def reconstruction_is_shared(self, batch: Batch) -> bool:
        """Return whether the decoder is frozen."""
        return not any(parameter.requires_grad for parameter in self.model.decoder.parameters())

    def population_reconstruction(self, batch: Batch, latents: Sequence[Tensor]) -> Tensor:
        """Return ``reconstruction`` of many trees per sentence ``[members, batch]``; what they share is done once."""
        decoder = self.model.decoder
        return decoder.population_reconstruction(decoder.context(batch), torch.stack([tree.bool() for tree in latents]))

    def population_scores(self, batch: Batch, parameters: Mapping[str, Perturbed]) -> Tensor | None:
        """Return ``arc_scores [members, batch, head, dependent]`` of a group, or None for the member loop.

        The compiled loops want the CPU, no dropout and finite parameters.
        """
        finite = all(bool(torch.isfinite(one.centre).all()) for one in parameters.values())
        if self.model.training or batch.words.device.type != "cpu" or not finite:
            return None
        if not can_score_together(parameters):
            return None
        return group_scores(self.model.encoder, parameters, batch, self._shared_states)

    def population_size(self, batch: Batch, memory: int) -> int:
        """Return how many members to score together."""
        return group_size(self.model.encoder, batch, memory)

    def features(self, batch: Batch) -> Tensor:
        """Return the mean over words of the encoder's last states, and the logarithm of the length."""
        with torch.no_grad():
            states = self.model.encoder.states(batch)[-1]
            mean = (states * batch.word_mask[:, :, None]).sum(1) / batch.lengths[:, None]
            return torch.cat([mean, batch.lengths[:, None].to(mean.dtype).log()], dim=1)

    def divergence(self, batch: Batch, scores: Tensor) -> Tensor | None:
        """Return the divergence term ``[batch]`` in nats per word, as the reconstruction is, or None."""
        kind, lengths = self.divergence_kind, batch.lengths
        if kind == "none":
            return None
        if self.anchor is not None:
            total = self.structure.kl(scores, self.anchor.scores(batch).to(scores.dtype), lengths)
        elif kind == "exact_gibbs":
            total = self.structure.kl_to_uniform(scores, lengths)
        elif kind == "gumbel":
            position = torch.arange(scores.shape[1], device=scores.device)
            inside = position <= lengths[:, None]
            arcs = inside[:, :, None] & batch.word_mask[:, None] & (position[:, None] != position)
            total = torch.where(arcs, scores + torch.exp(-scores) - 1, 0.0).sum((1, 2))
        else:
            best = self.structure.argmax(scores, lengths)
            log_probability = self.structure.score(scores, best) - self.structure.log_partition(scores, lengths)
            total = log_probability + self.structure.log_count(scores, lengths)
        return self.divergence_weight * total / lengths

    def replica(self) -> ParsingProblem:
        """Return a problem with its own parameters; frozen tensors (word vectors, a frozen decoder) are shared."""
        shared: dict[int, object] = {id(buffer): buffer for buffer in self.model.buffers()}
        shared |= {id(p): p for p in self.model.parameters() if not p.requires_grad}
        for owner in (self.model.vocabulary, self.model.indexer, self.model.vector_words):
            shared[id(owner)] = owner
        twin = copy.copy(self)
        twin.module = twin.model = copy.deepcopy(self.model, shared)
        return twin
