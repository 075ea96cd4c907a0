"""Rows of numbers with a dot and its interval beside each: tables that are plots, in plain HTML and SVG.

Positions inside a plot are percentages of its width, so it fits a wide screen, a phone and a printed page. What a dot
means is told by its shape as well as its colour: triangle up better, triangle down worse, ring no clear change.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass

from parser_vae.evaluation import wording
from parser_vae.evaluation.measures import BREAKDOWNS
from parser_vae.evaluation.report import Measure

FEW_WORDS = 20  # a group of fewer has an interval so wide that it flattens all others
_MARGIN = 4.0  # percent of the width left free at either end, so that dots are not cut off


@dataclass(frozen=True)
class Scale:
    """The numbers at the left and right end of a plot, and those with a line."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> str:
        """Return the place of ``value`` as a percentage of the width; beyond the ends, the end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return f"{_MARGIN + (100 - 2 * _MARGIN) * share:.2f}%"


def breakdown_plot(breakdown: str, groups: Mapping[str, Measure], has_baseline: bool) -> str:
    """Return the groups of a breakdown as a table with a plot column; groups of few words follow, folded away."""
    _, measure_name = BREAKDOWNS[breakdown]
    rows = {name: measure for name, measure in groups.items() if measure.support or breakdown == "relations"}
    if breakdown in ("relations", "upos"):
        rows = dict(sorted(rows.items(), key=lambda row: -row[1].support))
    large = {name: measure for name, measure in rows.items() if measure.support >= FEW_WORDS}
    small = {name: measure for name, measure in rows.items() if name not in large}
    scale = change_scale(large) if has_baseline else Scale(0, 100, (0, 25, 50, 75, 100))
    subject = f"Change in {measure_name}, points" if has_baseline else f"{measure_name}, %"
    parts = [_table(subject, large, scale, has_baseline)] if large else []
    if small:
        folded = f"{len(small)} {'more ' if large else ''}with fewer than {FEW_WORDS} words each"
        parts.append(f"<details><summary>{folded}</summary>{_table(subject, small, None, has_baseline)}</details>")
    return "".join(parts)


def change_plot(subject: str, measures: Mapping[str, Measure]) -> str:
    """Return changes, one row each, as a table with a plot column; ``subject`` is the heading of the plot."""
    return _table(subject, measures, change_scale(measures), has_baseline=True)


def change_scale(measures: Mapping[str, Measure]) -> Scale:
    """Return a scale around 0 wide enough for the intervals of all changes."""
    ends = [
        abs(end) for m in measures.values() if m.change is not None and m.change.interval for end in m.change.interval
    ]
    widest = max(ends, default=1.0)
    step = next(s for s in (0.5, 1, 2, 5, 10, 20, 50, 100) if widest <= 2 * s or s == 100)
    limit = step * max(1, math.ceil(widest / step))
    return Scale(-limit, limit, tuple(step * k for k in range(-int(limit / step), int(limit / step) + 1)))


def _table(subject: str, measures: Mapping[str, Measure], scale: Scale | None, has_baseline: bool) -> str:
    values = '<th class="num wide">before → after</th>' if has_baseline else '<th class="num">%</th>'
    columns = ["<th></th>", '<th class="num wide">words</th>', values]
    if scale is not None:
        columns.append(f'<th class="plot">{html.escape(subject)}{_axis(scale)}</th>')
    columns.append(f'<th class="num">{"change" if has_baseline else "interval"}</th>')
    rows = "".join(_row(name, measure, scale) for name, measure in measures.items())
    return f'<table class="rows"><thead><tr>{"".join(columns)}</tr></thead><tbody>{rows}</tbody></table>'


def _row(name: str, measure: Measure, scale: Scale | None) -> str:
    change = measure.change
    if change is None:
        values = wording.number(measure.value)
        last = wording.interval(measure.interval)
        title = ""
    else:
        values = f"{wording.number(change.before)} → {wording.number(measure.value)}"
        last = f"{wording.SIGNS[wording.verdict(change)]} {wording.points(change.delta)}"
        title = f"{wording.interval(change.interval, signed=True)}, p {_equals(wording.p_value(change.p_value))}"
    cells = [
        f"<th>{html.escape(name)}</th>",
        f'<td class="num wide">{measure.support:,}</td>',
        f'<td class="num{" wide" if change else ""}">{values}</td>',
    ]
    if scale is not None:
        cells.append(f'<td class="plot">{_dot(measure, scale)}</td>')
    cells.append(f'<td class="num change" title="{html.escape(title)}">{last}</td>')
    kind = "" if change is None else f' class="{KINDS[wording.verdict(change)]}"'
    return f"<tr{kind}>{''.join(cells)}</tr>"


KINDS = {"better": "better", "worse": "worse", "no clear change": "unclear"}


def _equals(text: str) -> str:
    return text if text.startswith("<") else f"= {text}"


def _axis(scale: Scale) -> str:
    labels = "".join(
        f'<text x="{scale.at(tick)}" y="12">{wording.points(tick) if scale.low < 0 else f"{tick:g}"}</text>'
        for tick in scale.ticks
    )
    return f'<svg class="axis" height="16" aria-hidden="true">{labels.replace(".0<", "<")}</svg>'


def _dot(measure: Measure, scale: Scale) -> str:
    change = measure.change
    value, ends = (measure.value, measure.interval) if change is None else (change.delta, change.interval)
    parts = [
        f'<line class="{"zero" if tick == 0 and scale.low < 0 else "grid"}" '
        f'x1="{scale.at(tick)}" x2="{scale.at(tick)}" y1="0" y2="24"/>'
        for tick in scale.ticks
    ]
    if ends is not None:
        parts.append(f'<line class="range" x1="{scale.at(ends[0])}" x2="{scale.at(ends[1])}" y1="12" y2="12"/>')
    verdict = "no clear change" if change is None else wording.verdict(change)
    # a nested <svg> carries the shape to a place given in percent
    shape = {
        "better": '<path d="M0 -6 L6 5 H-6 Z"/>',
        "worse": '<path d="M0 6 L6 -5 H-6 Z"/>',
        "no clear change": '<circle r="4.5"/>',
    }[verdict]
    parts.append(f'<svg class="dot" x="{scale.at(value)}" y="12" overflow="visible">{shape}</svg>')
    return f'<svg height="24" aria-hidden="true">{"".join(parts)}</svg>'
