"""The encoder: words to arc scores, by a BiLSTM over word, vector and character embeddings."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from parser_vae.parsing import kernels
from parser_vae.parsing.batches import Batch
from parser_vae.parsing.layers import Affine, BidirectionalLSTM, SharedDropout, uniform_
from parser_vae.parsing.vocabulary import UNKNOWN, NumberNormalisation, Vocabulary

SPELLINGS_A_GROUP = 256  # words of like length whose characters are read together

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # Kiperwasser and Goldberg (2016) as Berliner et al. (2022) use it: no tags, no characters, vectors frozen
    "kg": {
        "word_size": 100,
        "character_size": 0,
        "hidden": 125,
        "layers": 2,
        "scorer": "mlp",
        "arc_size": 100,
        "label_size": 100,
        "distance_bias": False,
        "tagging": False,
        "dropout": 0.0,
        "numbers": "kg_prefix",
    },
}


class EncoderSettings(BaseModel):
    """The sizes and choices of an encoder; ``preset`` fills the rest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Literal["default", "kg"] = Field("default", description="default, or kg: Kiperwasser and Goldberg (2016)")
    word_size: int = Field(100, ge=1, description="size of the trained word embedding")
    character_size: int = Field(50, ge=0, description="LSTM size per direction over characters; 0 switches them off")
    hidden: int = Field(200, ge=1, description="BiLSTM size per direction")
    layers: int = Field(2, ge=1, description="BiLSTM layers")
    scorer: Literal["biaffine", "mlp"] = Field("biaffine", description="how a pair of states becomes an arc score")
    arc_size: int = Field(200, ge=1, description="size of the head and dependent views in the arc scorer")
    label_size: int = Field(64, ge=1, description="size of the views in the label scorer")
    distance_bias: bool = Field(True, description="add a learned bias for the signed distance of an arc")
    tagging: bool = Field(True, description="learn the source's UPOS as an auxiliary task")
    dropout: float = Field(0.33, ge=0, lt=1, description="dropout on inputs, between layers and in the scorers")
    word_dropout: float = Field(0.25, ge=0, description="alpha of alpha / (count + alpha), words replaced by unknown")
    vector_dropout: float = Field(0.5, ge=0, le=1, description="chance that a dropped word loses its vector too")
    numbers: NumberNormalisation = Field("fullmatch", description="which words become NUM")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        return PRESETS.get(values.get("preset", "default"), {}) | values if isinstance(values, dict) else values


class WordEmbedding(nn.Module):
    """Words as the concatenation of a trained embedding, a frozen external vector and a character BiLSTM."""

    def __init__(self, settings: EncoderSettings, vocabulary: Vocabulary, vectors: Tensor | None) -> None:
        super().__init__()
        self.settings = settings
        self.words = nn.Embedding(len(vocabulary.words), settings.word_size)
        uniform_(self.words.weight.data, settings.word_size)
        self.size = settings.word_size
        self.vectors: Tensor | None
        self.register_buffer("vectors", vectors, persistent=False)
        self.counts: Tensor
        self.register_buffer("counts", torch.tensor(vocabulary.counts, dtype=torch.float32), persistent=False)
        if vectors is not None:
            self.size += vectors.shape[1]
            # the rows of the unknown word and of the root are the only ones without an external vector
            self.special_vectors = nn.Parameter(uniform_(torch.empty(2, vectors.shape[1]), vectors.shape[1]))
        if settings.character_size:
            self.characters = nn.Embedding(len(vocabulary.characters), settings.character_size)
            uniform_(self.characters.weight.data, settings.character_size)
            self.spelling = BidirectionalLSTM(settings.character_size, settings.character_size, 1)
            self.size += 2 * settings.character_size

    def forward(self, batch: Batch) -> Tensor:
        """Return embeddings ``[batch, L, size]``; in training, rare words are replaced by the unknown word."""
        words, rows = batch.words, batch.vectors
        if self.training and self.settings.word_dropout > 0:
            counts = self.counts[words]
            alpha = self.settings.word_dropout
            dropped = (torch.rand(words.shape, device=words.device) < alpha / (counts + alpha)) & batch.word_mask
            words = words.masked_fill(dropped, UNKNOWN)
            lost = dropped & (torch.rand(words.shape, device=words.device) < self.settings.vector_dropout)
            rows = rows.masked_fill(lost, UNKNOWN)
        parts = [self.words(words)]
        if self.vectors is not None:
            parts.append(external_vectors(self.vectors, self.special_vectors, rows))
        if self.settings.character_size:
            parts.append(self.spellings(batch.characters)[batch.spellings])
        return torch.cat(parts, dim=-1)

    def spellings(self, characters: Tensor) -> Tensor:
        """Return one vector ``[distinct, 2 * character_size]`` for each distinct spelling ``[distinct, widest]``."""
        lengths = (characters != 0).sum(-1)
        order = lengths.argsort(stable=True)
        found = []
        for group in order.split(SPELLINGS_A_GROUP):
            size = lengths[group]
            found.append(self._spellings(characters[group, : int(size.max())], size))
        return torch.cat(found)[order.argsort()]

    def _spellings(self, characters: Tensor, lengths: Tensor) -> Tensor:
        states = self.spelling(self.characters(characters), lengths)[-1]
        size = self.settings.character_size
        last = states[torch.arange(len(states), device=states.device), lengths - 1, :size]
        return torch.cat([last, states[:, 0, size:]], dim=-1)


