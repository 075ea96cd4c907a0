"""Trees: compared with plain definitions on every head vector of up to five words."""

from __future__ import annotations

import itertools

import networkx
import pytest

from parser_vae.treebank.checks import crossing_arcs, is_projective, is_tree, tree_problem, tree_problems

EVERY = [heads for n in range(1, 6) for heads in itertools.product(range(n + 1), repeat=n)]


def is_tree_by_definition(heads: tuple[int, ...]) -> bool:
    graph = networkx.DiGraph((head, dependent) for dependent, head in enumerate(heads, start=1))
    return heads.count(0) == 1 and networkx.is_arborescence(graph)


def descends(word: int, ancestor: int, heads: tuple[int, ...]) -> bool:
    while word and word != ancestor:
        word = heads[word - 1]
    return word == ancestor


def test_every_head_vector() -> None:
    trees = [heads for heads in EVERY if is_tree(heads)]
    assert trees == [heads for heads in EVERY if is_tree_by_definition(heads)]
    assert len(trees) == sum(n ** (n - 1) for n in range(1, 6))  # Cayley, one dependent of the root
    assert all((tree_problem(heads) is None) == (heads in set(trees)) for heads in EVERY[:2000])


def test_crossing_arcs_are_those_over_a_word_that_does_not_descend_from_the_head() -> None:
    projective = 0
    for heads in filter(is_tree, EVERY):
        expected = tuple(
            dependent
            for dependent, head in enumerate(heads, start=1)
            if not all(descends(word, head, heads) for word in range(min(head, dependent) + 1, max(head, dependent)))
        )
        assert crossing_arcs(heads) == expected
        assert is_projective(heads) == (not expected)
        projective += not expected
    assert projective == 1 + 2 + 7 + 30 + 143  # single-rooted projective trees of 1 to 5 words


def test_a_long_chain_needs_no_recursion() -> None:
    heads = list(range(20_000))
    assert is_tree(heads)
    assert is_projective(heads)


@pytest.mark.parametrize(
    ("heads", "problems"),
    [
        ([0], []),
        ([None, 0], [(1, "the word has no HEAD", "give each word a head; 0 marks the root")]),
        ([0, 3], [(2, "HEAD is 3, but the sentence has 2 words", "give it a head from 0 to 2")]),
        ([2], [(1, "HEAD is 2, but the sentence has 1 word", "give it a head from 0 to 1")]),
        ([0, -1], [(2, "HEAD is -1, but the sentence has 2 words", "give it a head from 0 to 2")]),
        (
            [0, 0],
            [
                (
                    2,
                    "HEAD is 0, but word 1 is the root already",
                    "attach one of the two to the other, or split the sentence",
                )
            ],
        ),
        ([0, 2], [(2, "the word is its own head (2 -> 2)", "give one of these words a head outside the cycle")]),
        (
            [0, 4, 2, 3],
            [(2, "the heads form a cycle (2 -> 4 -> 3 -> 2)", "give one of these words a head outside the cycle")],
        ),
        (
            [2, 1],
            [
                (0, "no word has HEAD 0", "give the root of the sentence HEAD 0"),
                (1, "the heads form a cycle (1 -> 2 -> 1)", "give one of these words a head outside the cycle"),
            ],
        ),
    ],
)
def test_problems(heads: list[int | None], problems: list[tuple[int, str, str]]) -> None:
    assert [tuple(problem) for problem in tree_problems(heads)] == problems
    assert tree_problem(heads) == (problems[0] if problems else None)


def test_a_long_cycle_is_shortened() -> None:
    heads = [*range(2, 100), 1, 0]
    assert tree_problems(heads)[0].what == "the heads form a cycle (1 -> 2 -> 3 -> 4 -> 5 -> 6 -> ... -> 1)"
