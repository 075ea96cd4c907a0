"""Several training runs of one system against several of another: scores averaged over seeds, sentences resampled.

A draw of sentences is scored for every seed of both systems and the differences are averaged over seeds, so the
interval tells how much the mean difference of these very runs owes to the test sentences. How much it owes to the
seeds is told by their spread, which stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parser_vae.evaluation.attachment import SCORERS, Words, match_words
from parser_vae.evaluation.measures import Counts, Key, Ratios, joined, percent, scorer_measures
from parser_vae.evaluation.report import Change
from parser_vae.evaluation.significance import draws
from parser_vae.treebank.sentence import Sentence

ATTACHMENT = tuple(Key(scorer.name, measure) for scorer in SCORERS for measure in ("uas", "las"))
_CHUNK = 250  # swaps at a time; decides nothing but memory


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
        chunks = []
        for weights in draws(len(self.before[0].numerator), resamples, rng):
            per_seed = [
                _on(weights, after) - _on(weights, before)
                for before, after in zip(self.before, self.after, strict=True)
            ]
            chunks.append(np.mean(per_seed, axis=0))
        return np.concatenate(chunks)

    def p_value(self, resamples: int, rng: np.random.Generator) -> Counts:
        """Return the two-sided p-value ``[measure]`` of approximate randomisation; a swap takes a sentence's outputs
        of all seeds at once, since they stand or fall together.
        """
        observed = np.abs(self.delta())
        as_large: NDArray[np.float64] = np.zeros(len(observed))
        for start in range(0, resamples, _CHUNK):
            count = min(_CHUNK, resamples - start)
            sentences = len(self.before[0].numerator)
            swapped = rng.integers(0, 2, size=(count, sentences), dtype=np.uint8).astype(np.float64)
            differences = []
            for before, after in zip(self.before, self.after, strict=True):
                theirs = _on(swapped, before, instead_of=after)
                ours = _on(swapped, after, instead_of=before)
                differences.append(theirs - ours)
            as_large += (np.abs(np.mean(differences, axis=0)) >= observed - 1e-9).sum(0)
        return (1 + as_large) / (1 + resamples)

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


def _on(weights: Counts, ratios: Ratios, instead_of: Ratios | None = None) -> Counts:
    """Return the measures ``[draw, measure]`` on weighted sentences; where the weight is 0, those of ``instead_of``."""
    numerator, denominator = weights @ ratios.numerator, weights @ ratios.denominator
    if instead_of is not None:
        numerator = numerator + (1 - weights) @ instead_of.numerator
        denominator = denominator + (1 - weights) @ instead_of.denominator
    return percent(numerator, denominator, empty=0.0)
