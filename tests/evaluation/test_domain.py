from __future__ import annotations

import random

import pytest

from parser_vae.errors import InputError
from parser_vae.evaluation.domain import domain_divergence

COMMON = ("the", "a", "of", "in", "is", "was", "and", ",", ".")


def sentences(count: int, seed: int, own: tuple[str, ...] = ()) -> list[list[str]]:
    rng = random.Random(seed)
    return [[rng.choice(COMMON + own) for _ in range(12)] for _ in range(count)]


def test_two_samples_of_one_domain_cannot_be_told_apart() -> None:
    found = domain_divergence(sentences(150, 1), sentences(200, 2))
    assert found.accuracy == pytest.approx(50, abs=12)
    assert found.proxy_a_distance < 0.5
    assert found.source_words == found.target_words == ()


def test_different_domains_are_told_apart_by_their_words() -> None:
    source, target = sentences(120, 1, ("flight", "Boston")), sentences(90, 2, ("tweet", "犬"))
    found = domain_divergence(source, target)
    assert found.accuracy > 90
    assert found.proxy_a_distance > 1.6
    assert set(found.source_words[:2]) == {"flight", "boston"}
    assert set(found.target_words[:2]) == {"tweet", "犬"}
    assert domain_divergence(source, target) == found


def test_sides_swap_symmetrically() -> None:
    one, other = sentences(60, 1, ("flight",)), sentences(60, 2, ("tweet",))
    found, swapped = domain_divergence(one, other), domain_divergence(other, one)
    assert found.source_words == swapped.target_words
    assert found.accuracy == pytest.approx(swapped.accuracy, abs=8)


def test_too_few_sentences_are_refused() -> None:
    with pytest.raises(InputError, match="2 source and 9 target sentences; comparing domains needs at least 5"):
        domain_divergence(sentences(2, 1), sentences(9, 2))


def test_sentences_without_a_frequent_word_have_no_telling_words() -> None:
    found = domain_divergence([[c] for c in "abcde"], [[c] for c in "fghij"])
    assert found.source_words == found.target_words == ()
