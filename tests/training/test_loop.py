"""The loop: resuming in the middle of an epoch, running out of time, keeping the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from parser_vae.errors import InfeasibleError, InputError
from parser_vae.methods.annealing import Annealing, Schedule
from parser_vae.training import loop as loop_module
from parser_vae.training.loop import Loop, Outcome, Plan, Selection
from parser_vae.training.progress import Quiet, read_log


class Stop(Exception):
    """Stands for a kill."""


def plan(model: nn.Linear, values: list[float] | None = None, stop_at: int | None = None, **settings: object) -> Plan:
    steps = 0
    data = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))

    def step(indices: list[int], epoch: int, generator: torch.Generator) -> Mapping[str, float]:
        nonlocal steps
        if steps == stop_at:
            raise Stop
        steps += 1
        noise = torch.randn(len(indices), 1, generator=generator) + torch.randn(1)
        loss = ((model(data[indices]) - noise) ** 2).mean()
        loss.backward()
        return {"loss": float(loss.detach())}

    given = iter(values or [])
    return Plan(
        **{
            "model": model,
            "optimiser": torch.optim.Adam(model.parameters(), lr=0.1),
            "epochs": 3,
            "batches": lambda g: [part.tolist() for part in torch.randperm(12, generator=g).split(4)],
            "step": step,
            "evaluate": lambda: {"score": next(given) if values else float(model.weight.detach().sum())},
            "selections": (Selection("weight", "score", True),),
            "average": 0.9,
        }
        | settings
    )


def network() -> nn.Linear:
    torch.manual_seed(5)
    return nn.Linear(3, 1)


def run(folder: Path, made: Plan, resume: bool = False) -> tuple[Loop, Outcome]:
    loop = Loop(made, folder, 7, Quiet(), resume)
    return loop, loop.run()


@pytest.mark.parametrize("killed_at", range(1, 9))
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    monkeypatch.setattr(loop_module, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    whole = network()
    _, expected = run(tmp_path / "whole", plan(whole))
    broken = network()
    with pytest.raises(Stop):
        run(tmp_path / "broken", plan(broken, stop_at=killed_at))
    resumed = network()
    _, outcome = run(tmp_path / "broken", plan(resumed), resume=True)
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)
    without_time = [{k: v for k, v in entry.items() if k != "trained_seconds"} for entry in expected.history]
    assert [{k: v for k, v in entry.items() if k != "trained_seconds"} for entry in outcome.history] == without_time
    logged = [entry["epoch"] for entry in read_log(tmp_path / "broken" / "log.jsonl") if entry["event"] == "epoch"]
    assert logged == [1, 2, 3]


def test_what_a_method_counts_survives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    def annealed(stop_at: int | None = None) -> Plan:
        made, state = plan(network(), stop_at=stop_at), Annealing(Schedule(rate=0.5, every=1, floor=0.01))

        def step(indices: list[int], epoch: int, generator: torch.Generator) -> Mapping[str, float]:
            return dict(made.step(indices, epoch, generator)) | {"temperature": state.advance()}

        return replace(made, step=step, method_state=state)

    _, expected = run(tmp_path / "whole", annealed())
    with pytest.raises(Stop):
        run(tmp_path / "broken", annealed(stop_at=5))
    _, outcome = run(tmp_path / "broken", annealed(), resume=True)
    temperatures = [entry["temperature"] for entry in outcome.history]
    assert temperatures == [entry["temperature"] for entry in expected.history]
    assert temperatures[2] < temperatures[1] < temperatures[0]


def test_the_best_epoch_is_kept_and_the_first_of_equals(tmp_path: Path) -> None:
    model = network()
    start = model.weight.detach().clone()
    loop, outcome = run(tmp_path, plan(model, values=[0.5, 0.4, 0.5, 0.2], evaluate_first=True))
    assert outcome.chosen == {"weight": 0}
    assert torch.equal(model.weight, start)
    loop.load_last()
    assert not torch.equal(model.weight, start)
    assert [entry["epoch"] for entry in outcome.history] == [0, 1, 2, 3]


def test_weights_kept_before_a_change_of_the_model_can_be_forgotten(tmp_path: Path) -> None:
    _, outcome = run(tmp_path, plan(network(), values=[0.5, 0.3, 0.4], before_epoch=lambda epoch: epoch == 2))
    assert outcome.chosen == {"weight": 3}


def test_time_that_runs_out_ends_the_run_after_an_evaluated_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    _, outcome = run(tmp_path / "a", plan(model, seconds=1e-9))
    assert outcome.steps == 1
    assert [entry["epoch"] for entry in outcome.history] == [1]
    # killed after a step was saved, and already out of time when it is resumed
    monkeypatch.setattr(loop_module, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    with pytest.raises(Stop):
        run(tmp_path / "b", plan(network(), stop_at=2))
    _, outcome = run(tmp_path / "b", plan(network(), seconds=1e-9), resume=True)
    assert outcome.steps == 2
    assert [entry["epoch"] for entry in outcome.history] == [1]


@pytest.mark.parametrize(
    ("step", "what"),
    [
        pytest.param(
            lambda model: model(torch.full((1, 3), math.inf)).sum().backward(), "the gradient is not finite", id="loss"
        ),
        pytest.param(lambda model: raise_infeasible(), "sentence 0 of the batch: its arc scores hold NaN", id="scores"),
    ],
)
def test_a_run_that_diverges_says_at_which_update_and_what_to_do(
    step: Callable[[nn.Linear], None], what: str, tmp_path: Path
) -> None:
    model = network()

    def diverging(indices: list[int], epoch: int, generator: torch.Generator) -> Mapping[str, float]:
        step(model)
        return {}

    with pytest.raises(InputError, match=f"training: diverged after 0 updates: {what}.*; take a smaller learning_rate"):
        run(tmp_path, plan(model, step=diverging))
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def raise_infeasible() -> None:
    raise InfeasibleError("sentence 0 of the batch: its arc scores hold NaN or +inf")
