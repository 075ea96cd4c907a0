"""A report for the terminal, 80 columns wide: the scores, and the groups of words that say most about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from parser_vae.evaluation import wording
from parser_vae.evaluation.measures import BREAKDOWNS
from parser_vae.evaluation.report import Change, Measure, Report

MOST_FREQUENT = 12
SHOWN = ("uas", "las", "clas", "exact")


def to_terminal(report: Report) -> Group:
    """Return something rich can print: the finding, all scores, and breakdowns without punctuation."""
    legend = f"{report.sentences:,} sentences, {report.words:,} words; intervals of {wording.level(report)}"
    if report.has_baseline:
        legend += "; " + ", ".join(f"{sign} {verdict}" for verdict, sign in wording.SIGNS.items())
    parts: list[Table | Text] = [Text(wording.headline(report), style="bold"), Text(legend), *map(Text, report.notes)]
    for scorer in report.scorers.values():
        scores = {wording.SCORES[name]: scorer.scores[name] for name in SHOWN if name in scorer.scores}
        parts.append(_table(f"{scorer.scorer.name}: {scorer.scorer.title}", scores, report, ("value", "range")))
    trees = {wording.TREES[name]: measure for name, measure in report.trees.items()}
    parts.append(_table("sentences", trees, report, ("value", "range")))
    for breakdown, groups in report.scorers["nltk"].breakdowns.items():
        if breakdown != "upos":
            heading, measure = BREAKDOWNS[breakdown]
            own = ("count", "value") if report.has_baseline else ("count", "value", "range")
            parts.append(_table(f"{heading}: {measure}, nltk", _shown(groups, breakdown), report, own))
    return Group(*parts)


def _shown(groups: Mapping[str, Measure], breakdown: str) -> Mapping[str, Measure]:
    if breakdown != "relations":
        return {group: measure for group, measure in groups.items() if measure.support}
    frequent = sorted(groups, key=lambda group: -groups[group].support)[:MOST_FREQUENT]
    return {group: groups[group] for group in frequent}


_OWN: dict[str, Callable[[Measure], str]] = {
    "count": lambda measure: f"{measure.support:,}",
    "value": lambda measure: wording.number(measure.value),
    "range": lambda measure: wording.interval(measure.interval),
}
_COMPARED: dict[str, Callable[[Change], str]] = {
    "before": lambda change: wording.number(change.before),
    "change": lambda change: f"{wording.SIGNS[wording.verdict(change)]} {wording.points(change.delta)}",
    "interval": lambda change: wording.interval(change.interval, signed=True),
    "p": lambda change: wording.p_value(change.p_value),
}


def _table(title: str, measures: Mapping[str, Measure], report: Report, own: Iterable[str]) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="italic", box=None, pad_edge=False)
    table.add_column("", no_wrap=True, min_width=16)
    names = {"count": "words", "value": "after" if report.has_baseline else "%", "range": "interval"}
    for column in [names[each] for each in own] + (list(_COMPARED) if report.has_baseline else []):
        table.add_column(column, justify="right", no_wrap=True)
    for label, measure in measures.items():
        cells = [label, *(_OWN[each](measure) for each in own)]
        if measure.change is not None:
            cells += [show(measure.change) for show in _COMPARED.values()]
        table.add_row(*map(Text, cells))
    return table
