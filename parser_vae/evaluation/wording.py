"""How numbers and findings of a report are put into words, the same in every output."""

from __future__ import annotations

from parser_vae.evaluation.report import Change, Measure, Report

SCORES = {
    "uas": "UAS",
    "las": "LAS",
    "label": "label accuracy",
    "clas": "CLAS",
    "exact": "exact match",
    "labelled_exact": "labelled exact match",
}
SIGNS = {"better": "▲", "worse": "▼", "no clear change": "○"}
TREES = {"valid": "valid trees", "root": "root word right"}


def number(value: float) -> str:
    """Return a percentage with one decimal, e.g. ``71.3``."""
    return f"{value:.1f}"


def points(value: float) -> str:
    """Return a difference with its sign, e.g. ``+1.2`` or ``−0.3`` (a real minus sign)."""
    text = f"{abs(value):.1f}"
    return text if text == "0.0" else f"{'+' if value > 0 else '−'}{text}"


def interval(ends: tuple[float, float] | None, *, signed: bool = False) -> str:
    """Return an interval, e.g. ``[70.1, 72.4]``; a dash where there is none."""
    if ends is None:
        return "–"
    low, high = (points(end) if signed else number(end) for end in ends)
    return f"[{low}, {high}]"


def p_value(value: float) -> str:
    """Return a p-value such as ``0.034``, or ``< 0.001``."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def level(report: Report) -> str:
    """Return the coverage of the report's intervals, e.g. ``95%``."""
    return f"{100 * report.level:g}%"


def verdict(change: Change) -> str:
    """Return what the interval of a difference says: ``better``, ``worse`` or ``no clear change``."""
    if not change.is_clear:
        return "no clear change"
    return "better" if change.delta > 0 else "worse"


def finding(name: str, measure: Measure) -> str:
    """Return one sentence on a measure, and on its change where there is one."""
    if measure.change is None:
        return f"{name} is {number(measure.value)} {interval(measure.interval)}."
    change = measure.change
    ends = interval(change.interval, signed=True)
    movement = f"from {number(change.before)} to {number(measure.value)}"
    if not change.is_clear:
        difference = f"{points(change.delta)} points {ends}"
        return f"{name} {movement} is no clear change: {difference}, which chance alone could make."
    verb = "rose" if change.delta > 0 else "fell"
    return f"{name} {verb} {movement}: {points(change.delta)} points {ends}."


def headline(report: Report) -> str:
    """Return the main finding: UAS and LAS without punctuation."""
    scorer = report.scorers["nltk"]
    return f"Without punctuation: {finding('UAS', scorer.uas)} {finding('LAS', scorer.las)}"
