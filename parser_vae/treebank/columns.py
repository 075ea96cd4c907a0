"""The three structured columns, FEATS, DEPS and MISC, parsed when somebody asks for them.

Reading a treebank never comes here: the reader keeps these columns as text.
"""

from __future__ import annotations

from conllu import parser
from conllu.exceptions import ParseException


def parse_features(column: str) -> dict[str, str | None]:
    """Return FEATS as a mapping from feature to value; empty for ``_``."""
    features: dict[str, str | None] = parser.parse_dict_value(column) or {}
    return {name: value or None for name, value in features.items()}


def parse_items(column: str) -> dict[str, str | None]:
    """Return MISC as a mapping; an item without ``=`` has the value None.

    Not left to ``conllu``, which cuts a value at a second ``=`` (as in ``Gloss=a=b``, or any link with a query).
    """
    if column == "_":
        return {}
    pairs = (item.partition("=") for item in column.split("|"))
    return {name: value if equals else None for name, equals, value in pairs}


def parse_dependencies(column: str) -> tuple[tuple[str, str], ...]:
    """Return DEPS as ``(deprel, head ID)`` pairs, the ID as text because it may name an empty node; empty for ``_``.

    Raises:
        ValueError: The column is not a list of ``head:deprel`` joined by ``|``.
    """
    if column == "_":
        return ()
    try:
        pairs = parser.parse_paired_list_value(column)
    except ParseException as error:
        raise ValueError(f"DEPS is {column!r}: {error}") from error
    if not isinstance(pairs, list):
        raise ValueError(f"DEPS is {column!r}, expected head:deprel pairs joined by '|'")
    return tuple((deprel, "".join(map(str, head)) if isinstance(head, tuple) else str(head)) for deprel, head in pairs)
