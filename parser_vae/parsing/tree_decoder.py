"""What every decoder is told, and what it can do: judge trees by how well they explain the words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from parser_vae.parsing.batches import Batch

DecoderKind = Literal["lm", "arcs"]
Generated = Literal["forms", "classes", "tags"]
ContextT = TypeVar("ContextT")


class DecoderSettings(BaseModel):
    """The kind of decoder and its sizes and choices."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: DecoderKind = Field(
        "lm",
        description="lm: a language model that also sees arcs; arcs: each word from its head, direction and distance",
    )
    hidden: int = Field(100, ge=1, description="size of the LSTM, or of the view of a head")
    generates: Generated = Field(
        "forms",
        description="what arcs generates of a word: its form, its class (a cluster of word vectors) or its UPOS tag",
    )
    classes: int = Field(100, ge=2, description="clusters of word vectors, where arcs generates classes")
    alignment: Literal["previous", "aligned"] = Field(
        "aligned",
        description="whose arcs a prediction of lm sees: aligned = of the word being predicted; "
        "previous = of the word just read, as in the paper's code",
    )
    predict_end: bool = Field(True, description="lm also predicts the end of the sentence, so that every word is read")

    @model_validator(mode="after")
    def _only_arcs_generates_less_than_forms(self) -> DecoderSettings:
        if self.kind == "lm" and self.generates != "forms":
            raise ValueError(f"generates = {self.generates} is for kind = arcs; lm generates forms")
        return self


class TreeDecoder(nn.Module, ABC, Generic[ContextT]):
    """``p(words | tree)``.

    Attributes:
        is_additive: Whether the loss of a tree is the sum of losses of its arcs.
    """

    settings: DecoderSettings
    is_additive: bool

    @abstractmethod
    def context(self, batch: Batch) -> ContextT:
        """Return what does not depend on the tree, to be computed once for many trees."""

    @abstractmethod
    def reconstruction(self, context: ContextT, arcs: Tensor) -> Tensor:
        """Return ``-log p(words | arcs)`` ``[batch]`` in nats a word, differentiable in soft ``arcs``."""

    @abstractmethod
    def population_reconstruction(self, context: ContextT, trees: Tensor) -> Tensor:
        """Return ``reconstruction`` ``[members, batch]`` of 0/1 trees ``[members, batch, head, dependent]``."""
