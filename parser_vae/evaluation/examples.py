"""Which sentences to show: those that tell most about what a parser does, or what adapting did to it."""

from __future__ import annotations

from collections.abc import Sequence

from parser_vae.evaluation.render import Mark, marks, tree_text
from parser_vae.evaluation.report import Example, Report
from parser_vae.treebank.sentence import Sentence

READABLE = 30  # words; trees of longer sentences are hard to take in, and come only where no shorter one serves


def telling_examples(report: Report, count: int) -> list[tuple[str, Sequence[Example]]]:
    """Return headings and up to ``count`` sentences under each: most improved and most worsened, or the hardest."""
    examples = report.examples
    if not report.has_baseline:
        hardest = sorted(examples, key=lambda example: (example.uas, -len(example.gold)))
        return [("Hardest", _readable([example for example in hardest if example.uas < 100], count))]
    return [
        ("Most improved", _readable([example for example in examples if example.gained > 0], count)),
        ("Most worsened", _readable([example for example in reversed(examples) if example.gained < 0], count)),
    ]


def marked_trees(example: Example) -> list[tuple[str, Sentence, list[Mark]]]:
    """Return the trees of a sentence, each with its name and how its arcs compare with gold."""
    gold, predicted, baseline = example.gold, example.predicted, example.baseline
    rows = [("gold", gold, [Mark.RIGHT] * len(gold))]
    if baseline is not None:
        rows.append(("before", baseline, marks(gold, baseline)))
    rows.append(("after" if baseline is not None else "predicted", predicted, marks(gold, predicted, baseline)))
    return rows


def caption(example: Example) -> str:
    """Return the sentence's name and scores, e.g. ``dev-12: 60% → 80% of heads right (2 more)``."""
    gold = example.gold
    name = f"{gold.path}:{gold.line}" if gold.sent_id is None else gold.sent_id
    score = f"{example.uas:.0f}% of heads right"
    if example.before is not None:
        score = f"{example.before:.0f}% → {score} ({abs(example.gained)} {'more' if example.gained > 0 else 'fewer'})"
    return f"{name}: {score}"


def examples_text(report: Report, count: int) -> str:
    """Return the telling sentences with their trees drawn as text."""
    parts = []
    for heading, chosen in telling_examples(report, count):
        for example in chosen:
            parts.append(f"{heading}: {caption(example)}\n")
            parts += [f"{name}\n{tree_text(tree, drawn)}" for name, tree, drawn in marked_trees(example)]
    return "\n".join(parts)


def _readable(ranked: Sequence[Example], count: int) -> Sequence[Example]:
    short = [example for example in ranked if len(example.gold) <= READABLE]
    long = [example for example in ranked if len(example.gold) > READABLE]
    return (short + long)[:count]
