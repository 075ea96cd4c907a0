"""Adaptation by a gradient method: the loop on raw target batches."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from parser_vae.errors import ConfigError
from parser_vae.parsing.batches import Encoded, shuffled_batches
from parser_vae.parsing.model import ParserModel, encode_raw, supervised_losses
from parser_vae.training.heldout import HeldOut, encode
from parser_vae.training.latent import LatentTerm
from parser_vae.training.loop import Loop, Plan, Selection
from parser_vae.training.material import Course, Material
from parser_vae.training.progress import Progress
from parser_vae.training.settings import AdaptSettings


class GradientAdaptation:
    """One method of ``METHODS`` on the target, the parser kept from the epoch that is best on the source's dev file."""

    def __init__(self, settings: AdaptSettings, material: Material) -> None:
        if settings.latent.method is not None:
            raise ConfigError(
                f"latent.method is {settings.latent.method}, which is for recipes, and --method {settings.method} is a "
                "gradient method itself; leave one of them out, or adapt by self-training"
            )
        if material.teachers:
            raise ConfigError(
                f"--teacher: {settings.method} learns from no parser's trees; leave it out, or adapt by self-training"
            )
        self.settings, self.material = settings, material
        model = self.model = material.model
        for parameter in model.decoder.parameters():
            parameter.requires_grad = not settings.objective.freeze_decoder
        sentences = encode_raw(model.indexer, [sentence.forms for sentence in material.target], model)
        self.latent = LatentTerm(settings.method, settings, model, sentences, model.encoder)
        self.labelled = self._labelled()
        self.held_out = None if material.dev is None else HeldOut(model.indexer, material.dev)

    def run(self, out: Path, resume: bool, progress: Progress) -> Course:
        """Return the course of the adaptation; the state of the run lives in ``out``."""
        options, model, method = self.settings.training, self.model, self.latent.method
        lengths = [sentence.length for sentence in self.latent.sentences]
        held_out, watch = self.held_out, self.material.watch
        if held_out is None and options.keep == "best":
            progress.event("note", text="no dev sentences: the last epoch is kept, unchecked; give some with --dev")

        def batches(generator: torch.Generator) -> list[list[int]]:
            if options.order == "corpus":
                every = list(range(len(lengths)))
                return [every[start : start + options.batch_size] for start in every[:: options.batch_size]]
            return shuffled_batches(lengths, options.batch_size, generator)

        def step(indices: list[int], epoch: int, generator: torch.Generator) -> dict[str, float]:
            estimate = self.latent.backward(indices, generator)
            loop.progress.event("update", epoch=epoch, objective=estimate.objective, **estimate.metrics)
            values = {"objective": estimate.objective, "evaluations": float(estimate.evaluations)}
            return values | (self._supervised(len(indices), generator) if self.labelled else {})

        learnt = [p for p in model.parameters() if p.requires_grad]
        if method.state is not None:
            learnt += method.state.parameters()
        plan = Plan(
            model=model,
            optimiser=torch.optim.Adam(learnt, lr=options.learning_rate),
            epochs=options.epochs,
            batches=batches,
            step=step,
            evaluate=lambda: ({} if held_out is None else held_out.values(model)) | watch.values(model),
            selections=(Selection("encoder.", "dev_uas", True),) if held_out and options.keep == "best" else (),
            clip=options.clip,
            method_state=method.state,
            evaluate_first=True,
            seconds=options.seconds,
            what=f"adapting by {self.settings.method}",
        )
        loop = Loop(plan, out, options.seed, progress, resume)
        outcome = loop.run()
        chosen = outcome.chosen.get("encoder.")
        if chosen is None:
            why = "training.keep asks for it" if options.keep == "last" else "there was nothing to choose by"
            return Course(model, None, outcome, None, f"the last epoch's ({why})")
        if chosen == 0:
            why = "those from before adaptation (no epoch was better on the source's dev sentences)"
        else:
            why = f"epoch {chosen}'s, the best on the source's dev sentences"
        last: ParserModel | None = None
        if chosen != outcome.history[-1]["epoch"]:
            loop.load_last()
            last = copy.deepcopy(model)
            loop.load_selected()
        return Course(model, last, outcome, chosen, why)

    def _labelled(self) -> list[Encoded]:
        """Return the sentences of the supervised term: the source's, and those of the target that have trees."""
        objective, material = self.settings.objective, self.material
        if not objective.supervised_weight:
            for flag, given in (("--silver", material.silver), ("--target-train", material.labelled)):
                if given:
                    raise ConfigError(
                        f"{flag}: {self.settings.method} reads no labelled sentences while objective.supervised_weight "
                        "is 0; add --set objective.supervised_weight=1, or adapt by self-training"
                    )
            return []
        sentences = [*(material.source or ()), *material.silver]
        if not sentences:
            raise ConfigError(
                f"objective.supervised_weight is {objective.supervised_weight:g}, but there are no source sentences to "
                f"learn from: the file that {self.settings.data.model} was trained on is gone; give it with --source"
            )
        return [encode(self.model.indexer, sentence) for sentence in sentences]

    def _supervised(self, count: int, generator: torch.Generator) -> dict[str, float]:
        """Add the gradient of the weighted supervised loss on ``count`` labelled sentences and return its value."""
        self.model.train()  # this loss is with dropout
        chosen = torch.randperm(len(self.labelled), generator=generator)[:count].tolist()
        losses = supervised_losses(self.model, self.model.indexer.batch([self.labelled[i] for i in chosen]))
        loss = torch.stack(list(losses.values())).sum()
        (self.settings.objective.supervised_weight * loss).backward()
        return {"supervised": float(loss.detach())}
