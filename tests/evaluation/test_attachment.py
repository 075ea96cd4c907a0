from __future__ import annotations

import os
from pathlib import Path

import pytest

from parser_vae.errors import InputError, TreebankError
from parser_vae.evaluation import evaluate
from parser_vae.evaluation.attachment import is_punctuation
from parser_vae.treebank.conllu import read_treebank
from parser_vae.treebank.sentence import Sentence
from tests.evaluation.material import english, official, perturbed, sentences_of, synthetic

DATA = os.environ.get("PARSER_VAE_DATA")


def scores(
    gold: tuple[Sentence, ...], predicted: tuple[Sentence, ...], scorer: str, **options: str
) -> dict[str, float]:
    report = evaluate(gold, predicted, resamples=2, **options)  # type: ignore[arg-type]
    return {name: measure.value for name, measure in report.scorers[scorer].scores.items()}


def test_perfect_trees_score_a_hundred_everywhere() -> None:
    report = evaluate(english(), english(), resamples=10)
    measures = [*report.trees.values()]
    for scorer in report.scorers.values():
        measures += [*scorer.scores.values(), *(m for groups in scorer.breakdowns.values() for m in groups.values())]
    assert {measure.value for measure in measures if measure.support} == {100.0}


@pytest.mark.parametrize("form", [",", "...", "«", "¿?", "，", "—", "%", "&", "@", "#", "*", "_"])
def test_punctuation_is_what_unicode_says(form: str) -> None:
    assert is_punctuation(form)


@pytest.mark.parametrize("form", ["$", "+", "=", "a.", "1", "°", "€", "n't"])
def test_symbols_and_words_are_no_punctuation(form: str) -> None:
    assert not is_punctuation(form)


def test_hand_counted_scores() -> None:
    """Of 11 words, 8 without punctuation: one head wrong (cats), one label wrong (It), one subtype missing."""
    first, second = english()
    predicted = (
        first.with_tree(
            [4, 4, 4, 0, 7, 4, 4, 4], ["nsubj", "aux", "advmod", "root", "punct", "nsubj", "conj", "punct"]
        ),
        second.with_tree([2, 0, 2], ["nsubj", "ROOT", "punct"]),
    )
    nltk = scores(english(), predicted, "nltk")
    assert nltk["uas"] == pytest.approx(100 * 7 / 8)
    assert nltk["las"] == pytest.approx(100 * 6 / 8)
    assert nltk["label"] == pytest.approx(100 * 6 / 8)  # 'nsubj' is not 'nsubj:outer'; 'ROOT' is 'root'
    assert nltk["exact"] == 50.0
    assert nltk["labelled_exact"] == 0.0
    conll = scores(english(), predicted, "conll18")
    assert conll["uas"] == pytest.approx(100 * 10 / 11)
    assert conll["las"] == pytest.approx(100 * 8 / 11)  # 'ROOT' is not 'root' here
    assert conll["label"] == pytest.approx(100 * 9 / 11)
    assert {name: conll[name] for name in ("uas", "las", "clas")} == pytest.approx(official(english(), predicted))


def test_labels_count_only_on_right_heads() -> None:
    predicted = tuple(s.with_tree([0, *range(1, len(s))]) for s in english())
    for scorer in ("nltk", "conll18"):
        values = scores(english(), predicted, scorer)
        assert values["las"] <= values["uas"] < 100
        assert values["label"] == 100.0


@pytest.mark.parametrize("seed", range(5))
def test_synthetic_treebanks_score_as_the_official_scorer_says(seed: int) -> None:
    gold = synthetic(60, seed)
    predicted = perturbed(gold, 0.4, seed)
    found = scores(gold, predicted, "conll18")
    assert {name: found[name] for name in ("uas", "las", "clas")} == pytest.approx(official(gold, predicted), abs=1e-9)


