"""The training loop: the only place that zeroes, clips and applies gradients, and the only one that checkpoints.

A run is a pure function of its plan: everything that changes is in the state that is saved between two steps, so a
run that was killed and resumed ends with the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parser_vae.errors import InfeasibleError, InputError
from parser_vae.methods.ranks import agreed, is_first, wait_for_all
from parser_vae.training.checkpoint import has_state, load_state, save_state
from parser_vae.training.interruption import Interruption, deferred_interruption
from parser_vae.training.progress import JsonLog, Progress, Quiet, Several

SECONDS_BETWEEN_CHECKPOINTS = 20.0


@dataclass(frozen=True)
class Selection:
    """Weights that are kept from the epoch where they were best on held-out data.

    Attributes:
        prefix: Which parameters, by the start of their names.
        metric: Which value of ``Plan.evaluate`` decides.
        higher_is_better: Its direction.
    """

    prefix: str
    metric: str
    higher_is_better: bool


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        model: The model to train, in place.
        optimiser: Over the parameters to train.
        epochs: Passes over the data.
        batches: One epoch's batches, drawn from the generator.
        step: Adds the gradient of one batch and returns values to log; ``epoch`` counts from 1.
        evaluate: Values on held-out data for the model as it stands.
        selections: What is kept from its best epoch; anything else is kept from the last.
        schedule: Factor of the learning rate at a step out of all steps.
        clip: Largest norm of a gradient.
        method_state: What the method itself learns and counts; saved, but neither clipped, averaged nor selected.
        average: Decay of the running average of weights that is evaluated and kept in place of the last ones; 0: none.
        evaluate_first: Whether the untouched model is evaluated and is a candidate, as epoch 0.
        seconds: Stop after the step that passes this many seconds of training.
        out_of_time: Asked before each step; stop where it says so.
        before_epoch: Called with the number of an epoch before its first step; may change the model and the optimiser,
            and returns whether the weights kept so far are to be forgotten.
        what: The name of the run in progress displays.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    epochs: int
    batches: Callable[[torch.Generator], list[list[int]]]
    step: Callable[[list[int], int, torch.Generator], Mapping[str, float]]
    evaluate: Callable[[], Mapping[str, float]]
    selections: tuple[Selection, ...]
    schedule: Callable[[float], float] = lambda done: 1.0
    clip: float = 5.0
    method_state: nn.Module | None = None
    average: float = 0.0
    evaluate_first: bool = False
    seconds: float | None = None
    out_of_time: Callable[[], bool] = lambda: False
    before_epoch: Callable[[int], bool] = lambda epoch: False
    what: str = "training"


@dataclass
class _State:
    """Everything that changes between two steps, beside the model and the optimiser."""

    epoch: int = 1
    position: int = 0
    steps: int = 0
    seconds: float = 0.0
    batches: list[list[int]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a run went: the values of every epoch, which epoch each selection took, steps and seconds in all."""

    history: list[dict[str, Any]]
    chosen: dict[str, int]
    steps: int
    seconds: float


