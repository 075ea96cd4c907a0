"""The latent-tree objective on raw target sentences: what gradient methods follow, alone or beside a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from parser_vae.errors import ConfigError
from parser_vae.methods.base import Estimate, Method
from parser_vae.parsing.batches import Batch, Encoded
from parser_vae.parsing.encoder import Encoder
from parser_vae.parsing.model import TREE_FAMILIES, ParserModel
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.training.loop import Plan
from parser_vae.training.method_settings import build_method
from parser_vae.training.settings import AdaptSettings


class LatentTerm:
    """The gradient of ``[objective]`` on raw target sentences, by one gradient method, for one model.

    Attributes:
        problem: The model's trees, judged as ``[objective]`` says.
        method: How the gradient is estimated.
        sentences: The raw target sentences, as indices.
    """

    def __init__(
        self, name: str, settings: AdaptSettings, model: ParserModel, sentences: Sequence[Encoded], source: Encoder
    ) -> None:
        """Put model and method together; ``source`` is the parser that the divergence ``anchor`` ties the model to.

        Raises:
            ConfigError: There is no method of that name, or the model has another decoder than is asked for.
            IncompatibleError: The method cannot be used with these trees.
        """
        objective, kind = settings.objective, model.decoder.settings.kind
        if objective.decoder not in (None, kind):
            raise ConfigError(
                f"objective.decoder is {objective.decoder}, but {settings.data.model} was pretrained with the decoder "
                f"{kind}; pretrain a model with --set decoder.kind={objective.decoder}"
            )
        self.problem = ParsingProblem(
            model,
            TREE_FAMILIES[settings.structure or model.family](single_root=objective.single_root),
            objective.divergence,
            perturb_all=objective.touch == "all",
            divergence_weight=objective.divergence_weight,
            source=source,
        )
        self.method: Method[Batch] = build_method(name, settings)
        self.method.check(self.problem)
        self.model, self.sentences = model, sentences

    def backward(self, indices: Sequence[int], generator: torch.Generator, weight: float = 1.0) -> Estimate:
        """Add ``weight`` times the gradient on some of the sentences to ``.grad`` and return the estimate.

        Leaves the model in evaluation mode: the objective is without dropout.
        """
        self.model.eval()
        batch = self.model.indexer.batch([self.sentences[index] for index in indices])
        return self.method.backward(self.problem, batch, generator, weight)

    def beside(self, plan: Plan, weight: float) -> Plan:
        """Return the plan with ``weight`` times the gradient on as many raw sentences added to each of its steps.

        They are drawn anew for each step. What the method itself learns is trained and saved with the rest.
        """

        def step(indices: list[int], epoch: int, generator: torch.Generator) -> dict[str, float]:
            values = plan.step(indices, epoch, generator)
            chosen = torch.randperm(len(self.sentences), generator=generator)[: len(indices)].tolist()
            estimate = self.backward(chosen, generator, weight)
            return {**values, "objective": estimate.objective, "evaluations": float(estimate.evaluations)}

        state = self.method.state
        if state is None:
            return replace(plan, step=step)
        plan.optimiser.add_param_group({"params": list(state.parameters())})
        both = state if plan.method_state is None else nn.ModuleList([plan.method_state, state])
        return replace(plan, step=step, method_state=both)
