"""More training of a source model on its source: what an adaptation of equal compute is measured against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from parser_vae.parser import Parser
from parser_vae.parsing.storage import model_manifest, model_tensors
from parser_vae.training.checkpoint import write_model
from parser_vae.training.config import dump_settings
from parser_vae.training.heldout import HeldOut, encode
from parser_vae.training.loop import Loop, Outcome, Selection
from parser_vae.training.pretrain import source_sentences
from parser_vae.training.progress import Progress
from parser_vae.training.settings import PretrainSettings
from parser_vae.training.supervised import FINAL_RATE, Schedule, supervised_plan

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

    plan = supervised_plan(
        parser,
        [s.length for s in sentences],
        lambda indices: parser.indexer.batch([sentences[index] for index in indices]),
        Schedule(MOST_EPOCHS, options.batch_size, options.learning_rate, options.clip, options.average),
        evaluate=lambda: held_out.values(parser),
        selections=(Selection("encoder.", "dev_uas", True),),
        what="more training on the source",
    )
    plan = replace(
        plan,
        schedule=lambda done: max(FINAL_RATE, 1 - share()),
        evaluate_first=True,
        out_of_time=lambda: share() >= 1,
    )
    outcome = Loop(plan, out, options.seed, progress, resume).run()
    manifest = model_manifest(parser) | {"source": before.manifest.get("source"), "continued": str(model)}
    write_model(out, model_tensors(parser), manifest, dump_settings(settings), _CARD)
    return outcome
