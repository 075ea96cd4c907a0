"""The report as plain values: what ``--json`` writes. ``docs/evaluation.md`` describes the format."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from parser_vae.evaluation.domain import DomainDivergence
from parser_vae.evaluation.measures import BREAKDOWNS
from parser_vae.evaluation.report import Measure, Report, ScorerReport

FORMAT = 1


def to_dict(report: Report) -> dict[str, Any]:
    """Return the report as values that JSON knows; see ``Report.to_dict``."""
    gold, predicted, baseline = report.names
    return {
        "format": FORMAT,
        "data": {
            "gold": gold,
            "predicted": predicted,
            "baseline": baseline,
            "sentences": report.sentences,
            "words": report.words,
        },
        "resampling": {"resamples": report.resamples, "seed": report.seed, "level": report.level},
        **{name: _scorer_dict(report) for name, report in report.scorers.items()},
        "trees": {name: _measure_dict(measure) for name, measure in report.trees.items()},
        "domain": None if report.domain is None else _domain_dict(report.domain),
        "notes": list(report.notes),
    }


def _rounded(value: float) -> float:
    return round(value, 4)


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [_rounded(end) for end in interval]


def _domain_dict(domain: DomainDivergence) -> dict[str, Any]:
    rounded = replace(domain, accuracy=_rounded(domain.accuracy), proxy_a_distance=_rounded(domain.proxy_a_distance))
    return asdict(rounded)


def _measure_dict(measure: Measure) -> dict[str, Any]:
    values: dict[str, Any] = {
        "value": _rounded(measure.value),
        "interval": _pair(measure.interval),
        "count": measure.support,
    }
    if measure.change is not None:
        values["baseline"] = {
            "value": _rounded(measure.change.before),
            "delta": _rounded(measure.change.delta),
            "interval": _pair(measure.change.interval),
            "p_value": measure.change.p_value,
        }
    return values


def _scorer_dict(report: ScorerReport) -> dict[str, Any]:
    uas, las = report.uas, report.las
    values: dict[str, Any] = {
        "convention": report.scorer.convention,
        "uas": _rounded(uas.value),
        "interval": _pair(uas.interval),
        "las": _rounded(las.value),
        "las_interval": _pair(las.interval),
    }
    if uas.change is not None and las.change is not None:
        values["baseline"] = {
            "uas": _rounded(uas.change.before),
            "delta": _rounded(uas.change.delta),
            "interval": _pair(uas.change.interval),
            "p_value": uas.change.p_value,
            "las": _rounded(las.change.before),
            "las_delta": _rounded(las.change.delta),
            "las_interval": _pair(las.change.interval),
            "las_p_value": las.change.p_value,
        }
    values["words"] = uas.support
    values["excluded"] = report.excluded
    values["scores"] = {name: _measure_dict(measure) for name, measure in report.scores.items()}
    for name, groups in report.breakdowns.items():
        values[name] = {
            "measure": BREAKDOWNS[name][1],
            "groups": {group: _measure_dict(measure) for group, measure in groups.items()},
        }
    return values
