"""A report for the terminal: the scores, and the groups of words that say most about them."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from parser_vae.evaluation import wording
from parser_vae.evaluation.measures import BREAKDOWNS
from parser_vae.evaluation.report import Measure, Report

MOST_FREQUENT = 12


def to_terminal(report: Report) -> Group:
    """Return something rich can print: the finding, all scores, and breakdowns without punctuation."""
    scores = _table(f"{report.sentences:,} sentences, {report.words:,} words", report)
    for scorer in report.scorers.values():
        scores.add_row(Text(f"{scorer.scorer.name}: {scorer.scorer.title}", style="bold"), end_section=False)
        for name in ("uas", "las", "clas", "exact"):
            if name in scorer.scores:
                _add(scores, f"  {wording.SCORES[name]}", scorer.scores[name])
    for name, measure in report.trees.items():
        _add(scores, wording.TREES[name], measure)
    parts: list[Table | Text] = [Text(wording.headline(report), style="bold"), *map(Text, report.notes), scores]
    for breakdown, groups in report.scorers["nltk"].breakdowns.items():
        if breakdown == "upos":
            continue
        heading, measure_name = BREAKDOWNS[breakdown]
        table = _table(f"{heading}: {measure_name}, nltk", report)
        for group, measure in _shown(groups, breakdown).items():
            _add(table, group, measure)
        parts.append(table)
    return Group(*parts)


def _shown(groups: Mapping[str, Measure], breakdown: str) -> Mapping[str, Measure]:
    if breakdown != "relations":
        return {group: measure for group, measure in groups.items() if measure.support}
    frequent = sorted(groups, key=lambda group: -groups[group].support)[:MOST_FREQUENT]
    return {group: groups[group] for group in frequent}


def _table(title: str, report: Report) -> Table:
    table = Table(title=title, title_justify="left", title_style="italic", box=None, pad_edge=False)
    table.add_column("")
    columns = ["count", "%", wording.level(report)]
    if report.has_baseline:
        columns += ["baseline", "change", wording.level(report), "p", ""]
    for column in columns:
        table.add_column(column, justify="left" if not column else "right")
    return table


def _add(table: Table, label: str, measure: Measure) -> None:
    cells = [label, f"{measure.support:,}", wording.number(measure.value), wording.interval(measure.interval)]
    if measure.change is not None:
        change = measure.change
        cells += [
            wording.number(change.before),
            wording.points(change.delta),
            wording.interval(change.interval, signed=True),
            wording.p_value(change.p_value),
            wording.verdict(change),
        ]
    table.add_row(*map(Text, cells))
