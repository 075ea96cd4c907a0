"""Tables of sweeps that are not finished."""

from __future__ import annotations

import numpy as np
import pytest

from parser_vae.evaluation.sweep_table import Run, build_table
from tests.evaluation.test_seeds import made


def test_the_mean_over_pairs_needs_no_equal_number_of_seeds() -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(5, 30, 100)
    runs = {
        (row, pair, seed): Run(made(rng.binomial(words, share), words), 1, 1.0, rng.integers(0, 9, words.sum()))
        for pair, seeds in (("a", (1, 2)), ("b", (1,)))
        for seed in seeds
        for row, share in (("source", 0.6), ("after", 0.7))
    }
    compared = {"source": [], "after": ["source"]}
    table = build_table("Title", ["source", "after"], ["a", "b"], [1, 2], runs, compared, {}, resamples=100)
    assert table.missing == ("b, source, 2", "b, after, 2")
    gain = next(iter(table.gains["after", "source"].values()))
    each = [next(iter(table.entries["after", pair].changes["source"].values())) for pair in ("a", "b")]
    assert gain.delta == pytest.approx(sum(change.delta for change in each) / 2)
    assert gain.before == pytest.approx(sum(change.before for change in each) / 2)
