"""What makes head positions a dependency tree: one root, heads in range, no cycle; and which arcs cross others.

``heads`` is the head position of each word, word 1 first; 0 stands for the artificial root, None for a missing head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class TreeProblem(NamedTuple):
    """A reason why heads are no tree: the word concerned (0: the sentence as a whole), what is wrong, what to do."""

    position: int
    what: str
    remedy: str


def is_tree(heads: Sequence[int | None]) -> bool:
    """Return whether the heads form a tree with one root; linear in the number of words."""
    count = len(heads)
    if heads.count(0) != 1:
        return False
    seen = [0] * (count + 1)
    seen[0] = count + 1
    for start in range(1, count + 1):
        node = start
        while not seen[node]:
            seen[node] = start
            head = heads[node - 1]
            if head is None or not 0 <= head <= count:
                return False
            node = head
        if seen[node] == start:
            return False
    return True


def tree_problem(heads: Sequence[int | None]) -> TreeProblem | None:
    """Return the first reason why the heads are no tree with one root, or None if they are one."""
    return None if is_tree(heads) else tree_problems(heads)[0]


def tree_problems(heads: Sequence[int | None]) -> list[TreeProblem]:
    """Return every reason why the heads are no tree with one root; cycles only if all heads are in range."""
    count = len(heads)
    words = f"{count} word{'s' if count != 1 else ''}"
    problems = []
    for position, head in enumerate(heads, start=1):
        if head is None:
            problems.append(TreeProblem(position, "the word has no HEAD", "give each word a head; 0 marks the root"))
        elif not 0 <= head <= count:
            what = f"HEAD is {head}, but the sentence has {words}"
            problems.append(TreeProblem(position, what, f"give it a head from 0 to {count}"))
    if problems:
        return problems
    roots = [position for position, head in enumerate(heads, start=1) if head == 0]
    if not roots:
        problems.append(TreeProblem(0, "no word has HEAD 0", "give the root of the sentence HEAD 0"))
    for position in roots[1:]:
        what = f"HEAD is 0, but word {roots[0]} is the root already"
        problems.append(TreeProblem(position, what, "attach one of the two to the other, or split the sentence"))
    for cycle in _cycles(heads):
        path = _path(cycle)
        what = f"the heads form a cycle ({path})" if len(cycle) > 1 else f"the word is its own head ({path})"
        problems.append(TreeProblem(cycle[0], what, "give one of these words a head outside the cycle"))
    return problems


def crossing_arcs(heads: Sequence[int]) -> tuple[int, ...]:
    """Return the words whose arc is non-projective: some word between it and its head does not descend from that head.

    ``heads`` must be a tree (:func:`is_tree`).
    """
    enter, leave = _visits(heads)
    crossing = []
    for dependent, head in enumerate(heads, start=1):
        between = range(min(head, dependent) + 1, max(head, dependent))
        if any(not enter[head] <= enter[word] < leave[head] for word in between):
            crossing.append(dependent)
    return tuple(crossing)


def is_projective(heads: Sequence[int]) -> bool:
    """Return whether no arc of the tree is non-projective (:func:`crossing_arcs`)."""
    return not crossing_arcs(heads)


def _visits(heads: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return for each node, root included, when a depth-first walk enters it and when it has left its last descendant.

    Node ``b`` descends from ``a``, or is ``a``, exactly if ``enter[a] <= enter[b] < leave[a]``.
    """
    dependents: list[list[int]] = [[] for _ in range(len(heads) + 1)]
    for dependent, head in enumerate(heads, start=1):
        dependents[head].append(dependent)
    enter, leave = [0] * len(dependents), [0] * len(dependents)
    clock = 0
    stack = [0]
    while stack:
        node = stack.pop()
        if node < 0:
            leave[~node] = clock
            continue
        enter[node] = clock
        clock += 1
        stack.append(~node)
        stack.extend(dependents[node])
    return enter, leave


def _cycles(heads: Sequence[int | None]) -> list[list[int]]:
    """Return the cycles, each as its words in the order dependent, head, head's head, from the lowest word on."""
    seen = [0] * (len(heads) + 1)
    cycles = []
    for start in range(1, len(heads) + 1):
        node: int | None = start
        while node and not seen[node]:
            seen[node] = start
            node = heads[node - 1]
        if node and seen[node] == start:
            cycle = [node]
            while (head := heads[cycle[-1] - 1]) and head != node:
                cycle.append(head)
            lowest = cycle.index(min(cycle))
            cycles.append(cycle[lowest:] + cycle[:lowest])
    return cycles


def _path(cycle: Sequence[int], shown: int = 8) -> str:
    """Return a cycle as ``2 -> 5 -> 2``, the middle of a long one left out."""
    nodes = [str(node) for node in (*cycle, cycle[0])]
    if len(nodes) > shown:
        nodes[shown - 2 : -1] = ["..."]
    return " -> ".join(nodes)
