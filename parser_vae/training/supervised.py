"""Supervised training of an encoder, on gold trees or silver ones: what pretraining and self-training share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from parser_vae.parsing.batches import Batch, shuffled_batches
from parser_vae.parsing.model import ParserModel, supervised_losses
from parser_vae.structures.trees import heads_to_arcs
from parser_vae.training.loop import Plan, Selection

FINAL_RATE = 0.05  # the learning rate falls linearly to this share of its start


@dataclass(frozen=True)
class Schedule:
    """How long and how fast; the fields are those of the settings ``training``."""

    epochs: int
    batch_size: int
    learning_rate: float
    clip: float
    average: float


def supervised_plan(
    model: ParserModel,
    lengths: Sequence[int],
    batch_of: Callable[[list[int]], Batch],
    schedule: Schedule,
    evaluate: Callable[[], Mapping[str, float]],
    selections: tuple[Selection, ...],
    what: str,
    decoder_epochs: int = 0,
) -> Plan:
    """Return the plan of a training on annotated sentences, of which ``lengths`` says how long each is.

    The learning rate falls linearly; the decoder learns from the gold trees in the first ``decoder_epochs``. Only
    parameters that require gradients are trained.
    """

    def step(indices: list[int], epoch: int, generator: torch.Generator) -> dict[str, float]:
        batch = batch_of(indices)
        losses = supervised_losses(model, batch)
        if epoch <= decoder_epochs:
            assert batch.heads is not None
            arcs = heads_to_arcs(batch.heads, batch.lengths)
            losses["reconstruction"] = model.decoder.reconstruction(model.decoder.context(batch), arcs).mean()
        torch.stack(list(losses.values())).sum().backward()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    return Plan(
        model=model,
        optimiser=torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=schedule.learning_rate),
        epochs=schedule.epochs,
        batches=lambda generator: shuffled_batches(lengths, schedule.batch_size, generator),
        step=step,
        evaluate=evaluate,
        selections=selections,
        schedule=lambda done: max(FINAL_RATE, 1 - done),
        clip=schedule.clip,
        average=schedule.average,
        what=what,
    )
