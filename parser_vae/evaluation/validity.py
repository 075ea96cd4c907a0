"""Whether heads form the kind of tree that Universal Dependencies demand."""

from __future__ import annotations

from collections.abc import Sequence

from parser_vae.errors import InputError
from parser_vae.evaluation.attachment import place_of
from parser_vae.treebank.sentence import Sentence


def tree_problem(heads: Sequence[int | None]) -> str | None:
    """Return what keeps ``heads`` (one per word, 0 for the root) from being a tree with one root, or None."""
    count = len(heads)
    for position, head in enumerate(heads, start=1):
        if head is None:
            return f"word {position} has no head"
        if not 0 <= head <= count:
            return f"the head of word {position} is {head}, but the sentence has {count} words"
    roots = [position for position, head in enumerate(heads, start=1) if head == 0]
    if len(roots) != 1:
        return f"words {', '.join(map(str, roots))} are all roots" if roots else "no word is the root"
    reaches_root = {0}
    for start in range(1, count + 1):
        path: list[int] = []
        node: int = start
        while node not in reaches_root:
            if node in path:
                return f"word {node} is its own ancestor"
            path.append(node)
            node = heads[node - 1] or 0
        reaches_root.update(path)
    return None


def require_trees(sentences: Sequence[Sentence], remedy: str) -> None:
    """Raise ``InputError`` naming the first sentence whose heads do not form a tree with one root."""
    for sentence in sentences:
        problem = tree_problem(sentence.heads)
        if problem is not None:
            raise InputError(f"{place_of(sentence)}: {problem}; {remedy}")
