"""A report as Markdown, for a repository, a model card or a thesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from parser_vae.evaluation import wording
from parser_vae.evaluation.measures import BREAKDOWNS
from parser_vae.evaluation.report import Measure, Report


def to_markdown(report: Report, title: str) -> str:
    """Return the report as Markdown: the finding, the scores of both conventions, every breakdown."""
    gold, predicted, baseline = report.names
    against = f", compared with {_code(baseline)}" if baseline is not None else ""
    lines = [
        f"# {title}",
        "",
        f"{_code(predicted)} scored against {_code(gold)}{against}: {report.sentences:,} sentences, "
        f"{report.words:,} words.",
        "",
        f"**{wording.headline(report)}**",
        "",
        *(line for note in report.notes for line in (f"> {note}", "")),
    ]
    for scorer in report.scorers.values():
        lines += [f"## {scorer.scorer.title[0].upper()}{scorer.scorer.title[1:]} (`{scorer.scorer.name}`)", ""]
        lines += [f"{scorer.scorer.convention} {scorer.excluded:,} words left out.", ""]
        named = {wording.SCORES[name]: measure for name, measure in scorer.scores.items()}
        lines += [*_table("Score", named, report), ""]
        for breakdown, groups in scorer.breakdowns.items():
            heading, measure = BREAKDOWNS[breakdown]
            lines += [*_table(f"{heading} ({measure})", groups, report), ""]
    lines += ["## Trees", ""]
    lines += _table("Share of sentences", {wording.TREES[k]: m for k, m in report.trees.items()}, report)
    lines += ["", _method(report)]
    return "\n".join(lines) + "\n"


def _code(text: str | None) -> str:
    return f"`{text}`"


def _method(report: Report) -> str:
    text = (
        f"Brackets hold {wording.level(report)} percentile-bootstrap intervals over sentences "
        f"({report.resamples:,} resamples, seed {report.seed})."
    )
    if report.has_baseline:
        text += (
            " Changes are paired, p-values come from approximate randomisation and are two-sided; "
            "nothing is corrected for the number of rows."
        )
    return text


def _table(name: str, measures: Mapping[str, Measure], report: Report) -> list[str]:
    header = [name, "count", "%", "interval"]
    if report.has_baseline:
        header += ["baseline", "change", "interval", "p"]
    rows = [_row(label, measure) for label, measure in measures.items()]
    alignment = ["---", *["---:"] * (len(header) - 1)]
    return [_line(cells) for cells in (header, alignment, *rows)]


def _row(label: str, measure: Measure) -> list[str]:
    cells = [label, f"{measure.support:,}", wording.number(measure.value), wording.interval(measure.interval)]
    if measure.change is not None:
        change = measure.change
        cells += [
            wording.number(change.before),
            wording.points(change.delta),
            wording.interval(change.interval, signed=True),
            wording.p_value(change.p_value),
        ]
    return cells


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
