"""Unsupervised adaptation of a pretrained parser to raw target sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from parser_vae.errors import ConfigError, InputError
from parser_vae.evaluation.domain import FOLDS, DomainDivergence, domain_divergence
from parser_vae.evaluation.report import Report, evaluate
from parser_vae.parser import Parser
from parser_vae.parsing.batches import shuffled_batches
from parser_vae.parsing.model import TREE_FAMILIES, supervised_losses
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.parsing.storage import extend_with_target, model_manifest, model_tensors
from parser_vae.training.card import adapt_card, choice_lines, kept, score_lines
from parser_vae.training.checkpoint import write_model
from parser_vae.training.config import dump_settings
from parser_vae.training.heldout import HeldOut, encode, hold_out
from parser_vae.training.loop import Loop, Outcome, Plan, Selection
from parser_vae.training.method_settings import build_method
from parser_vae.training.model_choice import Choice, TargetWatch, choices, likely_to_hurt
from parser_vae.training.pretrain import source_sentences
from parser_vae.training.progress import Progress
from parser_vae.training.settings import AdaptSettings
from parser_vae.treebank.conllu import read_treebank
from parser_vae.treebank.sentence import Sentence


@dataclass(frozen=True)
class AdaptResult:
    """What an adaptation came to.

    Attributes:
        outcome: The course of the run; epoch 0 is the model before adaptation.
        chosen_epoch: The epoch whose parser was kept; None where there was no dev file to choose by (the last).
        report: Adapted against source-only on the labelled test sentences; None without ``--test``.
        last_report: The same for the weights of the last epoch, where another one was kept.
        divergence: How different source and target text are; None where the source's sentences are not at hand.
        choices: Which epoch each criterion that needs no target trees would have kept.
        warning: Why the kept weights are likely worse than those before adapting; None where nothing says so.
    """

    outcome: Outcome
    chosen_epoch: int | None
    report: Report | None
    last_report: Report | None
    divergence: DomainDivergence | None
    choices: tuple[Choice, ...] = ()
    warning: str | None = None


def adapt(
    settings: AdaptSettings, out: Path, *, resume: bool, progress: Progress, begin: Callable[[], None] = lambda: None
) -> AdaptResult:
    """Adapt the model to the target, write the model folder ``out`` and return how it went.

    ``begin`` is called once all input is read and found right, before anything is written.

    Raises:
        InputError: A file is missing or malformed.
        IncompatibleError: The method cannot be used with these trees.
        KeyboardInterrupt: The user asked to stop; the run can be resumed.
    """
    before = Parser.load(settings.data.model)
    options = settings.training
    target = [s for path in settings.data.target for s in read_treebank(path, trees="ignore").sentences]
    test = None if settings.data.test is None else read_treebank(settings.data.test).sentences
    source, dev = _source(settings, before)
    torch.manual_seed(options.seed)
    model = extend_with_target(before.model, [sentence.forms for sentence in target])
    for parameter in model.decoder.parameters():
        parameter.requires_grad = not settings.objective.freeze_decoder
    structure = TREE_FAMILIES[settings.structure or model.family](single_root=settings.objective.single_root)
    objective, kind = settings.objective, model.decoder.settings.kind
    if objective.decoder not in (None, kind):
        raise ConfigError(
            f"objective.decoder is {objective.decoder}, but {settings.data.model} was pretrained with the decoder "
            f"{kind}; pretrain a model with --set decoder.kind={objective.decoder}"
        )
    problem = ParsingProblem(
        model,
        structure,
        objective.divergence,
        perturb_all=objective.touch == "all",
        divergence_weight=objective.divergence_weight,
    )
    labelled = [encode(model.indexer, sentence) for sentence in source or ()] if objective.supervised_weight else []
    if objective.supervised_weight and not labelled:
        raise ConfigError(
            f"objective.supervised_weight is {objective.supervised_weight:g}, but there are no source sentences to "
            f"learn from: the file that {settings.data.model} was trained on is gone; give it with --source"
        )
    threads = {"workers": max(1, torch.get_num_threads())} if settings.method == "nes" else {}
    method = build_method(settings.method, settings, **threads)
    method.check(problem)
    learnt_from, watched = hold_out(target, options.held_out)
    sentences = [encode(model.indexer, sentence, labelled=False) for sentence in learnt_from]
    if not sentences:
        raise InputError(f"training.held_out is {options.held_out:g}, which leaves no target sentences to learn from")
    watch = TargetWatch(model, [encode(model.indexer, sentence, labelled=False) for sentence in watched])
    held_out = None if dev is None else HeldOut(model.indexer, dev)
    divergence = None
    if source is not None and min(len(source), len(target)) >= FOLDS:
        divergence = domain_divergence([s.forms for s in source], [s.forms for s in target])
    progress.event("start", target_sentences=len(target), words=sum(len(s) for s in target), method=settings.method)
    if held_out is None:
        progress.event("note", text="no dev sentences: the last epoch is kept, unchecked; give some with --dev")

    def batches(generator: torch.Generator) -> list[list[int]]:
        if options.order == "corpus":
            every = list(range(len(sentences)))
            return [every[start : start + options.batch_size] for start in range(0, len(every), options.batch_size)]
        return shuffled_batches([s.length for s in sentences], options.batch_size, generator)

    def step(indices: list[int], epoch: int, generator: torch.Generator) -> dict[str, float]:
        model.eval()  # the objective is without dropout
        estimate = method.backward(problem, model.indexer.batch([sentences[i] for i in indices]), generator)
        loop.progress.event("update", epoch=epoch, objective=estimate.objective, **estimate.metrics)
        values = {"objective": estimate.objective, "evaluations": float(estimate.evaluations)}
        if labelled:
            model.train()  # the supervised loss is with dropout
            chosen = torch.randperm(len(labelled), generator=generator)[: len(indices)].tolist()
            losses = supervised_losses(model, model.indexer.batch([labelled[i] for i in chosen]))
            loss = torch.stack(list(losses.values())).sum()
            (objective.supervised_weight * loss).backward()
            values["supervised"] = float(loss.detach())
        return values

    learnt = [p for p in model.parameters() if p.requires_grad]
    if method.state is not None:
        learnt += method.state.parameters()
    plan = Plan(
        model=model,
        optimiser=torch.optim.Adam(learnt, lr=options.learning_rate),
        epochs=options.epochs,
        batches=batches,
        step=step,
        evaluate=lambda: ({} if held_out is None else held_out.values(model)) | watch.values(model),
        selections=() if held_out is None else (Selection("encoder.", "dev_uas", True),),
        clip=options.clip,
        method_state=method.state,
        evaluate_first=True,
        seconds=options.seconds,
        what=f"adapting by {settings.method}",
    )
    begin()
    out.mkdir(parents=True, exist_ok=True)
    loop = Loop(plan, out, options.seed, progress, resume)
    outcome = loop.run()
    chosen = outcome.chosen.get("encoder.")
    report = last_report = None
    manifest = model_manifest(model) | {"source": before.manifest.get("source"), "adapted": _record(settings, chosen)}
    after = Parser(model, manifest)
    if test is not None:
        baseline = before.parse(test)
        report = evaluate(test, after.parse(test), baseline)
        if chosen is not None and chosen != outcome.history[-1]["epoch"]:
            loop.load_last()
            last_report = evaluate(test, after.parse(test), baseline)
            loop.load_selected()
        manifest["report"] = report.to_dict()
    accuracy = None if divergence is None else divergence.accuracy
    warning = likely_to_hurt(outcome.history, chosen, accuracy)
    result = AdaptResult(outcome, chosen, report, last_report, divergence, choices(outcome.history), warning)
    write_model(out, model_tensors(model), manifest, dump_settings(settings), adapt_card(settings, result))
    for line in (f"the parser's weights are {kept(result)}", *choice_lines(result), *score_lines(result)):
        progress.event("note", text=line)
    return result


def _source(settings: AdaptSettings, before: Parser) -> tuple[Sequence[Sentence] | None, Sequence[Sentence] | None]:
    """Return the labelled source (None where it is not at hand) and the dev sentences to select on (likewise)."""
    recorded = before.manifest.get("source") or {}
    path = settings.data.source or _existing(recorded.get("train"))
    chosen = settings.data.dev or _existing(recorded.get("dev"))
    if path is None:
        return None, None if chosen is None else read_treebank(chosen).sentences
    if chosen is None and recorded.get("dev") is not None and settings.data.source is None:
        return read_treebank(path).sentences, None
    return source_sentences(path, chosen)


def _existing(path: str | None) -> Path | None:
    return Path(path) if path is not None and Path(path).is_file() else None


def _record(settings: AdaptSettings, chosen: int | None) -> dict[str, object]:
    return {
        "from": str(settings.data.model),
        "target": [str(path) for path in settings.data.target],
        "method": settings.method,
        "preset": settings.preset,
        "epoch": chosen,
    }
