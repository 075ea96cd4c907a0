"""More training of a source model on its source: what an adaptation of equal compute is measured against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from parser_vae.parser import Parser
from parser_vae.parsing.batches import shuffled_batches
from parser_vae.parsing.model import supervised_losses
from parser_vae.parsing.storage import model_manifest, model_tensors
from parser_vae.training.checkpoint import write_model
from parser_vae.training.config import dump_settings
from parser_vae.training.heldout import HeldOut, encode
from parser_vae.training.loop import Loop, Outcome, Plan, Selection
from parser_vae.training.pretrain import FINAL_RATE, source_sentences
from parser_vae.training.progress import Progress
from parser_vae.training.settings import PretrainSettings

MOST_EPOCHS = 100_000  # time ends the run, not this
_CARD = "# Dependency parser, trained further on its source\n\nA control for adaptations of equal compute.\n"


def continue_on_source(
    settings: PretrainSettings, model: Path, out: Path, *, share: Callable[[], float], resume: bool, progress: Progress
) -> Outcome:
    """Train the parser in ``model`` further on its source, write it to ``out`` and return how it went.

    As in an adaptation, the model it starts from is a candidate, and the best on the source's dev sentences is kept.

    Args:
        settings: Files, batches, step size and averaging, as in pretraining; the step size falls as time passes.
        model: The folder of the source model.
        out: The folder to write.
        share: Returns which share of the time has passed; training stops at 1.
        resume: Whether to go on from a state in ``out``.
        progress: Hears of it.
    """
    options = settings.training
    train, dev = source_sentences(settings.data.train, settings.data.dev)
    before = Parser.load(model)
    parser = before.model
    for parameter in parser.decoder.parameters():
        parameter.requires_grad = False
    held_out = HeldOut(parser.indexer, dev)
    sentences = [encode(parser.indexer, sentence) for sentence in train]

    def step(indices: list[int], epoch: int, generator: torch.Generator) -> dict[str, float]:
        losses = supervised_losses(parser, parser.indexer.batch([sentences[index] for index in indices]))
        torch.stack(list(losses.values())).sum().backward()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    plan = Plan(
        model=parser,
        optimiser=torch.optim.Adam([p for p in parser.parameters() if p.requires_grad], lr=options.learning_rate),
        epochs=MOST_EPOCHS,
        batches=lambda generator: shuffled_batches([s.length for s in sentences], options.batch_size, generator),
        step=step,
        evaluate=lambda: held_out.values(parser),
        selections=(Selection("encoder.", "dev_uas", True),),
        schedule=lambda done: max(FINAL_RATE, 1 - share()),
        clip=options.clip,
        average=options.average,
        evaluate_first=True,
        out_of_time=lambda: share() >= 1,
        what="more training on the source",
    )
    outcome = Loop(plan, out, options.seed, progress, resume).run()
    manifest = model_manifest(parser) | {"source": before.manifest.get("source"), "continued": str(model)}
    write_model(out, model_tensors(parser), manifest, dump_settings(settings), _CARD)
    return outcome
