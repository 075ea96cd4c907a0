"""How sure a score is, and a difference of two: resampling whole sentences.

Intervals come from the percentile bootstrap (Efron and Tibshirani 1993, chapter 13): sentences are drawn with
replacement, everything is scored again on the draw. For a difference both systems are scored on the same draws.
P-values come from approximate randomisation (Noreen 1989; Yeh 2000): if the two systems were alike, swapping their
outputs on a random half of the sentences would change nothing, so the p-value is the share of swaps with a difference
at least as large, two-sided. Words of a sentence stand or fall together, hence sentences are the unit of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parser_vae.evaluation.measures import Counts, Ratios, percent

_CHUNK = 250  # resamples at a time, which bounds memory at 2 kB a sentence and decides nothing else


@dataclass(frozen=True)
class Interval:
    """Lower and upper ends ``[measure]``, in percent or points; NaN where a measure rests on nothing."""

    low: Counts
    high: Counts


def bootstrap(
    systems: list[Ratios], *, resamples: int, level: float, rng: np.random.Generator
) -> tuple[list[Interval], Interval | None]:
    """Return the interval of each system's measures, and of second minus first where there are two systems.

    Args:
        systems: One or two systems on the same sentences with the same measures.
        resamples: How many times the sentences are drawn.
        level: The coverage, e.g. 0.95.
        rng: Decides the draws.
    """
    sentences = len(systems[0].numerator)
    values: list[list[Counts]] = [[] for _ in systems]
    for weights in draws(sentences, resamples, rng):
        for system, column in zip(systems, values, strict=True):
            column.append(percent(weights @ system.numerator, weights @ system.denominator, empty=np.nan))
    samples = [np.concatenate(column) for column in values]
    difference = _interval(samples[1] - samples[0], level) if len(samples) == 2 else None
    return [_interval(sample, level) for sample in samples], difference


def randomisation(
    before: Sequence[Ratios], after: Sequence[Ratios], *, resamples: int, rng: np.random.Generator
) -> Counts:
    """Return the two-sided p-value ``[measure]`` of the hypothesis that two systems, each run once or more, are alike.

    Scores are averaged over runs. A swap takes a sentence's outputs of all runs at once, since they stand or fall
    together. The observed outcome counts as one of the swaps (Davison and Hinkley 1997, equation 4.11), so no p-value
    is 0.
    """
    both = list(zip(before, after, strict=True))
    observed = np.abs(np.mean([second.percent() - first.percent() for first, second in both], axis=0))
    numerators = columns(first.numerator - second.numerator for first, second in both)
    denominators = columns(first.denominator - second.denominator for first, second in both)
    totals = [np.concatenate([ratios.numerator.sum(0) for ratios in runs]) for runs in (before, after)]
    lengths = [np.concatenate([ratios.denominator.sum(0) for ratios in runs]) for runs in (before, after)]
    as_large: NDArray[np.float64] = np.zeros(len(observed))
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        swapped = rng.integers(0, 2, size=(count, len(numerators)), dtype=np.uint8).astype(np.float64)
        moved, moved_length = swapped @ numerators, swapped @ denominators
        ours = percent(totals[0] - moved, lengths[0] - moved_length, empty=0.0)
        theirs = percent(totals[1] + moved, lengths[1] + moved_length, empty=0.0)
        differences = (theirs - ours).reshape(count, len(both), -1).mean(1)
        # swaps that equal the observed outcome must count as such, whatever the last digit of the division says
        as_large += (np.abs(differences) >= observed - 1e-9).sum(0)
    return (1 + as_large) / (1 + resamples)


def columns(counts: Iterable[Counts]) -> Counts:
    """Return counts ``[sentence, measure]`` of several runs side by side, so that one product weighs them all."""
    return np.concatenate(list(counts), axis=1)


def draws(sentences: int, resamples: int, rng: np.random.Generator) -> Iterator[Counts]:
    """Yield how often each sentence is drawn, ``[resample, sentence]``, a chunk of resamples at a time."""
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        drawn = rng.integers(0, sentences, size=(count, sentences)) + sentences * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * sentences).reshape(count, sentences).astype(np.float64)


def _interval(samples: NDArray[np.float64], level: float) -> Interval:
    tail = (1 - level) / 2
    ends = np.full((2, samples.shape[1]), np.nan)
    complete = ~np.isnan(samples).any(axis=0)
    ends[:, complete] = np.quantile(samples[:, complete], [tail, 1 - tail], axis=0)
    # a small group may be missing from some draws altogether: its interval rests on the draws that have it
    for column in np.flatnonzero(~complete):
        present = samples[~np.isnan(samples[:, column]), column]
        if len(present):
            ends[:, column] = np.quantile(present, [tail, 1 - tail])
    return Interval(ends[0], ends[1])
