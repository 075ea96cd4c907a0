"""Sentences: what they show of their text, and that a new tree changes two columns and nothing else."""

from __future__ import annotations

import dataclasses

import pytest

from parser_vae.treebank.conllu import parse_treebank
from parser_vae.treebank.sentence import EmptyNode, MultiwordToken, Sentence

TEXT = (
    "# newpar\n"
    "# sent_id = s-1\n"
    "# text = I don't, = but Ann.\n"
    "1\tI\tI\tPRON\tPRP\tCase=Nom|Number=Sing\t3\tnsubj\t3:nsubj\t_\n"
    "2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No\n"
    "2\tdo\tdo\tAUX\tVBP\t_\t0\troot\t0:root\t_\n"
    "3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t2:advmod|3.1:dep\tGloss=a=b|Lone\n"
    "3.1\tgo\tgo\tVERB\t_\t_\t_\t_\t0:root\t_\n"
    "4\tAnn\tAnn\tPROPN\t_\t_\t2\tparataxis\t_\t_\n"
    "\n"
)


def read(text: str) -> Sentence:
    (sentence,) = parse_treebank(text.encode(), "f").sentences
    return sentence


def test_columns_of_the_words() -> None:
    sentence = read(TEXT)
    assert len(sentence) == 4
    assert sentence.forms == ("I", "do", "n't", "Ann")
    assert sentence.upos == ("PRON", "AUX", "PART", "PROPN")
    assert sentence.heads == (3, 0, 2, 2)
    assert sentence.deprels == ("nsubj", "root", "advmod", "parataxis")
    assert (sentence.path, sentence.line) == ("f", 1)


def test_everything_else_is_there() -> None:
    sentence = read(TEXT)
    assert sentence.comments == ("# newpar", "# sent_id = s-1", "# text = I don't, = but Ann.")
    assert (sentence.sent_id, sentence.text) == ("s-1", "I don't, = but Ann.")
    assert sentence.multiword_tokens == (MultiwordToken(2, 3, "don't", "SpaceAfter=No"),)
    assert sentence.empty_nodes == (EmptyNode("3.1", ("3.1", "go", "go", "VERB", *"___", "_", "0:root", "_")),)
    word = sentence.words[2]
    assert (word.position, word.form, word.lemma, word.upos, word.xpos) == (3, "n't", "not", "PART", "RB")
    assert (word.head, word.deprel, word.misc) == (2, "advmod", "Gloss=a=b|Lone")
    assert sentence.words[0].features == {"Case": "Nom", "Number": "Sing"}
    assert sentence.words[1].features == {}
    assert word.misc_items == {"Gloss": "a=b", "Lone": None}
    assert word.enhanced == (("advmod", "2"), ("dep", "3.1"))
    assert sentence.words[3].enhanced == ()


def test_a_sentence_without_comments_has_no_id() -> None:
    sentence = Sentence.from_words(["a"])
    assert sentence.sent_id is None
    assert sentence.text is None


def test_a_malformed_deps_column_is_an_error_on_access_only() -> None:
    sentence = read("1\ta\t_\t_\t_\t_\t0\troot\tx:y:z||\t_\n\n")
    with pytest.raises(ValueError, match=r"DEPS is 'x:y:z\|\|', expected head:deprel pairs joined by '\|'"):
        _ = sentence.words[0].enhanced


def test_sentences_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read(TEXT).forms = ("x",)  # type: ignore[misc]


def test_with_tree_changes_columns_7_and_8_and_nothing_else() -> None:
    changed = read(TEXT).with_tree([2, 4, 1, 0], ["a", "b", "c", "root"])
    before = [line.split("\t") for line in TEXT.split("\n")]
    after = [line.split("\t") for line in changed.to_conllu().split("\n")]
    assert len(before) == len(after)
    differing = {
        (row_before[0], column)
        for row_before, row_after in zip(before, after, strict=True)
        for column, (old, new) in enumerate(zip(row_before, row_after, strict=True), start=1)
        if old != new
    }
    assert differing == {(word, column) for word in "1234" for column in (7, 8)}
    assert changed.heads == (2, 4, 1, 0)
    assert changed.deprels == ("a", "b", "c", "root")
    assert changed == read(changed.to_conllu())


