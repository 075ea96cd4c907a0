from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from parser_vae.evaluation.render import Mark, marks, tree_svg, tree_text
from parser_vae.treebank.sentence import Sentence
from tests.evaluation.material import english, perturbed, synthetic

SVG = "{http://www.w3.org/2000/svg}"


def middles(svg: str, kind: str) -> dict[str, float]:
    """The text of each element of a class and where it stands from left to right."""
    return {
        e.text or "": float(e.attrib["x"])
        for e in ElementTree.fromstring(svg).iter(f"{SVG}text")
        if e.get("class") == kind
    }


def test_marks_tell_heads_labels_and_what_changed() -> None:
    gold = english()[1]
    before = gold.with_tree([0, 1, 1], ["root", "dep", "punct"])
    after = gold.with_tree([2, 0, 1], ["expl:pv", "dep", "punct"])
    assert marks(gold, gold) == [Mark.RIGHT] * 3
    assert marks(gold, before) == [Mark.WRONG, Mark.WRONG, Mark.WRONG]
    assert marks(gold, after) == [Mark.RIGHT, Mark.LABEL, Mark.WRONG]
    assert marks(gold, after, before) == [Mark.FIXED, Mark.FIXED, Mark.WRONG]
    assert marks(gold, before, after) == [Mark.BROKEN, Mark.BROKEN, Mark.WRONG]


DRAWING = """\
  ┌──────► Dogs NOUN  nsubj
  │ ┌────► do   AUX   aux
  │ │ ┌──► n't  PART  advmod
┌─┼─┴─┴──● bark VERB  root
│ │ ┌────► ,    PUNCT punct
│ │ │ ┌──► cats NOUN  nsubj:outer
│ └─┴─┴──► do   VERB  conj
└────────► .    PUNCT punct
"""


def test_text_drawing_of_a_tree() -> None:
    assert tree_text(english()[0]) == DRAWING
    assert tree_text(Sentence.from_words(["only"], heads=[0], deprels=["root"])) == " ● only _ root\n"


def test_text_drawing_marks_errors_and_pads_wide_characters() -> None:
    sentence = Sentence.from_words(["犬", "が", "bark"], ["NOUN", "ADP", "VERB"], [3, 1, 0], ["nsubj", "case", "root"])
    lines = tree_text(sentence, [Mark.WRONG, Mark.FIXED, Mark.LABEL]).splitlines()
    assert [line.split()[-2:] for line in lines] == [["nsubj", "✗"], ["case", "✓"], ["root", "≠"]]
    assert lines[0].index("NOUN") == lines[2].index("VERB") - 1  # 犬 takes two cells


def test_every_arc_of_any_tree_is_drawn_once_in_well_formed_svg() -> None:
    for sentence in perturbed(synthetic(40, 5), 0.5, 1):
        root = ElementTree.fromstring(tree_svg(sentence))
        lines = [e for e in root.iter(f"{SVG}path") if e.get("class") != "tip"]
        assert len(lines) == len(sentence)
        labels = [e.text for e in root.iter(f"{SVG}text") if e.get("class") == "rel"]
        assert sorted(str(label) for label in labels) == sorted(sentence.deprels)
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        xs = [float(x) for line in lines for x in re.findall(r"[MH](-?[\d.]+)", line.attrib["d"])]
        ys = [float(y) for line in lines for y in re.findall(r"V(-?[\d.]+)", line.attrib["d"])]
        assert 0 <= min(xs) <= max(xs) <= width
        assert 0 <= min(ys) <= max(ys) <= height


def test_arcs_over_the_same_words_have_different_heights() -> None:
    """Whether nested (2 -> 3 in 1 -> 3) or crossing (1 -> 3 and 2 -> 4)."""
    sentence = Sentence.from_words(list("abcd"), heads=[0, 3, 1, 2], deprels=["root", "x", "y", "z"])
    root = ElementTree.fromstring(tree_svg(sentence))
    tops = [line.attrib["d"].split("Q")[1].split()[1] for line in root.iter(f"{SVG}path") if "Q" in line.attrib["d"]]
    assert len(set(tops)) == 3


def test_wrong_arcs_differ_by_class_and_dashes() -> None:
    gold = english()[1]
    svg = tree_svg(gold.with_tree([0, 1, 1]), marks(gold, gold.with_tree([0, 1, 1])))
    assert svg.count('<g class="wrong"><path') == 3
    assert re.search(r"\.tree \.wrong path.*stroke-dasharray: 5 3", svg)


def test_words_that_look_like_markup_are_escaped() -> None:
    sentence = Sentence.from_words(
        ["<script>", "&amp;", '"', "\x07"], ["<b>"] * 4, [0, 1, 1, 1], ["a<b", "x", "y", "&"]
    )
    svg = tree_svg(sentence, title="<i>")
    assert "<script" not in svg
    assert set(middles(svg, "form")) == {"<script>", "&amp;", '"', "\ufffd"}
    assert set(middles(svg, "rel")) == {"a<b", "x", "y", "&"}


def test_right_to_left_sentences_run_from_the_right() -> None:
    arabic = Sentence.from_words(["كتب", "الولد", "رسالة"], heads=[0, 1, 1], deprels=["root", "nsubj", "obj"])
    places = list(middles(tree_svg(arabic), "form").values())
    assert places == sorted(places, reverse=True)
    assert tree_svg(arabic).count('style="direction:rtl"') == 3
    places = list(middles(tree_svg(english()[1]), "form").values())
    assert places == sorted(places)


def test_words_without_a_head_are_drawn_without_an_arc() -> None:
    root = ElementTree.fromstring(tree_svg(Sentence.from_words(["a", "b"])))
    assert not list(root.iter(f"{SVG}path"))
    assert "a _" in tree_text(Sentence.from_words(["a", "b"]))


def test_trees_drawn_together_share_their_columns() -> None:
    gold = english()[0]
    other = gold.with_tree(gold.heads, ["a-very-long-relation-name"] * 8)
    assert middles(tree_svg(gold), "form") != middles(tree_svg(other), "form")
    assert middles(tree_svg(gold, alongside=[gold, other]), "form") == middles(
        tree_svg(other, alongside=[gold, other]), "form"
    )
