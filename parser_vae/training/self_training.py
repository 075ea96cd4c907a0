"""Self-training: parsers that agree on raw target sentences teach new parsers, round after round.

The classic recipe (McClosky et al., 2006; Reichart and Rappoport, 2007) in the form that suits parsers with marginals:
every arc counts as much as the teachers believe it, several parsers teach one another as an ensemble, and a student
reads the labelled source as well. By default one parser teaches itself: a round is one pass over source and target,
after which it parses the target anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from parser_vae.parsing.batches import Batch, Encoded
from parser_vae.parsing.model import ParserModel
from parser_vae.training.checkpoint import LOG, ROUNDS
from parser_vae.training.loop import Outcome, Plan
from parser_vae.training.material import Course, Material
from parser_vae.training.progress import JsonLog, Progress, Several
from parser_vae.training.settings import AdaptSettings
from parser_vae.training.silver import SilverTree, annotated, silver_trees
from parser_vae.training.students import Student, Students
from parser_vae.training.supervised import Schedule, supervised_plan


@dataclass(frozen=True)
class Example:
    """A sentence with its tree, gold or silver, how much each arc counts, and maybe a distribution over its arcs.

    Attributes:
        encoded: The sentence of n words as indices, annotated.
        weights: Weight of each word's arc ``[n]``.
        marginals: Probabilities of all arcs ``[n + 1, n + 1]``, to be learnt in place of the tree's.
    """

    encoded: Encoded
    weights: list[float]
    marginals: Tensor | None = None


class SelfTrainingAdaptation:
    """Rounds of students, taught by all those of the round before.

    Further parsers given as teachers go through the rounds as well, each from its own weights; the first is kept.
    Finished students stay in their folders, so a stopped run goes on.
    """

    name = "self-training"

    def __init__(self, settings: AdaptSettings, material: Material) -> None:
        """Prepare a run.

        Raises:
            InputError, ConfigError, IncompatibleError: As ``Students`` says.
        """
        self.rounds = settings.self_training.rounds
        materials = [material, *materials_of_teachers(material)]
        self.learners = [Learner(settings, each, number) for number, each in enumerate(materials, start=1)]

    def run(self, out: Path, resume: bool, progress: Progress) -> Course:
        """Return the course of the rounds; the students live below ``out``."""
        kept = self.learners[0]
        steps, seconds = 0, 0.0
        with JsonLog(out / LOG) as log:
            told = Several([log, progress])
            history = [{"epoch": 0, **kept.students.values(kept.students.base)}]
            told.event("epoch", **history[0])
            for number in range(1, self.rounds + 1):
                trees = silver_trees([learner.model for learner in self.learners], kept.students.target)
                last = number == self.rounds  # nobody is taught by the others after it
                for learner in [kept] if last else self.learners:
                    student = learner.learn(trees, number, out, progress)
                    steps += student.steps
                    seconds += student.seconds
                values = {"confidence": confidence(trees), **kept.students.values(kept.model)}
                entry = {"epoch": number, **values, "steps": steps, "trained_seconds": round(seconds, 1)}
                history.append(entry)
                told.event("epoch", **entry)
        outcome = Outcome(history, {}, steps, seconds)
        return Course(kept.model, None, outcome, self.rounds, f"round {self.rounds}'s")


class Learner:
    """One parser that goes through the rounds: a new student in each.

    Attributes:
        number: Which of the parsers it is, from 1 on.
        model: Its student of the last round; before the first the parser itself.
    """

    def __init__(self, settings: AdaptSettings, material: Material, number: int) -> None:
        self.settings, self.seed, self.number = settings.self_training, settings.training.seed, number
        self.students = students = Students(settings, material)
        self.model = students.base
        given = students.source * self.settings.source_repeats + students.silver
        self.labelled = [Example(encoded, [1.0] * encoded.length) for encoded in given]

    def learn(self, trees: Sequence[SilverTree], number: int, out: Path, progress: Progress) -> Student:
        """Return this round's student of source and silver trees, which takes the place of ``model``."""
        settings = self.settings
        examples = self.labelled + [
            self._example(forms, tree) for forms, tree in zip(self.students.target, trees, strict=True)
        ]

        def plan_of(model: ParserModel) -> Plan:
            return supervised_plan(
                model,
                [example.encoded.length for example in examples],
                lambda indices: batch_of(model, [examples[index] for index in indices]),
                Schedule(settings.epochs, settings.batch_size, settings.learning_rate, settings.clip, settings.average),
                evaluate=dict,
                selections=(),
                what=f"round {number}, student {self.number}",
            )

        starts = {"previous": self.model, "base": self.students.base, "scratch": None}
        seed = 10_000 * self.seed + 100 * number + self.number
        folder = out / ROUNDS / f"{number}-{self.number}"
        student = self.students.train(folder, seed, starts[settings.start], plan_of, progress)
        self.model = student.model
        return student

    def _example(self, forms: Sequence[str], tree: SilverTree) -> Example:
        settings = self.settings
        sure = tree.confidence if settings.weights == "confidence" else [1.0] * len(forms)
        return Example(
            annotated(self.students.blank.indexer, forms, tree),
            [settings.silver_weight * value for value in sure],
            tree.marginals if settings.targets == "distribution" else None,
        )


def materials_of_teachers(material: Material) -> list[Material]:
    """Return what each further parser starts from: the same sentences, and its own weights and words."""
    return [replace(material, model=model, teachers=(), dev=None) for model in material.teachers]


def batch_of(model: ParserModel, examples: Sequence[Example]) -> Batch:
    """Return a padded batch of examples with arc weights and, where one of them has it, a distribution over heads."""
    batch = model.indexer.batch([e.encoded for e in examples], [e.weights for e in examples])
    if all(example.marginals is None for example in examples):
        return batch
    width = batch.words.shape[1]
    targets = torch.zeros(len(examples), width, width)
    for row, example in enumerate(examples):
        size = example.encoded.length + 1
        if example.marginals is None:
            targets[row, example.encoded.heads, range(size)] = 1.0
        else:
            targets[row, :size, :size] = example.marginals
    return replace(batch, head_targets=targets)


def confidence(trees: Sequence[SilverTree]) -> float:
    """Return the mean probability of the arcs of some silver trees; 0 without any."""
    values = [value for tree in trees for value in tree.confidence]
    return sum(values) / max(1, len(values))
