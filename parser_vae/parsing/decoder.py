"""The decoder: a language model that sees, beside the words to its left, their arcs to the word at hand.

Berliner et al. (2022), after Corro and Titov (2019): an LSTM reads the sentence; before a word is predicted, the
state is mixed with one message for the head and one for each dependent that lies to the left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parser_vae.methods.products import product
from parser_vae.parsing.batches import Batch
from parser_vae.parsing.contexts import distinct_losses
from parser_vae.parsing.encoder import external_vectors
from parser_vae.parsing.judging import log_sum_exp, mixed_states
from parser_vae.parsing.layers import initialise_lstm, uniform_
from parser_vae.parsing.tree_decoder import DecoderSettings, TreeDecoder
from parser_vae.parsing.vocabulary import END_OF_SENTENCE, Vocabulary

VOCABULARY_PART = 1024


@dataclass(frozen=True)
class DecoderContext:
    """What the language model knows before it sees a tree; step ``i`` predicts word ``i + 1``.

    Attributes:
        own: ``F_c z`` ``[batch, steps, hidden]``.
        from_head: ``F_h z`` ``[batch, steps, hidden]``, the message a word receives from its head.
        from_dependent: ``F_m z`` ``[batch, steps, hidden]``, the message a word receives from a dependent.
        targets: Classes to predict ``[batch, steps]``.
        mask: Which steps count ``[batch, steps]``.
    """

    own: Tensor
    from_head: Tensor
    from_dependent: Tensor
    targets: Tensor
    mask: Tensor


class Decoder(TreeDecoder[DecoderContext]):
    """``p(words | tree)`` by an LSTM whose state is mixed with messages along the arcs to the left."""

    is_additive = False

    def __init__(self, settings: DecoderSettings, vocabulary: Vocabulary, vectors: Tensor | None) -> None:
        super().__init__()
        self.settings = settings
        self.vectors: Tensor | None
        self.register_buffer("vectors", vectors, persistent=False)
        size = settings.hidden
        if vectors is None:
            self.words = nn.Embedding(len(vocabulary.words), size)
            uniform_(self.words.weight.data, size)
        else:
            self.special_vectors = nn.Parameter(uniform_(torch.empty(2, vectors.shape[1]), vectors.shape[1]))
        self.lstm = nn.LSTM(size if vectors is None else vectors.shape[1], size, batch_first=True)
        initialise_lstm(self.lstm)
        self.own, self.from_head, self.from_dependent = (nn.Linear(size, size) for _ in range(3))
        self.output = nn.Linear(size, len(vocabulary.decoder_words))
        for layer in (self.own, self.from_head, self.from_dependent, self.output):
            nn.init.xavier_uniform_(layer.weight)
            uniform_(layer.bias.data, layer.bias.shape[0])

    def context(self, batch: Batch) -> DecoderContext:
        """Return the tree-independent part of the model: one LSTM run over root, w_1, ..., w_n."""
        known = batch.words.shape[1]
        if self.vectors is None:
            inputs = self.words(batch.words)
        else:
            inputs = external_vectors(self.vectors, self.special_vectors, batch.vectors)
        steps = known if self.settings.predict_end else known - 1
        states, _ = self.lstm(inputs[:, :steps])
        following = torch.cat([batch.decoder_words[:, 1:], batch.decoder_words.new_zeros(len(batch), 1)], dim=1)
        step = torch.arange(steps, device=states.device)
        targets = torch.where(step == batch.lengths[:, None], END_OF_SENTENCE, following[:, :steps])
        last = batch.lengths[:, None] if self.settings.predict_end else batch.lengths[:, None] - 1
        return DecoderContext(
            self.own(states), self.from_head(states), self.from_dependent(states), targets, step <= last
        )

    def messages(self, arcs: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return which left states send to each step: ``head``, ``dependent`` weights ``[batch, step, sender]``.

        ``arcs [batch, head, dependent]`` may be soft. Step ``i`` receives along the arcs of word ``i + 1``
        (``aligned``) or ``i`` (``previous``), only from words ``j <= i`` (``j < i``).
        """
        nodes = arcs.shape[-1]
        shift = self.shift
        padded = nn.functional.pad(arcs, (0, steps + shift - nodes, 0, steps + shift - nodes))
        here = slice(shift, steps + shift)
        # sender j strictly left of the word whose arcs are seen: j < i + shift
        heads = padded[:, :steps, here].transpose(1, 2).tril(shift - 1)
        dependents = padded[:, here, :steps].tril(shift - 1)
        return heads, dependents

    @property
    def shift(self) -> int:
        """Return 1 if step ``i`` sees the arcs of word ``i + 1``, 0 if those of word ``i``."""
        return 1 if self.settings.alignment == "aligned" else 0

    def losses_at(
        self, context: DecoderContext, trees: Tensor, member: Tensor, sentence: Tensor, step: Tensor
    ) -> Tensor:
        """Return ``-log p`` ``[rows]`` at chosen steps of chosen 0/1 trees ``[members, batch, head, dependent]``."""
        wanted = torch.is_grad_enabled() and (context.own.requires_grad or self.output.weight.requires_grad)
        targets = context.targets[sentence, step]
        if wanted or step.device.type != "cpu":
            mixed = self._mixed(context, trees, member, sentence, step)
            return nn.functional.cross_entropy(self.output(mixed), targets, reduction="none")
        messages = (context.own, context.from_head, context.from_dependent)
        mixed = torch.tanh(mixed_states(*messages, trees, (member, sentence, step), self.shift))
        weight, bias = self.output.weight, self.output.bias
        # a part of the vocabulary at a time, so that its scores stay in the cache
        parts = [
            log_sum_exp(product(mixed, some), shift)
            for some, shift in zip(weight.split(VOCABULARY_PART), bias.split(VOCABULARY_PART), strict=True)
        ]
        return torch.stack(parts, -1).logsumexp(-1) - (mixed * weight[targets]).sum(-1) - bias[targets]

    def _mixed(self, context: DecoderContext, trees: Tensor, member: Tensor, sentence: Tensor, step: Tensor) -> Tensor:
        """Return the states from which words are predicted ``[rows, hidden]``, differentiable; see ``losses_at``."""
        nodes = trees.shape[-1]
        word = step + self.shift
        sender = torch.arange(nodes, device=step.device)
        visible = (sender < word[:, None]) & (word < nodes)[:, None]
        inside = word.clamp(max=nodes - 1)
        heads = (trees[member, sentence, :, inside] & visible).to(context.own.dtype)
        dependents = (trees[member, sentence, inside, :] & visible).to(context.own.dtype)
        senders = context.own.shape[1]
        return torch.tanh(
            context.own[sentence, step]
            + torch.bmm(heads[:, None, :senders], context.from_head[sentence, : heads.shape[1]]).squeeze(1)
            + torch.bmm(dependents[:, None, :senders], context.from_dependent[sentence, : heads.shape[1]]).squeeze(1)
        )

    def reconstruction(self, context: DecoderContext, arcs: Tensor) -> Tensor:
        """Return ``-log p(words | arcs)`` ``[batch]`` in nats per step, differentiable in soft ``arcs``."""
        losses = self.step_losses(context, arcs)
        return (losses * context.mask).sum(1) / context.mask.sum(1)

    def step_losses(self, context: DecoderContext, arcs: Tensor) -> Tensor:
        """Return ``-log p`` of each step ``[batch, steps]``; masked steps hold no meaning."""
        heads, dependents = self.messages(arcs, context.own.shape[1])
        mixed = torch.tanh(context.own + heads @ context.from_head + dependents @ context.from_dependent)
        logits = self.output(mixed)
        return nn.functional.cross_entropy(logits.flatten(0, 1), context.targets.flatten(), reduction="none").view_as(
            context.targets
        )

    def population_reconstruction(self, context: DecoderContext, trees: Tensor) -> Tensor:
        """Return ``reconstruction`` ``[members, batch]`` of 0/1 trees ``[members, batch, head, dependent]``.

        The LSTM does not depend on the tree, and the prediction at a step only on which words to the left send
        messages there: it ran once for the context, and the softmax runs once for each distinct set of messages.
        """
        return distinct_losses(trees, context.mask, self.shift, lambda *rows: self.losses_at(context, trees, *rows))
