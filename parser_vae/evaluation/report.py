"""The evaluation of one or two systems against gold, as values; other modules of this folder show it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from parser_vae.errors import InputError, TreebankError
from parser_vae.evaluation.attachment import SCORERS, Match, Scorer, Words, match_words
from parser_vae.evaluation.domain import DomainDivergence, domain_divergence
from parser_vae.evaluation.measures import (
    BREAKDOWNS,
    Key,
    Ratios,
    joined,
    relations_of,
    scorer_measures,
    tree_measures,
)
from parser_vae.evaluation.significance import Interval, bootstrap, randomisation
from parser_vae.treebank.checks import is_tree, tree_problem
from parser_vae.treebank.sentence import Sentence

if TYPE_CHECKING:
    from rich.console import RenderableType

FEW_SENTENCES = 30


@dataclass(frozen=True)
class Change:
    """How a measure differs from the baseline's.

    Attributes:
        before: The baseline's value, in percent.
        delta: The difference in points.
        interval: Its bootstrap interval.
        p_value: Of the randomisation test.
        is_clear: Whether the interval leaves out 0 and the test agrees. Either alone is easily satisfied by a group
            of two or three words.
    """

    before: float
    delta: float
    interval: tuple[float, float] | None
    p_value: float
    is_clear: bool


@dataclass(frozen=True)
class Measure:
    """A score in percent.

    Attributes:
        interval: The ends of the bootstrap interval, or None where no resample had anything to count.
        support: How many gold words (or sentences) the score rests on.
        change: Against the baseline, where there is one.
    """

    value: float
    interval: tuple[float, float] | None
    support: int
    change: Change | None


@dataclass(frozen=True)
class ScorerReport:
    """What one convention says.

    Attributes:
        scorer: The convention.
        scores: ``uas``, ``las``, ``label`` (right labels whatever the head), ``exact``, ``labelled_exact`` (sentences
            without any error) and, for CoNLL 2018, ``clas``.
        breakdowns: For each of ``BREAKDOWNS`` its groups in order.
        excluded: How many gold words the convention leaves out.
    """

    scorer: Scorer
    scores: dict[str, Measure]
    breakdowns: dict[str, dict[str, Measure]]
    excluded: int

    @property
    def uas(self) -> Measure:
        """Return the unlabelled attachment score."""
        return self.scores["uas"]

    @property
    def las(self) -> Measure:
        """Return the labelled attachment score, on predicted heads."""
        return self.scores["las"]


@dataclass(frozen=True)
class Example:
    """A sentence of all treebanks, and in percent how much of its heads are right, before and after."""

    gold: Sentence
    predicted: Sentence
    baseline: Sentence | None
    uas: float
    before: float | None
    gained: int


@dataclass(frozen=True)
class Report:
    """Scores of a system, and of the change against a baseline, by every convention.

    Attributes:
        names: Where gold, predicted and baseline (None without one) come from.
        sentences: How many there are.
        words: How many gold words.
        trees: ``valid`` (share of sentences whose heads form a tree with one root) and ``root`` (share of sentences
            whose root word is right).
        scorers: By name, ``nltk`` and ``conll18``.
        examples: All sentences, most words gained first; without a baseline, best first.
        notes: What a reader of the numbers should know.
        domain: How far the parser's own domain is from gold's, where its sentences were given.
    """

    names: tuple[str, str, str | None]
    sentences: int
    words: int
    resamples: int
    seed: int
    level: float
    trees: dict[str, Measure]
    scorers: dict[str, ScorerReport]
    examples: tuple[Example, ...]
    notes: tuple[str, ...]
    domain: DomainDivergence | None

    @property
    def has_baseline(self) -> bool:
        """Return whether two systems were compared."""
        return self.names[2] is not None

    # What shows a report knows its classes, so these modules are imported when they are asked for; rich, which only
    # the terminal needs, is not even loaded before.

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values; ``docs/evaluation.md`` describes the format."""
        from parser_vae.evaluation.plain import to_dict

        return to_dict(self)

    def to_json(self) -> str:
        """Return :meth:`to_dict` as indented JSON with a final line end."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"

    def to_markdown(self, title: str = "Evaluation") -> str:
        """Return the report as Markdown."""
        from parser_vae.evaluation.markdown import to_markdown

        return to_markdown(self, title)

    def to_html(self, title: str = "Evaluation", *, command: str | None = None) -> str:
        """Return the report as a self-contained HTML page with plots and trees.

        Args:
            title: The heading of the page.
            command: The command that made it, shown as it is.
        """
        from parser_vae.evaluation.page import to_html

        return to_html(self, title, command=command)

    def __rich__(self) -> RenderableType:
        """Return what ``rich.console.Console.print`` shows of the report."""
        from parser_vae.evaluation.terminal import to_terminal

        return to_terminal(self)


def evaluate(
    gold: Sequence[Sentence],
    predicted: Sequence[Sentence],
    baseline: Sequence[Sentence] | None = None,
    *,
    source: Sequence[Sentence] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    trees: Literal["check", "ignore"] = "check",
) -> Report:
    """Return how well ``predicted`` (and ``baseline``) agree with ``gold``, with intervals.

    Args:
        gold: The human trees; they must be trees whatever ``trees`` says.
        predicted: The same sentences with the system's trees; tokens may be split into words differently.
        baseline: The same sentences by another system, such as the parser before it was adapted.
        source: Sentences of the domain that the parser was trained on; adds how far it is from gold's.
        resamples: Of the bootstrap and of the randomisation test.
        seed: Decides the resamples; the same seed gives the same report.
        level: The coverage of the intervals.
        trees: ``check`` refuses predictions that are not trees with one root, as the official scorer does; ``ignore``
            scores their heads as they are and reports the share of valid trees.

    Raises:
        InputError: Sentences that do not correspond, no sentences, or heads that are not a tree.
    """
    _require_settings(gold, resamples, level)
    systems = [predicted] if baseline is None else [baseline, predicted]
    matches = [match_words(gold, system) for system in systems]
    _require_trees(gold)
    if trees == "check":
        for system in systems:
            _require_trees(system, "or score the heads as they are (trees = ignore)")
    gold_words = Words.of(gold)
    ratios = [_all_measures(gold_words, matches, match, system) for match, system in zip(matches, systems, strict=True)]
    measures = _estimate(ratios, resamples, seed, level)
    scorers = {scorer.name: _scorer_report(scorer, measures, gold_words) for scorer in SCORERS}
    return Report(
        names=(_path(gold), _path(predicted), None if baseline is None else _path(baseline)),
        sentences=len(gold),
        words=len(gold_words.forms),
        resamples=resamples,
        seed=seed,
        level=level,
        trees={key.measure: measure for key, measure in measures.items() if key.scorer == "trees"},
        scorers=scorers,
        examples=_examples(gold, predicted, baseline, ratios),
        notes=tuple(_notes(gold_words, matches, scorers, len(gold))),
        domain=None if source is None else _domain(source, gold, seed),
    )


def _require_settings(gold: Sequence[Sentence], resamples: int, level: float) -> None:
    if not gold:
        raise InputError("there are no gold sentences; an evaluation needs at least one")
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; give at least 1 (10000 is usual)")
    if not 0 < level < 1:
        raise InputError(f"level is {level}; give a share between 0 and 1, such as 0.95")


def _require_trees(sentences: Sequence[Sentence], way_out: str = "") -> None:
    for sentence in sentences:
        problem = tree_problem(sentence.heads)
        if problem is not None:
            word = "" if sentence.sent_id is None else f"sentence {sentence.sent_id}, "
            word += f"word {problem.position}: " if problem.position else ""
            remedy = ", ".join(part for part in (problem.remedy, way_out) if part)
            raise TreebankError(sentence.path, sentence.line, f"{word}{problem.what}", remedy)


def _domain(source: Sequence[Sentence], gold: Sequence[Sentence], seed: int) -> DomainDivergence:
    return domain_divergence([sentence.forms for sentence in source], [sentence.forms for sentence in gold], seed)


def _path(sentences: Sequence[Sentence]) -> str:
    return ", ".join(dict.fromkeys(sentence.path for sentence in sentences))


def _all_measures(gold: Words, matches: Sequence[Match], match: Match, system: Sequence[Sentence]) -> Ratios:
    valid = [is_tree(sentence.heads) for sentence in system]
    parts = [tree_measures(gold, match, valid)]
    for scorer in SCORERS:
        relations = relations_of([gold, *(each.system for each in matches)], scorer)
        parts.append(scorer_measures(gold, match, scorer, relations))
    return joined(parts)


def _estimate(ratios: list[Ratios], resamples: int, seed: int, level: float) -> dict[Key, Measure]:
    """Return every measure of the last system, compared with the first where there are two."""
    rng = np.random.default_rng(seed)
    intervals, difference = bootstrap(ratios, resamples=resamples, level=level, rng=rng)
    values = [each.percent() for each in ratios]
    p_values = randomisation(ratios[:1], ratios[1:], resamples=resamples, rng=rng) if len(ratios) == 2 else None
    measures = {}
    for index, key in enumerate(ratios[-1].keys):
        change = None
        if difference is not None and p_values is not None:
            ends, p_value = _ends(difference, index), float(p_values[index])
            change = Change(
                before=float(values[0][index]),
                delta=float(values[1][index] - values[0][index]),
                interval=ends,
                p_value=p_value,
                is_clear=ends is not None and (ends[0] > 0 or ends[1] < 0) and p_value <= 1 - level,
            )
        support = int(ratios[-1].support[index])
        measures[key] = Measure(float(values[-1][index]), _ends(intervals[-1], index), support, change)
    return measures


def _ends(interval: Interval, index: int) -> tuple[float, float] | None:
    low, high = float(interval.low[index]), float(interval.high[index])
    return None if np.isnan(low) else (low, high)


def _scorer_report(scorer: Scorer, measures: dict[Key, Measure], gold: Words) -> ScorerReport:
    own = {key: measure for key, measure in measures.items() if key.scorer == scorer.name}
    return ScorerReport(
        scorer=scorer,
        scores={key.measure: measure for key, measure in own.items() if not key.group},
        breakdowns={
            breakdown: {key.group: measure for key, measure in own.items() if key.measure == breakdown}
            for breakdown in BREAKDOWNS
        },
        excluded=sum(not scorer.counts(form) for form in gold.forms),
    )


def _examples(
    gold: Sequence[Sentence],
    predicted: Sequence[Sentence],
    baseline: Sequence[Sentence] | None,
    ratios: list[Ratios],
) -> tuple[Example, ...]:
    column = ratios[-1].keys.index(Key("conll18", "uas"))
    right = [each.numerator[:, column] / 2 for each in ratios]
    totals = [np.maximum(each.denominator[:, column] / 2, 1) for each in ratios]
    examples = [
        Example(
            gold=sentence,
            predicted=predicted[index],
            baseline=None if baseline is None else baseline[index],
            uas=float(100 * right[-1][index] / totals[-1][index]),
            before=None if baseline is None else float(100 * right[0][index] / totals[0][index]),
            gained=0 if baseline is None else int(right[-1][index] - right[0][index]),
        )
        for index, sentence in enumerate(gold)
    ]
    return tuple(sorted(examples, key=lambda example: (-example.gained, -example.uas)))


def _notes(gold: Words, matches: Sequence[Match], scorers: dict[str, ScorerReport], sentences: int) -> Iterable[str]:
    if not scorers["nltk"].excluded:
        yield (
            "No token was left out as punctuation: the treebank has none, or writes it in another script or tag; "
            "'nltk' then counts every word."
        )
    if scorers["nltk"].excluded == len(gold.forms):
        yield "Every token is punctuation, so 'nltk' has nothing to count and its scores are 0."
    if any(match.system.forms != gold.forms for match in matches):
        yield (
            "Some tokens are split into other words than in gold; words without a counterpart count as errors, and "
            "'nltk', which knows no such case, is extended by the same alignment and F1."
        )
    if sentences < FEW_SENTENCES:
        yield f"Only {sentences} sentences: intervals and p-values from so few are rough."
