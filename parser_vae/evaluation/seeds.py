"""Several training runs of one system against several of another: scores averaged over seeds, sentences resampled.

A draw of sentences is scored for every seed of both systems and the differences are averaged over seeds, so the
interval tells how much the mean difference of these very runs owes to the test sentences. How much it owes to the
seeds is told by their spread, which stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parser_vae.evaluation.attachment import SCORERS, Words, match_words
from parser_vae.evaluation.measures import Counts, Key, Ratios, joined, percent, scorer_measures
from parser_vae.evaluation.report import Change
from parser_vae.evaluation.significance import columns, draws, randomisation
from parser_vae.treebank.sentence import Sentence

ATTACHMENT = tuple(Key(scorer.name, measure) for scorer in SCORERS for measure in ("uas", "las"))


def attachment(gold: Sequence[Sentence], predicted: Sequence[Sentence]) -> Ratios:
    """Return UAS and LAS by both conventions, sentence by sentence; the columns are ``ATTACHMENT``.

    Raises:
        InputError: The two do not hold the same sentences.
    """
    words, match = Words.of(gold), match_words(gold, predicted)
    every = joined([scorer_measures(words, match, scorer, ()) for scorer in SCORERS])
    columns = [every.keys.index(key) for key in ATTACHMENT]
    return Ratios(ATTACHMENT, every.numerator[:, columns], every.denominator[:, columns], every.support[columns])


@dataclass(frozen=True)
class PairedRuns:
    """The same seeds of two systems on the same sentences.

    Attributes:
        before, after: One entry per seed, in the same order.
    """

    before: tuple[Ratios, ...]
    after: tuple[Ratios, ...]

    def delta(self) -> Counts:
        """Return the difference of each measure in points, averaged over seeds ``[measure]``."""
        return np.mean([a.percent() - b.percent() for a, b in zip(self.after, self.before, strict=True)], axis=0)

    def resampled(self, resamples: int, rng: np.random.Generator) -> Counts:
        """Return ``delta`` on each of ``resamples`` draws of the sentences ``[resample, measure]``."""
        runs = [*self.before, *self.after]
        numerators, denominators = columns(r.numerator for r in runs), columns(r.denominator for r in runs)
        chunks = []
        for weights in draws(len(numerators), resamples, rng):
            values = percent(weights @ numerators, weights @ denominators, empty=0.0)
            before, after = np.split(values.reshape(len(weights), len(runs), -1), 2, axis=1)
            chunks.append((after - before).mean(1))
        return np.concatenate(chunks)

    def p_value(self, resamples: int, rng: np.random.Generator) -> Counts:
        """Return the two-sided p-value ``[measure]`` of approximate randomisation."""
        return randomisation(self.before, self.after, resamples=resamples, rng=rng)

    def changes(self, *, resamples: int, level: float, rng: np.random.Generator) -> dict[Key, Change]:
        """Return the change of each measure, with its interval and p-value."""
        return described(self, self.resampled(resamples, rng), self.p_value(resamples, rng), level)


def described(runs: PairedRuns, samples: Counts, p_values: Counts, level: float) -> dict[Key, Change]:
    """Return the change of each measure from resampled differences ``[resample, measure]`` and p-values."""
    before = np.mean([ratios.percent() for ratios in runs.before], axis=0)
    delta = runs.delta()
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {
        key: Change(
            before=float(before[i]),
            delta=float(delta[i]),
            interval=(float(low[i]), float(high[i])),
            p_value=float(p_values[i]),
            is_clear=bool((low[i] > 0 or high[i] < 0) and p_values[i] <= 1 - level),
        )
        for i, key in enumerate(runs.before[0].keys)
    }
