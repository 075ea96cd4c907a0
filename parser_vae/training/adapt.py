"""Adaptation of a pretrained parser to raw target sentences, by whatever method."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from parser_vae.errors import ConfigError, InputError
from parser_vae.evaluation.domain import FOLDS, DomainDivergence, domain_divergence
from parser_vae.evaluation.report import Report, evaluate
from parser_vae.methods.ranks import is_first, process_count, wait_for_all
from parser_vae.parser import Parser
from parser_vae.parsing.model import ParserModel, encode_raw
from parser_vae.parsing.storage import extend_with_target, model_manifest, model_tensors
from parser_vae.training.card import adapt_card, choice_lines, score_lines
from parser_vae.training.checkpoint import ROUNDS, write_model
from parser_vae.training.config import dump_settings
from parser_vae.training.dcst import DcstAdaptation
from parser_vae.training.gradient_adaptation import GradientAdaptation
from parser_vae.training.heldout import hold_out
from parser_vae.training.material import Course, Material
from parser_vae.training.model_choice import Choice, TargetWatch, choices, likely_to_hurt
from parser_vae.training.pretrain import source_sentences
from parser_vae.training.progress import Progress
from parser_vae.training.self_training import SelfTrainingAdaptation
from parser_vae.training.settings import AdaptSettings
from parser_vae.treebank.conllu import read_treebank
from parser_vae.treebank.sentence import Sentence

RECIPES: dict[str, type[SelfTrainingAdaptation] | type[DcstAdaptation]] = {
    recipe.name: recipe for recipe in (SelfTrainingAdaptation, DcstAdaptation)
}
"""Ways to adapt that are schedules of trainings and not gradient methods, by their ``--method`` name."""


@dataclass(frozen=True)
class AdaptResult:
    """What an adaptation came to.

    Attributes:
        course: How it went and which parser was kept; epoch or round 0 is the model before adaptation.
        report: Adapted against source-only on the labelled test sentences; None without ``--test``.
        last_report: The same for the parser of the last epoch or round, where another one was kept.
        divergence: How different source and target text are; None where the source's sentences are not at hand.
        choices: Which epoch each criterion that needs no target trees would have kept.
        warning: Why the kept weights are likely worse than those before adapting; None where nothing says so.
    """

    course: Course
    report: Report | None
    last_report: Report | None
    divergence: DomainDivergence | None
    choices: tuple[Choice, ...]
    warning: str | None


def adapt(
    settings: AdaptSettings, out: Path, *, resume: bool, progress: Progress, begin: Callable[[], None] = lambda: None
) -> AdaptResult:
    """Adapt the model to the target, write the model folder ``out`` and return how it went.

    ``begin`` is called once all input is read and found right, before anything is written. Of several processes that
    share the run, the first writes and reports; all read ``out`` to resume.

    Raises:
        InputError: A file is missing or malformed.
        IncompatibleError: The method cannot be used with these trees.
        LostProcessError: Another process of the run has ended.
        KeyboardInterrupt: The user asked to stop; the run can be resumed.
    """
    if process_count() > 1 and settings.method != "nes":
        raise ConfigError(
            f"--method {settings.method} works in one process; only nes shares its work. Leave torchrun out"
        )
    for flag, folder in (("--from", settings.data.model), *(("--teacher", path) for path in settings.data.teachers)):
        if out.resolve() == folder.resolve():
            raise InputError(f"--out {out}: is also {flag}, which would be lost; name another folder")
    material = read_material(settings)
    test = None if settings.data.test is None else read_treebank(settings.data.test).sentences
    torch.manual_seed(settings.training.seed)
    adaptation = RECIPES.get(settings.method, GradientAdaptation)(settings, material)
    source, target = material.source, material.target
    divergence = None
    if source is not None and min(len(source), len(target)) >= FOLDS:
        divergence = domain_divergence([s.forms for s in source], [s.forms for s in target])
    progress.event("start", target_sentences=len(target), words=sum(len(s) for s in target), method=settings.method)
    for note in unknown_relations(material):
        progress.event("note", text=note)
    wait_for_all()  # all have read the folder
    if is_first():
        begin()
        out.mkdir(parents=True, exist_ok=True)
        if not resume:
            shutil.rmtree(out / ROUNDS, ignore_errors=True)
    wait_for_all()
    course = adaptation.run(out, resume, progress)
    history = course.outcome.history
    warning = likely_to_hurt(history, course.chosen, None if divergence is None else divergence.accuracy)
    if warning is not None and settings.training.keep == "best":
        course = source_kept(course, material.before.model)
    if not is_first():
        return AdaptResult(course, None, None, divergence, choices(history), warning)
    report = last_report = None
    manifest = model_manifest(course.kept) | {
        "source": material.before.manifest.get("source"),
        "adapted": _record(settings, course.chosen),
    }
    if test is not None:
        baseline = material.before.parse(test)
        report = evaluate(test, Parser(course.kept, manifest).parse(test), baseline)
        if course.last is not None:
            last_report = evaluate(test, Parser(course.last, manifest).parse(test), baseline)
        manifest["report"] = report.to_dict()
    result = AdaptResult(course, report, last_report, divergence, choices(history), warning)
    write_model(out, model_tensors(course.kept), manifest, dump_settings(settings), adapt_card(settings, result))
    for line in (f"the parser's weights are {course.why}", *choice_lines(result), *score_lines(result)):
        progress.event("note", text=line)
    return result


def source_kept(course: Course, source: ParserModel) -> Course:
    """Return the course with the source parser kept in place of one that adapting has likely made worse."""
    why = "those from before adaptation, which has likely hurt (training.keep=last keeps the adapted ones)"
    return replace(course, kept=source, last=course.last or course.kept, chosen=0, why=why)


def read_material(settings: AdaptSettings) -> Material:
    """Return everything that the settings name, read and checked.

    Raises:
        InputError: A file is missing or malformed, or a further teacher is not of the model's kind.
    """
    data = settings.data
    before = Parser.load(data.model)
    teachers = [Parser.load(folder) for folder in data.teachers]
    for folder, teacher in zip(data.teachers, teachers, strict=True):
        if teacher.model.vocabulary.deprels != before.model.vocabulary.deprels:
            raise InputError(
                f"--teacher {folder}: knows other relations than {data.model}; give parsers trained on the same source"
            )
    target = [s for path in data.target for s in read_raw(path)]
    silver = [s for path in data.silver for s in read_treebank(path).sentences]
    source, dev = _source(settings, before)
    labelled = [] if data.target_train is None else list(read_treebank(data.target_train).sentences)
    if labelled:
        source = [*(source or ()), *labelled]
    target, watched = hold_out(target, settings.training.held_out)
    if not target:
        raise InputError(
            f"training.held_out is {settings.training.held_out:g}, which leaves no target sentences to learn from"
        )
    words = [sentence.forms for sentence in [*target, *silver, *labelled]]
    model = extend_with_target(before.model, words)
    others = [extend_with_target(teacher.model, words) for teacher in teachers]
    watch = TargetWatch(model, encode_raw(model.indexer, [sentence.forms for sentence in watched], model))
    return Material(before, model, target, source, labelled, dev, silver, others, watch)


def read_raw(path: Path) -> Sequence[Sentence]:
    """Return the sentences of a file without their trees: words with blanks between in ``.txt``, CoNLL-U in others.

    Raises:
        TreebankError: The file is malformed.
    """
    is_text = path.name.removesuffix(".gz").endswith(".txt")
    return read_treebank(path, trees="ignore", input="words" if is_text else "conllu").sentences


def unknown_relations(material: Material) -> list[str]:
    """Return one line for each file whose relations the model does not all know; it learns heads alone from those."""
    known = set(material.model.vocabulary.deprels)
    notes = []
    for flag, sentences in (("--silver", material.silver), ("--target-train", material.labelled)):
        relations = [relation for sentence in sentences for relation in sentence.deprels]
        unknown = [relation for relation in relations if relation not in known]
        if unknown:
            example = max(sorted(set(unknown)), key=unknown.count)
            notes.append(
                f"{flag}: {len(unknown)} of {len(relations)} words have a relation that the model does not know "
                f"('{example}' most often); only their heads are learnt"
            )
    return notes


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
        "latent_method": settings.latent.method,
        "preset": settings.preset,
        "epoch": chosen,
    }
