"""Deep contextualised self-training: the target's silver trees teach tagging tasks, never arcs.

Rotman and Reichart (2019) turn silver trees into tags that a BiLSTM can predict word by word, because a wrong tree is
often right about such coarse properties. Theirs is a separate tagger, gated into the parser; here the tasks are
further outputs of the student's own encoder, learnt beside the arcs and relations of the labelled source.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from parser_vae.parsing.batches import Encoded, shuffled_batches
from parser_vae.parsing.model import ParserModel, supervised_losses
from parser_vae.training.checkpoint import LOG, ROUNDS
from parser_vae.training.loop import Outcome, Plan
from parser_vae.training.material import Course, Material
from parser_vae.training.progress import JsonLog, Progress, Several
from parser_vae.training.settings import AdaptSettings
from parser_vae.training.silver import annotated, silver_trees
from parser_vae.training.students import Students
from parser_vae.training.supervised import FINAL_RATE

MOST_CHILDREN, DEEPEST, FARTHEST = 5, 7, 5
CLASSES = {"valency": MOST_CHILDREN + 1, "depth": DEEPEST + 1, "head": 2 * FARTHEST + 1}


class DcstAdaptation:
    """One student that learns to parse from the source and to tag from the target's silver trees."""

    name = "dcst"

    def __init__(self, settings: AdaptSettings, material: Material) -> None:
        """Prepare a run.

        Raises:
            InputError, ConfigError, IncompatibleError: As ``Students`` says.
        """
        self.settings, self.seed = settings.dcst, settings.training.seed
        self.students = Students(settings, material)
        self.teachers = [self.students.base, *material.teachers]

    def run(self, out: Path, resume: bool, progress: Progress) -> Course:
        """Return the course of the adaptation; the student lives below ``out``."""
        students = self.students
        with JsonLog(out / LOG) as log:
            told = Several([log, progress])
            history = [{"epoch": 0, **students.values(students.base)}]
            told.event("epoch", **history[0])
            trees = silver_trees(self.teachers, students.target)
            tagged = students.silver + [
                annotated(students.blank.indexer, forms, tree)
                for forms, tree in zip(students.target, trees, strict=True)
            ]
            student = students.train(
                out / ROUNDS / "1-1", self.seed, None, lambda model: self._plan(model, tagged), progress
            )
            history.append({"epoch": 1, **students.values(student.model), "steps": student.steps})
            told.event("epoch", **history[1])
        return Course(student.model, None, Outcome(history, {}, student.steps, student.seconds), 1, "the student's")

    def _plan(self, model: ParserModel, tagged: Sequence[Encoded]) -> Plan:
        """Return the plan: every step takes one batch of source or target sentences; only the first have arcs."""
        settings = self.settings
        size = 2 * model.encoder.settings.hidden
        outputs = nn.ModuleDict({task: nn.Linear(size, classes) for task, classes in CLASSES.items()})
        source = self.students.source
        every = [*source, *tagged]

        def batches(generator: torch.Generator) -> list[list[int]]:
            gold = shuffled_batches([s.length for s in source], settings.batch_size, generator)
            silver = shuffled_batches([s.length for s in tagged], settings.batch_size, generator)
            both = gold + [[index + len(source) for index in batch] for batch in silver]
            return [both[index] for index in torch.randperm(len(both), generator=generator).tolist()]

        def step(indices: list[int], epoch: int, generator: torch.Generator) -> dict[str, float]:
            batch = model.indexer.batch([every[index] for index in indices])
            assert batch.heads is not None
            if indices[0] < len(source):
                losses = supervised_losses(model, batch)
            else:
                states = model.encoder.states(batch)[-1][batch.word_mask]
                tags = tree_tags(batch.heads, batch.lengths)
                losses = {
                    task: settings.weight * nn.functional.cross_entropy(output(states), tags[task][batch.word_mask])
                    for task, output in outputs.items()
                }
            torch.stack(list(losses.values())).sum().backward()
            return {name: float(loss.detach()) for name, loss in losses.items()}

        learnt = [*(p for p in model.parameters() if p.requires_grad), *outputs.parameters()]
        return Plan(
            model=model,
            optimiser=torch.optim.Adam(learnt, lr=settings.learning_rate),
            epochs=settings.epochs,
            batches=batches,
            step=step,
            evaluate=dict,
            selections=(),
            schedule=lambda done: max(FINAL_RATE, 1 - done),
            clip=settings.clip,
            method_state=outputs,
            average=settings.average,
            what="the student",
        )


def tree_tags(heads: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """Return the tags ``[batch, L]`` of each task that trees ``heads [batch, L]`` give to their words.

    ``valency``: how many dependents; ``depth``: arcs to the root; ``head``: on which side and how far off the head
    is, the root apart (class 0). Each is cut off at its largest class; the root and padding hold no meaning.
    """
    width = heads.shape[1]
    position = torch.arange(width, device=heads.device)
    words = (position > 0) & (position <= lengths[:, None])
    children = torch.zeros_like(heads).scatter_add_(1, heads, words.long())
    depth = torch.zeros_like(heads)
    ancestor = position.expand_as(heads)
    for _ in range(DEEPEST):
        depth += ancestor > 0
        ancestor = heads.gather(1, ancestor)
    offset = (heads - position).clamp(-FARTHEST, FARTHEST)
    side = torch.where(offset < 0, -offset, FARTHEST + offset)
    return {
        "valency": children.clamp(max=MOST_CHILDREN),
        "depth": depth,
        "head": torch.where(heads == 0, 0, side),
    }
