from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from parser_vae.evaluation.measures import Key, Ratios, percent
from parser_vae.evaluation.significance import bootstrap, randomisation

SENTENCES = 80


def counts(seed: int, accuracy: float) -> Ratios:
    """Words of sentences right with some probability, and a measure that most sentences do not have."""
    rng = np.random.default_rng(seed)
    lengths = np.random.default_rng(99).integers(1, 40, SENTENCES)
    rare = (np.arange(SENTENCES) == 3).astype(float)
    right = rng.binomial(lengths, accuracy)
    return Ratios(
        (Key("nltk", "uas"), Key("nltk", "relations", "rare")),
        np.stack([right, rare * (seed % 2)], axis=1).astype(float),
        np.stack([lengths, rare], axis=1).astype(float),
        np.array([lengths.sum(), 1]),
    )


def statistic(right: np.ndarray, total: np.ndarray, axis: int = -1) -> np.ndarray:
    return 100 * right.sum(axis) / total.sum(axis)


def test_interval_agrees_with_scipy() -> None:
    system = counts(1, 0.7)
    (found,), difference = bootstrap([system], resamples=20_000, level=0.95, rng=np.random.default_rng(0))
    expected = stats.bootstrap(
        (system.numerator[:, 0], system.denominator[:, 0]),
        statistic,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert difference is None
    width = expected.high - expected.low
    assert found.low[0] == pytest.approx(expected.low, abs=0.04 * width)
    assert found.high[0] == pytest.approx(expected.high, abs=0.04 * width)


def test_paired_interval_agrees_with_scipy_and_is_narrower_than_an_unpaired_one() -> None:
    before, after = counts(1, 0.6), counts(2, 0.66)
    intervals, found = bootstrap([before, after], resamples=20_000, level=0.9, rng=np.random.default_rng(0))
    expected = stats.bootstrap(
        (before.numerator[:, 0], after.numerator[:, 0], before.denominator[:, 0]),
        lambda a, b, total, axis: statistic(b, total, axis) - statistic(a, total, axis),
        paired=True,
        vectorized=True,
        confidence_level=0.9,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found is not None
    width = expected.high - expected.low
    assert found.low[0] == pytest.approx(expected.low, abs=0.04 * width)
    assert found.high[0] == pytest.approx(expected.high, abs=0.04 * width)
    assert width < sum(each.high[0] - each.low[0] for each in intervals)


@pytest.mark.parametrize("gain", [0.0, 0.02, 0.04])
def test_p_value_agrees_with_scipy(gain: float) -> None:
    before, after = counts(3, 0.6), counts(4, 0.6 + gain)
    found = randomisation([before], [after], resamples=20_000, rng=np.random.default_rng(0))[0]
    total = before.denominator[:, 0].sum()
    expected = stats.permutation_test(
        (before.numerator[:, 0], after.numerator[:, 0]),
        lambda a, b, axis: (b.sum(axis) - a.sum(axis)) / total,
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).pvalue
    assert found == pytest.approx(expected, abs=0.015)


def test_p_value_matches_all_swaps_of_few_sentences() -> None:
    ones = np.ones((5, 1))
    before = Ratios((Key("nltk", "uas"),), 0 * ones, 4 * ones, np.array([20]))
    after = Ratios((Key("nltk", "uas"),), ones, 4 * ones, np.array([20]))
    found = randomisation([before], [after], resamples=40_000, rng=np.random.default_rng(0))
    assert found[0] == pytest.approx(2 / 32, abs=0.005)  # all or none swapped
    assert randomisation([after], [after], resamples=100, rng=np.random.default_rng(0))[0] == 1.0


def test_p_values_of_equal_systems_are_spread_evenly() -> None:
    """A test at 10% must call about 10% of true null hypotheses different, not more."""
    p_values = [
        randomisation([counts(2 * i, 0.7)], [counts(2 * i + 1, 0.7)], resamples=300, rng=np.random.default_rng(i))[0]
        for i in range(200)
    ]
    assert np.mean(np.array(p_values) < 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.07)


def test_intervals_cover_the_truth() -> None:
    covered = 0
    for seed in range(200):
        (found,), _ = bootstrap([counts(seed, 0.7)], resamples=300, level=0.9, rng=np.random.default_rng(seed))
        covered += bool(found.low[0] <= 70 <= found.high[0])
    assert covered / 200 == pytest.approx(0.9, abs=0.07)


def test_the_same_seed_gives_the_same_numbers_and_the_rare_group_has_an_interval() -> None:
    systems = [counts(1, 0.6), counts(2, 0.7)]
    runs = [bootstrap(systems, resamples=700, level=0.95, rng=np.random.default_rng(5)) for _ in range(2)]
    for first, second in zip(runs[0][0], runs[1][0], strict=True):
        assert (first.low == second.low).all()
        assert (first.high == second.high).all()
    assert (runs[0][0][0].low[1], runs[0][0][0].high[1]) == (100.0, 100.0)
    nothing = Ratios(systems[0].keys, systems[0].numerator, 0 * systems[0].denominator, np.array([0, 0]))
    (empty,), _ = bootstrap([nothing], resamples=10, level=0.95, rng=np.random.default_rng(5))
    assert np.isnan(empty.low).all()
    assert percent(np.zeros(1), np.zeros(1), empty=0.0)[0] == 0.0