def test_with_its_own_tree_a_sentence_stays_the_same() -> None:
    sentence = read(TEXT)
    assert sentence.with_tree(sentence.heads) == sentence
    assert sentence.with_tree(sentence.heads, sentence.deprels).deprels == sentence.deprels


def test_with_tree_keeps_deprels_unless_they_are_given() -> None:
    changed = read(TEXT).with_tree([2, 0, 2, 2])
    assert changed.deprels == ("nsubj", "root", "advmod", "parataxis")
    assert "1\tI\tI\tPRON\tPRP\tCase=Nom|Number=Sing\t2\tnsubj\t3:nsubj\t_\n" in changed.to_conllu()


def test_with_tree_removes_trees() -> None:
    changed = read(TEXT).with_tree([None] * 4, ["_"] * 4)
    assert changed.heads == (None,) * 4
    assert "\t_\t_\t3:nsubj\t_\n" in changed.to_conllu()


def test_misc_items_are_replaced_or_appended_and_deps_cleared() -> None:
    changed = read(TEXT).with_tree([3, 0, 2, 2], misc=["P=1", None, "Gloss=2", "P=3"], clear_deps=True)
    assert [word.misc for word in changed.words] == ["P=1", "_", "Gloss=2|Lone", "P=3"]
    assert [word.deps for word in changed.words] == ["_"] * 4
    assert changed.empty_nodes[0].columns[8] == "0:root"
    replaced = changed.with_tree(changed.heads, misc=["P=4", None, None, None])
    assert replaced.words[0].misc == "P=4"


def test_line_ends_survive_a_new_tree() -> None:
    crlf = TEXT.replace("\n", "\r\n")
    changed = read(crlf).with_tree([3, 0, 2, 2], misc=["P=1", None, None, None]).to_conllu()
    assert changed == TEXT.replace("3:nsubj\t_\n", "3:nsubj\tP=1\n").replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": [0]}, "heads has 1 entries, but the sentence has 4 words"),
        ({"heads": [0, 1, 1, 1], "deprels": ["x"]}, "deprels has 1 entries, but the sentence has 4 words"),
        ({"heads": [0, 1, 1, 1], "misc": [None]}, "misc has 1 entries, but the sentence has 4 words"),
        ({"heads": [0, 1, 5, 1]}, "head 5 is out of range: the sentence has 4 words"),
        ({"heads": [0, 1, -1, 1]}, "head -1 is out of range: the sentence has 4 words"),
        ({"heads": [0, 1, 1, 1], "deprels": ["x", "", "x", "x"]}, "'' does not fit in a column"),
        ({"heads": [0, 1, 1, 1], "misc": ["a\tb", None, None, None]}, r"'a\\tb' does not fit in a column"),
    ],
)
def test_with_tree_refuses_what_would_break_the_file(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(TEXT).with_tree(**arguments)  # type: ignore[arg-type]


def test_from_words_writes_ten_columns() -> None:
    sentence = Sentence.from_words(["a", "b c"], ["X", "Y"], [2, 0], ["dep", "root"], comments=["# text = a b c"])
    assert sentence.to_conllu() == (
        "# text = a b c\n1\ta\t_\tX\t_\t_\t2\tdep\t_\t_\n2\tb c\t_\tY\t_\t_\t0\troot\t_\t_\n\n"
    )
    assert sentence == read(sentence.to_conllu())
    assert Sentence.from_words(["a"]).to_conllu() == "1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n\n"
    assert Sentence.from_words(["a"]).heads == (None,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"forms": []}, "a sentence needs at least one word"),
        ({"forms": ["a\tb"]}, r"'a\\tb' does not fit in a column"),
        ({"forms": ["a"], "upos": ["X", "Y"]}, "upos has 2 entries for 1 words"),
        ({"forms": ["a"], "comments": ["text = a"]}, "a comment is one line that starts with '#'"),
    ],
)
def test_from_words_refuses_what_does_not_fit(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sentence.from_words(**arguments)  # type: ignore[arg-type]
