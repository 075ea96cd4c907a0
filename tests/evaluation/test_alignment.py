from __future__ import annotations

import random

import pytest

from parser_vae.evaluation import evaluate
from parser_vae.evaluation.alignment import UNALIGNED, align_words, characters
from parser_vae.treebank.sentence import Sentence
from tests.evaluation.material import english, official, random_tree, sentences_of


def segmented(tokens: list[list[str] | str]) -> Sentence:
    """A chain of words; a list is a multiword token: its form, then its words."""
    lines = []
    word = 1
    for token in tokens:
        if isinstance(token, list):
            lines.append(f"{word}-{word + len(token) - 2}\t{token[0]}" + "\t_" * 8)
        for form in token[1:] if isinstance(token, list) else [token]:
            lines.append(f"{word}\t{form}\t_\t_\t_\t_\t{word - 1}\t{'root' if word == 1 else 'dep'}\t_\t_")
            word += 1
    return sentences_of("\n".join(lines) + "\n\n")[0]


def test_the_same_words_are_aligned_one_to_one() -> None:
    sentence = english()[0]
    assert align_words([sentence], [sentence]) == list(range(8))


def test_characters_are_those_of_tokens_without_spaces() -> None:
    assert characters(english()[0]) == "Dogsdon'tbark,catsdo."
    assert characters(segmented(["1\u00a0000", "\u3000a b"])) == "1000ab"


@pytest.mark.parametrize(
    ("gold", "system", "expected"),
    [
        (["ab", "c"], ["a", "b", "c"], [UNALIGNED, 2]),
        (["a", "b", "c"], ["ab", "c"], [UNALIGNED, UNALIGNED, 1]),
        ([["du", "de", "le"], "chat"], ["du", "chat"], [UNALIGNED, UNALIGNED, 1]),
        ([["du", "de", "le"]], [["du", "le"]], [UNALIGNED, 0]),
        ([["du", "De", "Le"]], [["du", "de", "le"]], [0, 1]),
        ([["abc", "a", "bc"], "d"], ["a", ["bcd", "bc", "d"]], [0, 1, 2]),
        (["x", ["abc", "a", "bc"]], ["xa", "bc"], [UNALIGNED, UNALIGNED, 1]),
        ([["dámelo", "da", "me", "lo"]], [["dámelo", "da", "lo", "me"]], [0, UNALIGNED, 1]),
    ],
)
def test_words_in_other_segmentations(gold: list[str], system: list[str], expected: list[int]) -> None:
    assert align_words([segmented(gold)], [segmented(system)]) == expected


def test_any_two_segmentations_of_a_text_score_as_the_official_scorer_says() -> None:
    rng = random.Random(1)
    for _ in range(150):
        texts = ["".join(rng.choice("abAé") for _ in range(rng.randint(1, 10))) for _ in range(rng.randint(1, 6))]
        gold = [_random_segmentation(text, rng) for text in texts]
        system = [_random_segmentation(text, rng) for text in texts]
        aligned = [partner for partner in align_words(gold, system) if partner != UNALIGNED]
        assert len(set(aligned)) == len(aligned)
        scores = evaluate(gold, system, resamples=1).scorers["conll18"].scores
        assert {name: scores[name].value for name in ("uas", "las", "clas")} == pytest.approx(official(gold, system))


def _random_segmentation(text: str, rng: random.Random) -> Sentence:
    tokens: list[list[str]] = []
    while text:
        width = rng.randint(1, 4)
        tokens.append([text[:width]])
        text = text[width:]
        if rng.random() < 0.5:
            tokens[-1] += [rng.choice("abA") * rng.randint(1, 2) for _ in range(rng.randint(1, 3))]
    rows, word = [], 1
    count = sum(max(1, len(token) - 1) for token in tokens)
    heads = random_tree(count, rng)
    for token in tokens:
        if len(token) > 1:
            rows.append(f"{word}-{word + len(token) - 2}\t{token[0]}" + "\t_" * 8)
        for form in token[1:] or token:
            rows.append(f"{word}\t{form}\t_\t_\t_\t_\t{heads[word - 1]}\tdep\t_\t_")
            word += 1
    return sentences_of("\n".join(rows) + "\n\n")[0]
