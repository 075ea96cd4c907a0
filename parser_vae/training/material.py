"""What an adaptation starts from and what it comes to, whatever the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parser_vae.parser import Parser
from parser_vae.parsing.model import ParserModel
from parser_vae.training.loop import Outcome
from parser_vae.training.model_choice import TargetWatch
from parser_vae.treebank.sentence import Sentence


@dataclass(frozen=True)
class Material:
    """Everything that was read.

    Attributes:
        before: The parser before adaptation.
        model: A copy of it that also knows the target's words; methods that train in place train this one.
        target: Raw target sentences; trees in them are not looked at.
        source: Labelled sentences to learn from, those of the target included; None where none are at hand.
        labelled: The labelled target sentences among ``source``.
        dev: Labelled source sentences to select on, none of them in ``source``; None where there are none.
        silver: Target sentences with trees by somebody else.
        teachers: Further parsers trained on the source, which also know the target's words.
        watch: What is watched on target sentences that are held out of ``target``.
    """

    before: Parser
    model: ParserModel
    target: Sequence[Sentence]
    source: Sequence[Sentence] | None
    labelled: Sequence[Sentence]
    dev: Sequence[Sentence] | None
    silver: Sequence[Sentence]
    teachers: Sequence[ParserModel]
    watch: TargetWatch


@dataclass(frozen=True)
class Course:
    """How an adaptation went.

    Attributes:
        kept: The adapted parser, or the one from before where adapting was judged to hurt.
        last: The parser of the last epoch or round, where another one was kept.
        outcome: Its history; epoch or round 0 is the parser before adaptation.
        chosen: The epoch or round that was kept; None where there was nothing to choose by.
        why: Which weights were kept and why, in words that follow "the parser's weights are".
    """

    kept: ParserModel
    last: ParserModel | None
    outcome: Outcome
    chosen: int | None
    why: str
