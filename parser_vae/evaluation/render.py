"""Dependency trees drawn as arcs: SVG for pages and documents, text for terminals.

Every arc has a ``Mark`` that says how it compares with gold. Marks differ in colour and in the line itself (solid,
dashed, heavy) or the label (``≠``), so they can be told apart without seeing colours, on paper, and in text.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from parser_vae.evaluation.alignment import UNALIGNED, align_words
from parser_vae.treebank.sentence import Sentence


class Mark(StrEnum):
    """How an arc compares with gold, and with an earlier system where there is one."""

    RIGHT = "right"
    LABEL = "label"
    WRONG = "wrong"
    FIXED = "fixed"
    BROKEN = "broken"


MEANINGS = {
    Mark.RIGHT: "right, or gold",
    Mark.LABEL: "right head, other relation",
    Mark.WRONG: "wrong head",
    Mark.FIXED: "right now, wrong before",
    Mark.BROKEN: "wrong now, right before",
}
SIGNS = {Mark.RIGHT: "", Mark.LABEL: " ≠", Mark.WRONG: " ✗", Mark.FIXED: " ✓", Mark.BROKEN: " ✗✗"}

STYLE = """
.tree { --ink: #333a44; --soft: #77808c; --paper: #ffffff; --wrong: #c2410c; --fixed: #0060a8; color-scheme: light dark;
  font-family: system-ui, "Segoe UI", "Noto Sans", sans-serif; background: var(--paper); }
