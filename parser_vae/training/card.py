"""The model card: what a model is, what it was made from and how good it is, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parser_vae.parsing.tree_decoder import DecoderSettings
from parser_vae.training.settings import AdaptSettings, PretrainSettings

if TYPE_CHECKING:
    from parser_vae.training.adapt import AdaptResult
    from parser_vae.training.pretrain import PretrainResult

_USE = """
## Use

    parser-vae parse THIS_FOLDER in.conllu --output out.conllu

or `parser_vae.load("THIS_FOLDER").parse(sentences)`. It needs tokenised sentences; tags are not read. The licence of
the treebanks it was trained on may restrict its use: state it here before you pass the model on.
"""


def pretrain_card(settings: PretrainSettings, result: PretrainResult) -> str:
    """Return the card of a pretrained model, as Markdown."""
    data, scores = settings.data, result.dev
    dev = data.dev or f"a tenth of {data.train}, held out by a hash of the words"
    lines = [
        "# Dependency parser, trained on labelled source sentences",
        "",
        f"- Trees: {settings.structure}; encoder: {settings.encoder.preset}; decoder: " + _decoder(settings.decoder),
        f"- Trained on: `{data.train}`, {result.outcome.steps} steps in {len(result.outcome.history)} epochs, "
        f"seed {settings.training.seed}",
        f"- Selected on: `{dev}`",
        f"- Word vectors: {f'`{data.vectors}` (found {result.coverage})' if data.vectors else 'none'}",
        f"- On the selection sentences, punctuation excluded: UAS {scores['dev_uas']:.2f}, LAS {scores['dev_las']:.2f} "
        "(percent; the model was chosen by this UAS, so expect a little less elsewhere)",
        f"- Reconstruction there, given gold trees: {scores['dev_reconstruction']:.3f} nats a word",
    ]
    return "\n".join(lines) + "\n" + _USE


def _decoder(settings: DecoderSettings) -> str:
    if settings.kind == "lm":
        return f"lm, {settings.alignment}"
    what = {"forms": "words", "classes": f"{settings.classes} word classes", "tags": "UPOS tags"}
    return f"{what[settings.generates]} from their heads"


def adapt_card(settings: AdaptSettings, result: AdaptResult) -> str:
    """Return the card of an adapted model, as Markdown."""
    lines = [
        "# Dependency parser, adapted to raw target sentences",
        "",
        f"- Adapted from: `{settings.data.model}`, by {_ways(settings)}, preset {settings.preset}, "
        f"seed {settings.training.seed}",
        f"- Target sentences: {', '.join(f'`{path}`' for path in settings.data.target)}",
        f"- {result.course.outcome.steps} updates in {result.course.outcome.seconds:.0f} s; the parser's weights are "
        f"{result.course.why}",
    ]
    if result.divergence is not None:
        lines.append(
            f"- Source and target text: a classifier tells their sentences apart {result.divergence.accuracy:.0f}% of "
            "the time"
        )
    if result.warning is not None:
        lines.append(f"- **Warning**: {result.warning}")
    if result.report is not None:
        lines.append(f"- On `{settings.data.test}` (labelled, not used for any choice):")
        lines += [f"  - {line}" for line in score_lines(result)]
    return "\n".join([*lines, *_watched(result)]) + "\n" + _USE


def _ways(settings: AdaptSettings) -> str:
    latent = settings.latent
    return settings.method + ("" if latent.method is None else f" with {latent.method} (weight {latent.weight:g})")


def choice_lines(result: AdaptResult) -> list[str]:
    """Return one line for each criterion without target trees, saying what it would have kept, and the warning."""
    lines = [f"{choice.rule}: epoch {choice.epoch} ({choice.value:.3f})" for choice in result.choices]
    return lines + ([] if result.warning is None else [f"warning: {result.warning}"])


def _watched(result: AdaptResult) -> list[str]:
    """Return the section on what was watched without target trees, as Markdown lines."""
    if not result.choices:
        return []
    lines = [
        "",
        "## What can be known without target trees",
        "",
        "| criterion | epoch it would have kept | value there |",
    ]
    lines.append("| --- | --- | --- |")
    lines += [f"| {choice.rule} | {choice.epoch} | {choice.value:.3f} |" for choice in result.choices]
    names = [choice.criterion for choice in result.choices]
    lines += ["", f"| epoch | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for entry in result.course.outcome.history:
        lines.append(f"| {entry['epoch']} | " + " | ".join(f"{entry[name]:.3f}" for name in names) + " |")
    return lines


def score_lines(result: AdaptResult) -> list[str]:
    """Return one line per scorer: UAS before and after, for the kept weights and, where they differ, the last ones."""
    lines = []
    for what, report in (("kept weights", result.report), ("last epoch", result.last_report)):
        for name, scorer in {} if report is None else report.to_dict().items():
            if isinstance(scorer, dict) and {"uas", "baseline"} <= scorer.keys():
                before = scorer["baseline"]
                low, high = before["interval"]
                lines.append(
                    f"{what}, {name}: UAS {before['uas']:.2f} before, {scorer['uas']:.2f} after; "
                    f"change {before['delta']:+.2f} [{low:+.2f}, {high:+.2f}]"
                )
    return lines
