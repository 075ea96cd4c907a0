"""The report as one HTML page that needs nothing else: no script, no font, no file from anywhere."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import PurePath

from parser_vae import __version__
from parser_vae.evaluation import plots, wording
from parser_vae.evaluation.domain import DomainDivergence
from parser_vae.evaluation.examples import caption, marked_trees, telling_examples
from parser_vae.evaluation.measures import BREAKDOWNS
from parser_vae.evaluation.page_style import PAGE_STYLE
from parser_vae.evaluation.render import MEANINGS, SIGNS, Mark, is_right_to_left, tree_svg
from parser_vae.evaluation.report import Example, Measure, Report, ScorerReport
from parser_vae.treebank.sentence import Sentence

EXAMPLES = 3
CHANGE_COLUMN = 4  # of the table of all scores, which is coloured


def to_html(report: Report, title: str, *, command: str | None = None) -> str:
    """Return the page; see ``Report.to_html``."""
    sections = [_header(report, title), _headline(report), _scores(report)]
    if report.domain is not None:
        sections.append(_domain(report.domain))
    sections += [_breakdowns(report), _examples(report), _reading(report, command)]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{PAGE_STYLE}</style></head>\n"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _header(report: Report, title: str) -> str:
    gold, predicted, baseline = report.names
    against = "" if baseline is None else f", compared with {_file(baseline)}"
    return (
        f"<header><h1>{html.escape(title)}</h1><p>{_file(predicted)} scored against {_file(gold)}{against}: "
        f"{report.sentences:,} sentences, {report.words:,} words.</p></header>\n"
    )


def _file(path: str) -> str:
    parts = PurePath(path).parts
    return f'<code title="{html.escape(path)}">{html.escape("/".join(parts[-2:]))}</code>'


def _headline(report: Report) -> str:
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in report.notes)
    cards = "".join(
        _card(f"{wording.SCORES[name]} {scorer.scorer.title}", scorer.scores[name])
        for scorer in report.scorers.values()
        for name in ("uas", "las")
    )
    return (
        f'<section class="headline"><p class="finding">{html.escape(wording.headline(report))}</p>{notes}'
        f'<div class="cards">{cards}</div></section>\n'
    )


def _card(name: str, measure: Measure) -> str:
    change = measure.change
    if change is None:
        return (
            f'<div class="card"><h3>{html.escape(name)}</h3><p class="big">{wording.number(measure.value)}</p>'
            f"<p>{wording.interval(measure.interval)}</p></div>"
        )
    verdict = wording.verdict(change)
    return (
        f'<div class="card {plots.KINDS[verdict]}"><h3>{html.escape(name)}</h3>'
        f'<p class="big">{wording.number(measure.value)} <small>before {wording.number(change.before)}</small></p>'
        f'<p class="badge">{wording.SIGNS[verdict]} {wording.points(change.delta)} '
        f"{wording.interval(change.interval, signed=True)}</p><p>{verdict}, p {_p(change.p_value)}</p></div>"
    )


def _p(value: float) -> str:
    text = html.escape(wording.p_value(value))
    return text if text.startswith("&lt;") else f"= {text}"


def _scores(report: Report) -> str:
    header = ["", "counted", "%", f"{wording.level(report)} interval"]
    if report.has_baseline:
        header += ["before", "change", f"{wording.level(report)} interval", "p"]
    head = "".join(f'<th class="num">{html.escape(cell)}</th>' for cell in header)
    body = ""
    for scorer in report.scorers.values():
        body += _group_row(scorer.scorer.title, len(header))
        body += "".join(_score_row(wording.SCORES[name], measure) for name, measure in scorer.scores.items())
    body += _group_row("trees, by sentence", len(header))
    body += "".join(_score_row(wording.TREES[name], measure) for name, measure in report.trees.items())
    return (
        '<section><h2>All scores</h2><div class="scroll"><table class="scores"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div></section>\n"
    )


def _group_row(title: str, columns: int) -> str:
    return f'<tr class="group"><th colspan="{columns}">{html.escape(title)}</th></tr>'


def _score_row(name: str, measure: Measure) -> str:
    cells = [f"{measure.support:,}", wording.number(measure.value), wording.interval(measure.interval)]
    kind = ""
    if measure.change is not None:
        change = measure.change
        verdict = wording.verdict(change)
        kind = f' class="{plots.KINDS[verdict]}"'
        cells += [
            wording.number(change.before),
            f"{wording.SIGNS[verdict]} {wording.points(change.delta)}",
            wording.interval(change.interval, signed=True),
            wording.p_value(change.p_value),
        ]
    columns = "".join(
        f'<td class="num{" change" if index == CHANGE_COLUMN else ""}">{html.escape(cell)}</td>'
        for index, cell in enumerate(cells)
    )
    return f"<tr{kind}><th>{html.escape(name)}</th>{columns}</tr>"


def _domain(domain: DomainDivergence) -> str:
    def words(side: Sequence[str]) -> str:
        return ", ".join(f"<bdi>{html.escape(word)}</bdi>" for word in side) or "none stands out"

    return (
        "<section><h2>How far apart the domains are</h2><p>A classifier of words and letter sequences tells source "
        f"from target sentences with {wording.number(domain.accuracy)}% accuracy (50% is guessing): proxy "
        f"A-distance {domain.proxy_a_distance:.2f} on a scale from 0 (alike) to 2 (never confused).</p>"
        f"<dl><dt>Most telling of the source</dt><dd>{words(domain.source_words)}</dd>"
        f"<dt>Most telling of the target</dt><dd>{words(domain.target_words)}</dd></dl></section>\n"
    )


def _breakdowns(report: Report) -> str:
    """Return the plots of every convention; radio buttons choose which are seen, without a script."""
    heading = "Where it changed" if report.has_baseline else "Where it is right"
    choices = "".join(
        f'<input type="radio" name="scorer" id="by-{name}"{" checked" if index == 0 else ""}>'
        f'<label for="by-{name}">{html.escape(scorer.scorer.title)}</label>'
        for index, (name, scorer) in enumerate(report.scorers.items())
    )
    legend = ""
    if report.has_baseline:
        legend = (
            '<p class="legend"><span class="better">▲ better</span> <span class="worse">▼ worse</span> '
            "<span>○ no clear change</span> <span>line: "
            f"{wording.level(report)} interval of the change</span></p>"
        )
    panels = "".join(_panel(report, name, scorer) for name, scorer in report.scorers.items())
    return f'<section class="where"><h2>{heading}</h2>{choices}{legend}{panels}</section>\n'


def _panel(report: Report, name: str, scorer: ScorerReport) -> str:
    plotted = "".join(
        f"<h3>{html.escape(BREAKDOWNS[breakdown][0])}</h3>"
        + plots.breakdown_plot(breakdown, groups, report.has_baseline)
        for breakdown, groups in scorer.breakdowns.items()
    )
    return f'<div class="panel panel-{name}">{plotted}</div>'


# ------------------------------------------------------------------------------------------------ sentences


def _examples(report: Report) -> str:
    line = '<svg width="34" height="10" aria-hidden="true"><line x1="1" x2="33" y1="5" y2="5"/></svg>'
    legend = "".join(
        f'<span class="mark-{mark.value}">{"<i>≠ relation</i> " if mark is Mark.LABEL else line}{MEANINGS[mark]}</span>'
        for mark in Mark
        if report.has_baseline or mark not in (Mark.FIXED, Mark.BROKEN)
    )
    parts = [f'<p class="legend">{legend}</p>']
    for heading, chosen in telling_examples(report, EXAMPLES):
        parts.append(f"<h3>{heading}</h3>")
        parts += [_example(example) for example in chosen] or ["<p>There is none.</p>"]
    return f'<section class="examples"><h2>Sentences</h2>{"".join(parts)}</section>\n'


def _example(example: Example) -> str:
    rows = marked_trees(example)
    trees = [tree for _, tree, _ in rows]
    drawings = "".join(
        f'<figcaption>{label}</figcaption><div class="drawing">'
        f"{tree_svg(tree, drawn, title=_described(label, tree, drawn), alongside=trees)}</div>"
        for label, tree, drawn in rows
    )
    text = example.gold.text or " ".join(example.gold.forms)
    return (
        f'<figure><p class="sentence" dir="auto">{html.escape(text)}</p>'
        f'<p class="meta">{html.escape(caption(example))}</p>'
        f'<div class="scroll" dir="{"rtl" if is_right_to_left(example.gold) else "ltr"}">{drawings}</div></figure>'
    )


def _described(label: str, tree: Sentence, row_marks: Sequence[Mark]) -> str:
    wrong = [f"{form}{SIGNS[mark]}" for form, mark in zip(tree.forms, row_marks, strict=True) if mark is not Mark.RIGHT]
    return f"{label} tree" + (f"; marked: {', '.join(wrong)}" if wrong else "")


# ------------------------------------------------------------------------------------------------ how to read it


def _reading(report: Report, command: str | None) -> str:
    conventions = " ".join(
        f"<b>{html.escape(scorer.scorer.title[0].upper() + scorer.scorer.title[1:])}</b> "
        f"(<code>{name}</code>): {html.escape(scorer.scorer.convention)}"
        for name, scorer in report.scorers.items()
    )
    paired = (
        " A change is paired: both systems are scored on the same resampled sentences. It is called better or worse "
        "only if its interval leaves out 0 and a two-sided test by approximate randomisation agrees. With dozens of "
        "rows some will look clear by chance; nothing is corrected for their number."
        if report.has_baseline
        else ""
    )
    made = f"<p>Made by <code>{html.escape(command)}</code></p>" if command else ""
    return (
        "<section><h2>How to read this</h2><p>UAS is the share of words with the right head, LAS of those with the "
        f"right head and relation. {conventions} Brackets hold {wording.level(report)} intervals: sentences are drawn "
        f"anew {report.resamples:,} times (percentile bootstrap, seed {report.seed}) and scored again, which tells how "
        f"much the score owes to this very sample of sentences, not to other training runs.{paired}</p>{made}"
        f"<footer>parser-vae {html.escape(__version__)}</footer></section>\n"
    )