@pytest.mark.skipif(DATA is None, reason="PARSER_VAE_DATA is not set: no real treebanks")
@pytest.mark.parametrize("name", ["gl_treegal", "fr_sequoia", "it_twittiro", "ru_pud"])
def test_real_treebanks_score_as_the_official_scorer_says(name: str) -> None:
    assert DATA is not None
    paths = sorted((Path(DATA) / "treebanks" / name).glob("*.conllu"))
    gold = read_treebank(next(path for path in paths if path.stem == "test")).sentences[:300]
    predicted = perturbed(gold, 0.3, 7)
    found = scores(gold, predicted, "conll18")
    assert {name: found[name] for name in ("uas", "las", "clas")} == pytest.approx(official(gold, predicted), abs=1e-9)


def test_several_roots_are_refused_unless_trees_are_ignored() -> None:
    first, second = english()
    predicted = (first, second.with_tree([0, 0, 2]))
    with pytest.raises(
        TreebankError, match=r"sentence rain, word 2: HEAD is 0, but word 1 is the root already; .*ignore"
    ):
        evaluate(english(), predicted)
    report = evaluate(english(), predicted, trees="ignore", resamples=2)
    assert report.trees["valid"].value == 50.0
    assert report.trees["root"].value == 50.0
    assert report.scorers["nltk"].uas.value == pytest.approx(100 * 7 / 8)


def test_a_cycle_is_refused_and_missing_heads_count_as_errors_when_trees_are_ignored() -> None:
    first, second = english()
    with pytest.raises(TreebankError, match="cycle"):
        evaluate(english(), (first, second.with_tree([0, 3, 2])))
    with pytest.raises(TreebankError, match="no HEAD"):
        evaluate(english(), (first, second.with_tree([2, 0, None])))
    found = scores(english(), (first, second.with_tree([2, 0, None])), "conll18", trees="ignore")
    assert found["uas"] == pytest.approx(100 * 10 / 11)


def test_a_head_out_of_range_is_refused_or_wrong() -> None:
    text = "1\ta\t_\t_\t_\t_\t9\tdep\t_\t_\n2\tb\t_\t_\t_\t_\t0\troot\t_\t_\n\n"
    gold, predicted = sentences_of(text.replace("\t9\t", "\t2\t")), sentences_of(text, trees="ignore")
    with pytest.raises(TreebankError, match="HEAD is 9, but the sentence has 2 words"):
        evaluate(gold, predicted)
    assert scores(gold, predicted, "conll18", trees="ignore")["uas"] == 50.0


def test_gold_must_be_trees_even_when_predictions_need_not() -> None:
    first, second = english()
    with pytest.raises(TreebankError, match="word 2: HEAD is 0"):
        evaluate((first, second.with_tree([0, 0, 2])), english(), trees="ignore")


def test_other_characters_are_refused_with_both_places() -> None:
    other = sentences_of("1\tIt\t_\t_\t_\t_\t2\tdep\t_\t_\n2\tpours\t_\t_\t_\t_\t0\troot\t_\t_\n\n")
    with pytest.raises(InputError) as error:
        evaluate(english(), (english()[0], other[0]))
    message = str(error.value)
    assert "(sentence rain) reads 'Itrains!?' where" in message
    assert "reads 'Itpours'; score files that hold the same sentences in the same order" in message
    assert "\n" not in message


def test_missing_sentences_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"gold has 2 sentences, but there are 1 to be scored: .*\(sentence rain\) has no"
    ):
        evaluate(english(), english()[:1])
    with pytest.raises(InputError, match="gold has 1 sentences, but there are 2 to be scored"):
        evaluate(english()[:1], english())
    with pytest.raises(InputError, match="no gold sentences"):
        evaluate((), ())


def test_other_words_in_the_same_characters_are_scored_by_f1_and_noted() -> None:
    gold = sentences_of("1\tab\t_\t_\t_\t_\t2\tnsubj\t_\t_\n2\tc\t_\t_\t_\t_\t0\troot\t_\t_\n\n")
    predicted = sentences_of(
        "1\ta\t_\t_\t_\t_\t3\tnsubj\t_\t_\n2\tb\t_\t_\t_\t_\t1\tnsubj\t_\t_\n3\tc\t_\t_\t_\t_\t0\troot\t_\t_\n\n"
    )
    report = evaluate(gold, predicted, resamples=2)
    assert report.scorers["conll18"].uas.value == pytest.approx(official(gold, predicted)["uas"]) == 40.0
    assert any("split into other words" in note for note in report.notes)
