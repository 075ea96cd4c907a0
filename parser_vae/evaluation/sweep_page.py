"""A sweep's table as one HTML page that needs nothing else: what each row gained, pair by pair, and all scores."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping

from parser_vae import __version__
from parser_vae.evaluation import plots
from parser_vae.evaluation.measures import Key
from parser_vae.evaluation.page_style import PAGE_STYLE
from parser_vae.evaluation.report import Change, Measure
from parser_vae.evaluation.seeds import ATTACHMENT
from parser_vae.evaluation.sweep_table import (
    AGREEMENT,
    TITLES,
    WORK,
    Entry,
    SweepTable,
    agreement_of,
    change,
    how_to_read,
    score,
    unequal,
    work_of,
)
from parser_vae.evaluation.wording import verdict

SOURCE = "source"


def sweep_page(table: SweepTable) -> str:
    """Return the page."""
    title = html.escape(table.title)
    sections = [_header(table), _mean_gains(table)]
    sections += [_pair(table, pair) for pair in table.pairs]
    sections += [_scores(table, key, folded=key != ATTACHMENT[0]) for key in ATTACHMENT]
    sections.append(_small_table(table, "Agreement", AGREEMENT, agreement_of))
    sections.append(_small_table(table, "Work", WORK, work_of))
    sections.append(_reading(table))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{PAGE_STYLE}</style></head>\n"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _header(table: SweepTable) -> str:
    seeds = sorted({seed for entry in table.entries.values() for seed in entry.seeds})
    pairs = f"{len(table.pairs)} {'pair' if len(table.pairs) == 1 else 'pairs'} of treebanks"
    text = f"{len(table.rows)} rows, {pairs}, seeds {', '.join(map(str, seeds))}."
    missing = ""
    if table.missing:
        listed = "; ".join(html.escape(name) for name in table.missing)
        missing = (
            f'<p class="note">{len(table.missing)} cells have not finished.</p><details><summary>Which</summary>'
            f"<p>{listed}</p></details>"
        )
    return f"<header><h1>{html.escape(table.title)}</h1><p>{text}</p>{missing}</header>\n"


def _mean_gains(table: SweepTable) -> str:
    """Return the plot of changes averaged over pairs; nothing where there is one pair or no row has all of them."""
    if not table.gains:
        return ""
    key = ATTACHMENT[0]
    rows = {
        _against(row, other): _measure(changes[key], sum(_support(table, row, key)))
        for (row, other), changes in table.gains.items()
    }
    plot = plots.change_plot("Mean change over all pairs, points of UAS", rows)
    return f"<section><h2>All pairs together</h2>{plot}</section>\n"


def _support(table: SweepTable, row: str, key: Key) -> list[int]:
    return [table.entries[row, pair].support[key] for pair in table.pairs]


def _pair(table: SweepTable, pair: str) -> str:
    """Return the plot of what each row gained over source and over its control on one pair."""
    key = ATTACHMENT[0]
    rows = {
        _against(row, other): _measure(changes[key], table.entries[row, pair].support[key])
        for row in table.rows
        if (row, pair) in table.entries
        for other, changes in table.entries[row, pair].changes.items()
    }
    if not rows:
        return ""
    source = table.entries.get((SOURCE, pair))
    before = "" if source is None else f"<p>The source model: UAS {html.escape(score(source, key))}.</p>"
    plot = plots.change_plot("Change in UAS, points", rows)
    return f"<section><h2>{html.escape(_title(pair))}</h2>{before}{plot}</section>\n"


def _against(row: str, other: str) -> str:
    return row if other == SOURCE else f"{row} over {other}"


def _measure(found: Change, support: int) -> Measure:
    return Measure(found.before + found.delta, None, support, found)


def _scores(table: SweepTable, key: Key, folded: bool) -> str:
    head = "".join(f"<th>{html.escape(_title(pair))}</th>" for pair in table.pairs)
    body = "".join(
        f"<tr><th>{html.escape(row)}</th>"
        + "".join(_score_cell(table.entries.get((row, pair)), key) for pair in table.pairs)
        + "</tr>"
        for row in table.rows
    )
    inner = (
        f'<div class="scroll"><table class="scores"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )
    if folded:
        return f"<section><details><summary>{TITLES[key]}</summary>{inner}</details></section>\n"
    return f"<section><h2>{TITLES[key]}</h2>{inner}</section>\n"


def _score_cell(entry: Entry | None, key: Key) -> str:
    if entry is None:
        return "<td>–</td>"
    lines = [html.escape(score(entry, key))]
    lines += [_change_line(entry, other, changes, key) for other, changes in entry.changes.items()]
    if key == ATTACHMENT[0] and entry.published is not None:
        lines.append(f"published: {entry.published:.2f}")
    return f"<td>{'<br>'.join(lines)}</td>"


def _change_line(entry: Entry, other: str, changes: Mapping[Key, Change], key: Key) -> str:
    kind = plots.KINDS[verdict(changes[key])]
    remark = "" if other == SOURCE else f" over {other}{unequal(entry, other)}"
    return f'<span class="{kind}">{html.escape(change(changes[key]))}</span>{html.escape(remark)}'


def _small_table(table: SweepTable, title: str, explained: str, shown: Callable[[Entry], str]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(row)}</th>"
        + "".join(
            f'<td class="num">{"–" if entry is None else html.escape(shown(entry))}</td>'
            for entry in (table.entries.get((row, pair)) for pair in table.pairs)
        )
        + "</tr>"
        for row in table.rows
    )
    head = "".join(f'<th class="num">{html.escape(_title(pair))}</th>' for pair in table.pairs)
    return (
        f"<section><h2>{title}</h2><p>{html.escape(explained)}</p>"
        f'<div class="scroll"><table class="scores"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody>'
        "</table></div></section>\n"
    )


def _reading(table: SweepTable) -> str:
    return (
        f"<section><h2>How to read this</h2><p>{html.escape(how_to_read(table))} With many cells some look clear by "
        "chance; nothing is corrected for their number.</p>"
        f"<footer>parser-vae {html.escape(__version__)}</footer></section>\n"
    )


def _title(pair: str) -> str:
    return pair.replace("__", " → ")