class Loop:
    """One run of a plan in a folder."""

    def __init__(self, plan: Plan, folder: Path, seed: int, progress: Progress, resume: bool) -> None:
        self.plan, self.folder = plan, folder
        self.trained: dict[str, Tensor] = {n: p for n, p in plan.model.named_parameters() if p.requires_grad}
        # running statistics and the like: saved and selected with the weights, but neither clipped nor averaged
        parameters = dict(plan.model.named_parameters())
        self.buffers = {name: b for name, b in plan.model.state_dict().items() if name not in parameters}
        self.rates = [group["lr"] for group in plan.optimiser.param_groups]
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout draws from torch's own generator, saved with the state
        self.state = _State()
        self.averages = {name: p.detach().clone() for name, p in self.trained.items()} if plan.average else {}
        self.best: dict[str, dict[str, Any]] = {}
        self.last: dict[str, Tensor] = {}
        folder.mkdir(parents=True, exist_ok=True)
        position = self._restore() if resume and has_state(folder) else 0
        wait_for_all()  # the first process writes to the folder from here on
        self.log: JsonLog | Quiet = JsonLog(folder / "log.jsonl", position) if is_first() else Quiet()
        self.progress = Several([self.log, progress])

    def run(self) -> Outcome:
        """Train to the end, leave the selected weights in the model and return how it went.

        Raises:
            InputError: Training has diverged: scores or gradients are not finite.
            KeyboardInterrupt: The user asked to stop; the state is saved.
        """
        with self.log, deferred_interruption() as interruption:
            self._train(interruption)
            if self.averages:
                self._load(self.averages)
            self.last = {name: value.detach().clone() for name, value in (self.trained | self.buffers).items()}
            self.load_selected()
            self.plan.model.eval()
            state = self.state
            chosen = {prefix: kept["epoch"] for prefix, kept in self.best.items()}
            self.progress.event("end", chosen=chosen, steps=state.steps, trained_seconds=round(state.seconds, 1))
            return Outcome(state.history, chosen, state.steps, state.seconds)

    def _train(self, interruption: Interruption) -> None:
        """Go through the epochs; save now and then, and before stopping if that was asked for."""
        plan, state = self.plan, self.state
        if plan.evaluate_first and not state.history:
            self._evaluate(0)
        saved = time.monotonic()
        while state.epoch <= plan.epochs and not self._out_of_time():
            if not state.batches:
                if plan.before_epoch(state.epoch):
                    self.best = {}
                state.batches, state.position, state.sums = plan.batches(self.generator), 0, {}
            with self.progress.track(len(state.batches), f"{plan.what}, epoch {state.epoch}") as advance:
                advance(state.position)
                while state.position < len(state.batches) and not self._out_of_time():
                    self._step(state.batches[state.position])
                    advance(1)
                    late = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
                    if (late or interruption.requested) and state.position < len(state.batches):
                        self._save()
                        saved = time.monotonic()
                        interruption.stop_if_requested()
            self._evaluate(state.epoch)
            state.epoch, state.batches = state.epoch + 1, []
            if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS or interruption.requested:
                self._save()
                saved = time.monotonic()
                interruption.stop_if_requested()
        if state.batches:  # resumed out of time, in the middle of an epoch
            self._evaluate(state.epoch)

    def load_selected(self) -> None:
        """Put the selected weights into the model: each selection's best, the last for everything else."""
        for kept in self.best.values():
            self._load(kept["weights"])

    def load_last(self) -> None:
        """Put the (averaged) weights of the last epoch into the model; only after ``run``."""
        self._load(self.last)

    def _out_of_time(self) -> bool:
        late = self.plan.seconds is not None and self.state.seconds >= self.plan.seconds
        return late or self.plan.out_of_time()

    def _step(self, indices: list[int]) -> None:
        plan, state = self.plan, self.state
        start = time.monotonic()
        plan.model.train()
        plan.optimiser.zero_grad()
        try:
            values = plan.step(indices, state.epoch, self.generator)
        except InfeasibleError as error:
            raise self._diverged(str(error)) from None
        if not math.isfinite(values.get("objective", 0.0)):  # of a population all of whose members failed, for one
            raise self._diverged(f"the objective is {values['objective']:g}")
        norm = nn.utils.clip_grad_norm_([p for p in self.trained.values() if p.grad is not None], plan.clip)
        beside = [] if plan.method_state is None else [p.grad for p in plan.method_state.parameters()]
        if not all(value.isfinite().all() for value in (norm, *beside) if value is not None):
            raise self._diverged("the gradient is not finite")
        done = (state.epoch - 1 + state.position / len(state.batches)) / plan.epochs
        for group, rate in zip(plan.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * plan.schedule(done)
        plan.optimiser.step()
        state.steps += 1
        state.position += 1
        if self.averages:
            # young averages forget faster, so that the first weights do not linger
            decay = min(plan.average, (1 + state.steps) / (10 + state.steps))
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    self.averages[name].lerp_(parameter, 1 - decay)
        for name, value in values.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        state.seconds += time.monotonic() - start
        if plan.seconds is not None:
            state.seconds = agreed(state.seconds)

    def _diverged(self, what: str) -> InputError:
        """Return the error of a run whose scores or gradients are not finite; a network's own scores forbid nothing."""
        return InputError(
            f"{self.plan.what}: diverged after {self.state.steps} updates: {what}; take a smaller learning_rate than "
            f"{max(self.rates):g}, or clip gradients"
        )

    def _evaluate(self, epoch: int) -> None:
        """Evaluate the (averaged) weights, log the epoch and keep what is best so far."""
        plan, state = self.plan, self.state
        current = {name: p.detach().clone() for name, p in self.trained.items()} if self.averages and epoch else {}
        if current:
            self._load(self.averages)
        plan.model.eval()
        try:
            values = dict(plan.evaluate())
        except InfeasibleError as error:
            raise self._diverged(str(error)) from None
        means = {name: total / max(1, state.position) for name, total in state.sums.items()} if epoch else {}
        entry = {"epoch": epoch, **means, **values, "steps": state.steps, "trained_seconds": round(state.seconds, 1)}
        state.history.append(entry)
        for selection in plan.selections:
            value = values[selection.metric]
            former = self.best.get(selection.prefix)
            sign = 1 if selection.higher_is_better else -1
            if former is None or math.isnan(former["value"]) or sign * value > sign * former["value"]:
                everything = (self.trained | self.buffers).items()
                weights = {n: v.detach().clone() for n, v in everything if n.startswith(selection.prefix)}
                self.best[selection.prefix] = {"value": value, "epoch": epoch, "weights": weights}
        if current:
            self._load(current)
        self.progress.event("epoch", **entry)

    def _load(self, weights: Mapping[str, Tensor]) -> None:
        own = self.trained | self.buffers
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)

    def _save(self) -> None:
        if not is_first():
            return
        save_state(
            self.folder,
            {
                "run": vars(self.state),
                "weights": self.trained | self.buffers,
                "averages": self.averages,
                "best": self.best,
                "method": {} if self.plan.method_state is None else self.plan.method_state.state_dict(),
                "optimiser": self.plan.optimiser.state_dict(),
                "generator": self.generator.get_state(),
                "torch_generator": torch.get_rng_state(),
                "log_position": self.log.position,
            },
        )

    def _restore(self) -> int:
        """Continue from the saved state; return the position in the log."""
        saved = load_state(self.folder)
        self.state = _State(**saved["run"])
        self._load(saved["weights"])
        self.averages = saved["averages"]
        self.best = saved["best"]
        if self.plan.method_state is not None:
            self.plan.method_state.load_state_dict(saved["method"])
        self.plan.optimiser.load_state_dict(saved["optimiser"])
        self.generator.set_state(saved["generator"])
        torch.set_rng_state(saved["torch_generator"])
        return int(saved["log_position"])