@media (prefers-color-scheme: dark) { .tree { --ink: #d5dae1; --soft: #939daa; --paper: #171b21; --wrong: #ff9d6b;
  --fixed: #74bdff; } }
.tree text { fill: var(--ink); text-anchor: middle; direction: ltr; }
.tree .form { font-size: 15px; }
.tree .tag { font-size: 10px; fill: var(--soft); letter-spacing: .04em; }
.tree .rel { font-size: 11px; paint-order: stroke; stroke: var(--paper); stroke-width: 5px; stroke-linejoin: round; }
.tree path { fill: none; stroke: var(--soft); stroke-width: 1.2; }
.tree path.tip { fill: var(--soft); stroke: none; }
.tree .label .rel { fill: var(--wrong); }
.tree .wrong path, .tree .broken path { stroke: var(--wrong); stroke-width: 1.6; stroke-dasharray: 5 3; }
.tree .broken path { stroke-width: 2.6; }
.tree .fixed path { stroke: var(--fixed); stroke-width: 2.6; }
.tree .wrong .tip, .tree .broken .tip { fill: var(--wrong); stroke: none; }
.tree .fixed .tip { fill: var(--fixed); stroke: none; }
.tree .wrong .rel, .tree .broken .rel { fill: var(--wrong); }
.tree .fixed .rel { fill: var(--fixed); }
.tree .broken .rel, .tree .fixed .rel { font-weight: 650; }
"""

_LEVEL = 22  # height of one level of arcs, in pixels
_GAP = 16  # between words
_FOOT = 6  # between the feet of two arcs at one word
_TEXT_HEIGHT = 40  # forms and tags under the arcs


@dataclass(frozen=True)
class _Arc:
    """An arc between words, numbered from 1; ``head`` 0 is the root."""

    head: int
    dependent: int
    label: str
    mark: Mark

    @property
    def span(self) -> tuple[int, int]:
        if self.head == 0:
            return self.dependent, self.dependent
        return min(self.head, self.dependent), max(self.head, self.dependent)


def marks(gold: Sentence, system: Sentence, before: Sentence | None = None) -> list[Mark]:
    """Return a mark for each word of ``system``; relations are compared without their subtypes.

    Args:
        gold: The right tree.
        system: The tree to be marked, of the same characters.
        before: An earlier system's tree, which makes words ``FIXED`` or ``BROKEN``.
    """
    right = _right_heads(gold, system)
    result = [Mark.RIGHT if right.get(word) else Mark.WRONG for word in range(len(system))]
    for gold_word, word in enumerate(align_words([gold], [system])):
        if word != UNALIGNED and right[word] and _base(gold.deprels[gold_word]) != _base(system.deprels[word]):
            result[word] = Mark.LABEL
    if before is None:
        return result
    was_right = _right_heads(gold, before)
    pairs = zip(align_words([gold], [system]), align_words([gold], [before]), strict=True)
    for word, earlier in pairs:
        if UNALIGNED in (word, earlier):
            continue
        if right[word] and not was_right[earlier]:
            result[word] = Mark.FIXED
        elif was_right[earlier] and not right[word]:
            result[word] = Mark.BROKEN
    return result


def tree_svg(
    sentence: Sentence,
    marks: Sequence[Mark] | None = None,
    *,
    title: str = "Dependency tree",
    alongside: Sequence[Sentence] = (),
) -> str:
    """Return the tree as an SVG element with its own style, fit for a page and, saved as it is, for a file.

    Sentences mostly in a right-to-left script are drawn from right to left.

    Args:
        sentence: The words and their heads; a word without a head is drawn without an arc.
        marks: For each word how its arc is drawn; None draws all alike.
        title: What the drawing is, for screen readers and as a tooltip.
        alongside: Other trees of the sentence drawn above or below; where they have the same words, these stand in
            the same columns.
    """
    arcs = _arcs(sentence, marks)
    levels = _levels(arcs)
    others = [arc for other in alongside if other.forms == sentence.forms for arc in _arcs(other, None)]
    centres, width = _columns(sentence, [*arcs, *others])
    top = _LEVEL * max([*levels.values(), 0]) + 14
    right_to_left = is_right_to_left(sentence)
    if right_to_left:
        centres = [width - centre for centre in centres]
    feet = _feet(arcs, centres)
    drawn = [_svg_arc(arc, levels[arc], feet, top) for arc in arcs]
    parts = [line for line, _ in drawn] + [label for _, label in drawn]  # no line runs through a label
    for centre, form, tag in zip(centres, sentence.forms, sentence.upos, strict=True):
        direction = ' style="direction:rtl"' if right_to_left else ""  # which turns brackets round
        parts.append(f'<text class="form"{direction} x="{centre:.0f}" y="{top + 18}">{_text(form)}</text>')
        if tag != "_":
            parts.append(f'<text class="tag" x="{centre:.0f}" y="{top + 33}">{_text(tag)}</text>')
    height = top + _TEXT_HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tree" role="img" '
        f'width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}">'
        f"<title>{_text(title)}</title><style>{STYLE}</style>{''.join(parts)}</svg>"
    )


def is_right_to_left(sentence: Sentence) -> bool:
    """Return whether most letters of the sentence belong to a script written from right to left."""
    directions = [unicodedata.bidirectional(character) for form in sentence.forms for character in form]
    return sum(d in ("R", "AL") for d in directions) > sum(d == "L" for d in directions)


def tree_text(sentence: Sentence, marks: Sequence[Mark] | None = None) -> str:
    """Return the tree as lines of text, one word a line, arcs in box-drawing characters on the left.

    ``►`` points at the dependent. After the relation, ``✗`` marks a wrong head, ``✗✗`` one that was right before,
    ``✓`` one that was wrong before, ``≠`` a right head with another relation.
    """
    arcs = _arcs(sentence, marks)
    levels = _levels(arcs)
    depth = max([level for arc, level in levels.items() if arc.head] or [0])
    grid = _Grid(len(sentence), 2 * depth + 2)
    for arc in arcs:
        if arc.head:
            grid.connect(arc.span, column=2 * (depth - levels[arc]), dependent=arc.dependent)
    roots = {arc.dependent for arc in arcs if arc.head == 0}
    relations = {arc.dependent: f"{arc.label}{SIGNS[arc.mark]}" for arc in arcs}
    form_width = max(_cells(form) for form in sentence.forms)
    tag_width = max(len(tag) for tag in sentence.upos)
    lines = []
    for word, (form, tag) in enumerate(zip(sentence.forms, sentence.upos, strict=True), start=1):
        drawing = grid.row(word, is_root=word in roots)
        padding = " " * (form_width - _cells(form))
        lines.append(f"{drawing} {form}{padding} {tag.ljust(tag_width)} {relations.get(word, '')}".rstrip())
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------ what to draw


def _base(deprel: str) -> str:
    return deprel.split(":")[0]


def _right_heads(gold: Sentence, system: Sentence) -> dict[int, bool]:
    """Return for each aligned word of ``system``, from 0, whether it has the gold head."""
    partners = align_words([gold], [system])
    right = dict.fromkeys(range(len(system)), False)
    for gold_word, word in enumerate(partners):
        gold_head = gold.heads[gold_word]
        if word != UNALIGNED and gold_head is not None:
            expected = 0 if gold_head == 0 else partners[gold_head - 1] + 1
            right[word] = system.heads[word] == expected and (gold_head == 0 or expected > 0)
    return right


def _arcs(sentence: Sentence, marks: Sequence[Mark] | None) -> list[_Arc]:
    drawn = marks or [Mark.RIGHT] * len(sentence)
    return [
        _Arc(head, word, label, mark)
        for word, (head, label, mark) in enumerate(zip(sentence.heads, sentence.deprels, drawn, strict=True), start=1)
        if head is not None and 0 <= head <= len(sentence) and head != word
    ]


def _levels(arcs: Sequence[_Arc]) -> dict[_Arc, int]:
    """Return a height for each arc, from 1, so that no two arcs over the same place share one."""
    levels: dict[_Arc, int] = {}
    for arc in sorted((arc for arc in arcs if arc.head), key=lambda arc: arc.span[1] - arc.span[0]):
        low, high = arc.span
        below = [level for other, level in levels.items() if other.span[0] < high and low < other.span[1]]
        levels[arc] = 1 + max(below, default=0)
    for arc in arcs:
        if arc.head == 0:
            below = [level for other, level in levels.items() if other.span[0] <= arc.dependent <= other.span[1]]
            levels[arc] = 1 + max(below, default=0)
    return levels


def _columns(sentence: Sentence, arcs: Sequence[_Arc]) -> tuple[list[float], float]:
    """Return the middle of each word and the width of the drawing, so that neither words nor labels collide."""
    widths = [max(_width(f, 15), _width(t, 10)) for f, t in zip(sentence.forms, sentence.upos, strict=True)]
    for arc in arcs:
        if arc.head == 0:
            widths[arc.dependent - 1] = max(widths[arc.dependent - 1], _width(arc.label, 11))
    labels: dict[tuple[int, int], float] = {}
    for arc in arcs:
        if arc.span[1] - arc.span[0] == 1:
            labels[arc.span] = max(labels.get(arc.span, 0), _width(arc.label, 11) + 30)
    centres = [_GAP + widths[0] / 2]
    for word in range(1, len(widths)):
        apart = (widths[word - 1] + widths[word]) / 2 + _GAP
        centres.append(centres[-1] + max(apart, labels.get((word, word + 1), 0)))
    return centres, centres[-1] + widths[-1] / 2 + _GAP


def _feet(arcs: Sequence[_Arc], centres: Sequence[float]) -> dict[tuple[_Arc, int], float]:
    """Return where each arc stands at each of its words, so that arcs at one word keep apart and do not cross."""
    feet: dict[tuple[_Arc, int], float] = {}
    for word, centre in enumerate(centres, start=1):
        here = [arc for arc in arcs if word in arc.span]

        def place(arc: _Arc, word: int = word) -> tuple[int, int]:
            far = arc.span[0] + arc.span[1] - word  # the other end
            if arc.head == 0:
                return 0, 0
            # from left to right: leftward arcs, the shortest first; the root's; rightward arcs, the longest first
            return (-1, word - far) if far < word else (1, -far)

        here.sort(key=place)
        direction = 1 if centres[-1] >= centres[0] else -1
        for index, arc in enumerate(here):
            feet[arc, word] = centre + direction * _FOOT * (index - (len(here) - 1) / 2)
    return feet


# ------------------------------------------------------------------------------------------------ SVG


def _text(text: str) -> str:
    """Return the text escaped for HTML and XML; control characters, which XML forbids, become replacement signs."""
    return html.escape("".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text))


def _svg_arc(arc: _Arc, level: int, feet: dict[tuple[_Arc, int], float], top: int) -> tuple[str, str]:
    """Return the arc's line and its label."""
    height = top - _LEVEL * level
    end = feet[arc, arc.dependent]
    tip = f'<path class="tip" d="M{end - 3.5:.1f} {top - 7} h7 L{end:.1f} {top} z"/>'
    if arc.head == 0:
        path = f"M{end:.1f} {height} V{top - 6}"
        middle, baseline = end, height + 4
    else:
        start = feet[arc, arc.head]
        bend = min(8.0, abs(end - start) / 2)
        step = bend if end > start else -bend
        path = (
            f"M{start:.1f} {top} V{height + bend:.1f} Q{start:.1f} {height} {start + step:.1f} {height} "
            f"H{end - step:.1f} Q{end:.1f} {height} {end:.1f} {height + bend:.1f} V{top - 6}"
        )
        middle, baseline = (start + end) / 2, height + 4
    relation = f"≠ {arc.label}" if arc.mark is Mark.LABEL else arc.label
    label = f'<text class="rel" x="{middle:.1f}" y="{baseline}">{_text(relation)}</text>'
    group = f'<g class="{arc.mark.value}">'
    return f'{group}<path d="{path}"/>{tip}</g>', f"{group}{label}</g>"


def _width(text: str, size: float) -> float:
    """Return about how many pixels wide ``text`` is; fonts differ, so on the generous side."""
    return size * sum(_character_width(character) for character in text)


def _character_width(character: str) -> float:
    if _cells(character) != 1:
        return 1.05 if _cells(character) else 0.0
    if character in "iljtfrI.,:;'|!()[]-":
        return 0.38
    if character in "mwMW@%" or character.isupper():
        return 0.8
    return 0.6


def _cells(text: str) -> int:
    """Return how many cells of a terminal ``text`` takes."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


# ------------------------------------------------------------------------------------------------ text


class _Grid:
    """Cells that lines run through; a cell knows on which of its four sides, and so which character it is."""

    _LINES = " ╵╶└╷│┌├╴┘─┴┐┤┬┼"  # by up = 1, right = 2, down = 4, left = 8

    def __init__(self, words: int, columns: int) -> None:
        self._sides = [[0] * columns for _ in range(words)]
        self._pointed: set[int] = set()

    def connect(self, span: tuple[int, int], column: int, dependent: int) -> None:
        low, high = span
        for word in range(low, high + 1):
            self._sides[word - 1][column] |= (1 if word > low else 0) | (4 if word < high else 0)
        for word in span:
            row = self._sides[word - 1]
            row[column] |= 2
            for index in range(column + 1, len(row)):
                row[index] |= 8 | (2 if index < len(row) - 1 else 0)
        self._pointed.add(dependent)

    def row(self, word: int, *, is_root: bool) -> str:
        drawing = "".join(self._LINES[sides] for sides in self._sides[word - 1])
        end = "►" if word in self._pointed else "●" if is_root else drawing[-1].replace("╴", "─")
        return drawing[:-1] + end
