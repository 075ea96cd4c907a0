"""Differences of runs, averaged over seeds, on resampled sentences."""

from __future__ import annotations

import numpy as np
import pytest

from parser_vae.evaluation.measures import Ratios
from parser_vae.evaluation.report import evaluate
from parser_vae.evaluation.seeds import ATTACHMENT, PairedRuns, attachment
from parser_vae.treebank.catalog import bundled
from parser_vae.treebank.conllu import read_treebank


def made(right: np.ndarray, words: np.ndarray) -> Ratios:
    numerator = np.repeat(2.0 * right[:, None], 4, axis=1)
    denominator = np.repeat(2.0 * words[:, None], 4, axis=1)
    return Ratios(ATTACHMENT, numerator, denominator, np.full(4, words.sum()))


def runs(gain: float, seeds: int = 3, sentences: int = 200) -> PairedRuns:
    rng = np.random.default_rng(0)
    words = rng.integers(5, 30, sentences)
    before = [made(rng.binomial(words, 0.6), words) for _ in range(seeds)]
    after = [made(rng.binomial(words, 0.6 + gain), words) for _ in range(seeds)]
    return PairedRuns(tuple(before), tuple(after))


def test_attachment_equals_the_report() -> None:
    files = bundled("tiny-target")
    assert files.test is not None
    gold = read_treebank(files.test).sentences[:30]
    chains = [sentence.with_tree(range(len(sentence))) for sentence in gold]
    report = evaluate(gold, chains, resamples=1)
    expected = [report.scorers[key.scorer].scores[key.measure].value for key in ATTACHMENT]
    assert attachment(gold, chains).percent().tolist() == pytest.approx(expected)


def test_the_interval_is_that_of_the_mean_over_seeds_and_narrower_than_of_one() -> None:
    paired = runs(0.05)
    rng = np.random.default_rng(1)
    samples = paired.resampled(2000, rng)
    # the same draws, seed by seed, by hand
    again = np.random.default_rng(1)
    count = len(paired.before[0].numerator)
    drawn = np.concatenate([again.integers(0, count, size=(250, count)) for _ in range(8)])
    by_hand = np.mean(
        [
            100 * after.numerator[drawn, 0].sum(1) / after.denominator[drawn, 0].sum(1)
            - 100 * before.numerator[drawn, 0].sum(1) / before.denominator[drawn, 0].sum(1)
            for before, after in zip(paired.before, paired.after, strict=True)
        ],
        axis=0,
    )
    np.testing.assert_allclose(samples[:, 0], by_hand)
    one = PairedRuns(paired.before[:1], paired.after[:1]).resampled(2000, np.random.default_rng(1))
    assert samples[:, 0].std() < 0.8 * one[:, 0].std()


def test_a_gain_is_clear_and_nothing_is_not() -> None:
    found = runs(0.05).changes(resamples=1000, level=0.95, rng=np.random.default_rng(2))[ATTACHMENT[0]]
    assert found.is_clear and found.interval is not None
    assert 3 < found.delta < 7
    assert found.p_value == pytest.approx(1 / 1001)
    same = runs(0.05)
    none = PairedRuns(same.before, same.before).changes(resamples=1000, level=0.95, rng=np.random.default_rng(2))
    assert none[ATTACHMENT[0]].p_value == 1
    assert not none[ATTACHMENT[0]].is_clear


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    values = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        words = rng.integers(5, 30, 60)
        paired = PairedRuns(
            tuple(made(rng.binomial(words, 0.6), words) for _ in range(2)),
            tuple(made(rng.binomial(words, 0.6), words) for _ in range(2)),
        )
        values.append(float(paired.p_value(200, rng)[0]))
    assert 0.35 < np.mean(values) < 0.65
    assert np.mean(np.array(values) < 0.1) < 0.25