def external_vectors(table: Tensor, special: Tensor, rows: Tensor) -> Tensor:
    """Return the frozen vectors of ``rows``; rows 0 (unknown) and 1 (root) are the two trained special vectors."""
    found = table[(rows - 2).clamp(min=0)]
    return torch.where((rows < 2)[..., None], special[rows.clamp(max=1)], found)


class MlpArcScorer(nn.Module):
    """``v . tanh(W_h x_h + W_d x_d + b)`` for every pair (Kiperwasser and Goldberg, 2016)."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.head = Affine(inputs, size, bias=False)
        self.dependent = Affine(inputs, size, bias=False)
        self.bias = nn.Parameter(uniform_(torch.empty(size), size))
        self.output = nn.Linear(size, 1, bias=False)
        for layer in (self.head, self.dependent, self.output):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, states: Tensor) -> Tensor:
        """Return scores ``[batch, head, dependent]`` of states ``[batch, L, inputs]``."""
        head, dependent = self.head(states) + self.bias, self.dependent(states)
        if kernels.can_score(head, dependent):
            return kernels.pairwise_tanh(head, dependent, self.output.weight[0])
        return self.output(torch.tanh(head[:, :, None] + dependent[:, None])).squeeze(-1)


class BiaffineArcScorer(nn.Module):
    """``h^T U d + u . h`` of two MLP views of the states (Dozat and Manning, 2017)."""

    def __init__(self, inputs: int, size: int, dropout: float) -> None:
        super().__init__()
        self.head, self.dependent = Affine(inputs, size), Affine(inputs, size)
        self.weight = nn.Parameter(torch.zeros(size, size))
        self.head_bias = nn.Parameter(torch.zeros(size))
        self.dropout = SharedDropout(dropout)
        for layer in (self.head, self.dependent):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.weight)

    def forward(self, states: Tensor) -> Tensor:
        """Return scores ``[batch, head, dependent]`` of states ``[batch, L, inputs]``."""
        head = self.dropout(nn.functional.leaky_relu(self.head(states), 0.1))
        dependent = self.dropout(nn.functional.leaky_relu(self.dependent(states), 0.1))
        return torch.bmm(head @ self.weight, dependent.transpose(1, 2)) + (head @ self.head_bias)[..., None]


class DistanceBias(nn.Module):
    """A learned score for the direction and distance of an arc, and one for arcs from the root.

    Distances 1 to 8 have a bias each, longer ones share one for every doubling.
    """

    BUCKETS = 12

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2 * self.BUCKETS + 1))

    def forward(self, size: int) -> Tensor:
        """Return the biases ``[head, dependent]`` of a sentence with ``size`` nodes."""
        return self.bias[self.buckets(size)]

    def buckets(self, size: int) -> Tensor:
        """Return which bias each arc has ``[head, dependent]`` in a sentence with ``size`` nodes."""
        position = torch.arange(size, device=self.bias.device)
        offset = position[:, None] - position[None]
        distance = offset.abs().clamp(min=1)
        doublings = torch.log2(distance / 8).ceil().long().clamp(min=0, max=self.BUCKETS - 8)
        bucket = torch.where(distance <= 8, distance - 1, 7 + doublings)
        bucket = torch.where(offset > 0, bucket + self.BUCKETS, bucket)
        bucket[0] = 2 * self.BUCKETS
        return bucket


class LabelScorer(nn.Module):
    """Scores of every relation for each word, given its head."""

    def __init__(self, settings: EncoderSettings, inputs: int, labels: int) -> None:
        super().__init__()
        size = settings.label_size
        self.scorer = settings.scorer
        self.head, self.dependent = nn.Linear(inputs, size), nn.Linear(inputs, size)
        self.dropout = SharedDropout(settings.dropout)
        self.output = nn.Linear(size if self.scorer == "mlp" else 2 * size, labels)
        for layer in (self.head, self.dependent, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        if self.scorer == "biaffine":
            self.bilinear = nn.Parameter(torch.zeros(size, labels, size))

    def forward(self, states: Tensor, heads: Tensor) -> Tensor:
        """Return scores ``[batch, L, relation]`` of states ``[batch, L, inputs]`` with heads ``[batch, L]``."""
        head, dependent = self.head(states), self.dependent(states)
        if self.scorer == "biaffine":
            head = self.dropout(nn.functional.leaky_relu(head, 0.1))
            dependent = self.dropout(nn.functional.leaky_relu(dependent, 0.1))
        chosen = head.gather(1, heads[..., None].expand(-1, -1, head.shape[-1]))
        if self.scorer == "mlp":
            scores: Tensor = self.output(torch.tanh(chosen + dependent))
            return scores
        size, labels, _ = self.bilinear.shape
        bent = (chosen @ self.bilinear.reshape(size, -1)).view(-1, labels, size)
        bilinear = torch.bmm(bent, dependent.reshape(-1, size, 1)).view(*chosen.shape[:2], labels)
        return self.output(torch.cat([chosen, dependent], -1)) + bilinear


class Encoder(nn.Module):
    """Sentences to states, arc scores, relation scores and tags."""

    def __init__(self, settings: EncoderSettings, vocabulary: Vocabulary, vectors: Tensor | None) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = WordEmbedding(settings, vocabulary, vectors)
        self.lstm = BidirectionalLSTM(self.embedding.size, settings.hidden, settings.layers, settings.dropout)
        self.dropout = SharedDropout(settings.dropout)
        states = 2 * settings.hidden
        self.arcs = (
            MlpArcScorer(states, settings.arc_size)
            if settings.scorer == "mlp"
            else BiaffineArcScorer(states, settings.arc_size, settings.dropout)
        )
        self.distance = DistanceBias() if settings.distance_bias else None
        self.labels = LabelScorer(settings, states, len(vocabulary.deprels))
        self.tags = nn.Linear(states, len(vocabulary.upos)) if settings.tagging else None

    def states(self, batch: Batch) -> list[Tensor]:
        """Return the BiLSTM states ``[batch, L, 2 * hidden]`` of each layer."""
        return self.lstm(self.dropout(self.embedding(batch)), batch.lengths + 1)

    def arc_scores(self, states: Tensor) -> Tensor:
        """Return ``arc_scores [batch, head, dependent]`` of the top layer's states; column 0 is never read."""
        states = self.dropout(states)
        scores: Tensor = self.arcs(states)
        return scores if self.distance is None else scores + self.distance(states.shape[1])

    def label_scores(self, states: Tensor, heads: Tensor) -> Tensor:
        """Return relation scores ``[batch, L, relation]`` of the top layer's states, given heads ``[batch, L]``."""
        return self.labels(self.dropout(states), heads)

    def tag_scores(self, layers: list[Tensor]) -> Tensor:
        """Return UPOS scores ``[batch, L, tag]`` from the first layer's states."""
        if self.tags is None:
            raise ValueError("this encoder was built without the tagging task")
        return self.tags(self.dropout(layers[0]))
