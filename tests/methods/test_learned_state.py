"""What methods learn: baselines and control variates are trained with the model, and saved and restored with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from parser_vae.errors import ConfigError, IncompatibleError
from parser_vae.methods import Importance, Method, Rebar, Relax, ScoreFunction
from parser_vae.methods.baselines import DECAY, LearnedBaseline, RunningMean, signal
from parser_vae.methods.network import Network
from parser_vae.structures import Categorical, PairwiseBinary
from parser_vae.training import loop as loop_module
from parser_vae.training.loop import Loop, Plan
from parser_vae.training.progress import Quiet
from tests.methods.copies import NOTHING, Copies

LEARNING: dict[str, Method[Tensor]] = {
    "ema": ScoreFunction(samples=1, baseline="ema"),
    "learned": ScoreFunction(samples=1, baseline="learned", hidden=3),
    "nvil": Importance(samples=1, baseline="nvil", hidden=3),
    "rebar": Rebar(),
    "relax": Relax(hidden=3),
}


class Stop(Exception):
    """Stands for a kill."""


def run(folder: Path, method: Method[Tensor], resume: bool = False, stop_at: int | None = None) -> nn.Module:
    problem = Copies(Categorical(), (3,), 4)
    assert method.state is not None
    steps = 0

    def step(indices: list[int], epoch: int, generator: torch.Generator) -> Mapping[str, float]:
        nonlocal steps
        if steps == stop_at:
            raise Stop
        steps += 1
        return {"objective": method.backward(problem, NOTHING, generator).objective}

    trained = [p for p in (*problem.module.parameters(), *method.state.parameters()) if p.requires_grad]
    plan = Plan(
        model=problem.module,
        optimiser=torch.optim.Adam(trained, lr=0.05),
        epochs=2,
        batches=lambda generator: [[0], [0], [0]],
        step=step,
        evaluate=dict,
        selections=(),
        method_state=method.state,
        evaluate_first=True,
    )
    Loop(plan, folder, 7, Quiet(), resume).run()
    return problem.module


@pytest.mark.parametrize("name", LEARNING)
def test_the_state_is_trained_and_survives_a_kill(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    whole = copy.deepcopy(LEARNING[name])
    expected = run(tmp_path / "whole", whole)
    with pytest.raises(Stop):
        run(tmp_path / "broken", copy.deepcopy(LEARNING[name]), stop_at=4)
    resumed = copy.deepcopy(LEARNING[name])
    model = run(tmp_path / "broken", resumed, resume=True)
    for one, other in zip(expected.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert whole.state is not None and resumed.state is not None
    ends = whole.state.state_dict()
    assert ends.keys() == resumed.state.state_dict().keys()
    assert all(torch.equal(value, resumed.state.state_dict()[key]) for key, value in ends.items())
    before = copy.deepcopy(LEARNING[name]).state
    assert before is not None
    assert all(key not in before.state_dict() or not torch.equal(before.state_dict()[key], ends[key]) for key in ends)


def test_a_network_saved_before_its_first_input_is_restored_as_such() -> None:
    fresh, other = Network(3), Network(3)
    assert fresh.state_dict() == {}
    other.load_state_dict(fresh.state_dict())
    assert not other.is_sized
    assert torch.equal(fresh(torch.ones(2, 5)), torch.zeros(2))
    other.load_state_dict(fresh.state_dict())
    assert other.hidden_weight.shape == (3, 5)


def test_a_running_mean_does_not_start_from_nothing() -> None:
    mean = RunningMean()
    assert float(mean.value()) == 0.0
    mean.update(torch.full((4,), 8.0))
    assert float(mean.value()) == pytest.approx(8.0)
    mean.update(torch.full((4,), 4.0))
    assert float(mean.value()) == pytest.approx((8 * DECAY + 4) / (1 + DECAY))


def test_baselines_of_batch_and_samples_leave_the_item_or_sample_out() -> None:
    problem = Copies(Categorical(), (3,), 2)
    losses = torch.tensor([[1.0, 10.0], [3.0, 20.0]])
    found = signal("leave_one_out", None, problem, NOTHING, losses)
    assert found.tolist() == [[-2.0, -10.0], [2.0, 10.0]]
    found = signal("batch", None, problem, NOTHING, losses)
    assert found.tolist() == [[1.0 - 15.0, 10.0 - 2.0], [3.0 - 15.0, 20.0 - 2.0]]
    assert signal("batch", None, problem, NOTHING, losses[:, :1]).tolist() == [[1.0], [3.0]]


def test_nvil_divides_by_the_deviation_of_former_signals_only_where_it_is_above_one() -> None:
    features = torch.ones(2, 1)
    for scale, expected in ((10.0, 1.0), (0.1, 0.1)):
        baseline = LearnedBaseline(3, normalise=True)
        losses = torch.tensor([[scale, -scale]])
        for _ in range(2):
            found = baseline.signal(losses, losses, features)
        assert found[0].tolist() == pytest.approx([expected, -expected], rel=1e-3)


def test_importance_weights_tell_how_many_samples_count() -> None:
    problem = Copies(Categorical(), (3,), 50, scores=torch.tensor([1.5, 0.0, -1.0], dtype=torch.float64))
    same = Importance[Tensor](4, "same").backward(problem, NOTHING, torch.Generator().manual_seed(0))
    assert same.metrics["effective_samples"] == pytest.approx(4.0)
    assert same.metrics["largest_weight"] == pytest.approx(1.0)
    far = Importance[Tensor](4, "uniform").backward(problem, NOTHING, torch.Generator().manual_seed(0))
    assert 1.5 < far.metrics["effective_samples"] < 3.0  # 4 / (3 * the sum of squared probabilities) = 2.15
    mixed = Importance[Tensor](4, "mixture", share=0.5).backward(problem, NOTHING, torch.Generator().manual_seed(0))
    assert mixed.metrics["largest_weight"] < 2.0


def test_the_score_of_the_perturbation_needs_noise_on_every_part() -> None:
    with pytest.raises(IncompatibleError) as raised:
        ScoreFunction[Tensor]("perturbation").check(Copies(PairwiseBinary(), (3,), 1))
    assert str(raised.value) == (
        "score_function.distribution = perturbation needs noise_score, which the structure 'pairwise_binary' cannot "
        "give"
    )


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (ScoreFunction, {"samples": 0}, "score_function.samples is 0; at least 1 is needed"),
        (
            ScoreFunction,
            {"samples": 1},
            "score_function.baseline = leave_one_out compares samples of one item; it needs score_function.samples of "
            "at least 2, or choose batch, ema, learned or nvil",
        ),
        (Importance, {"temperature": 0.0}, "importance.temperature is 0.0; it must be above 0"),
        (
            Importance,
            {"weights": "self_normalised", "baseline": "ema"},
            "importance.weights = self_normalised compares the samples of an item with their weighted mean: it needs "
            "importance.samples of at least 2, and leaves no place for another baseline",
        ),
        (Relax, {"temperature": 0.0}, "relax.temperature is 0.0; it must be above 0"),
    ],
)
def test_impossible_settings_are_refused(
    method: type[Method[Tensor]], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        method(**settings)
    assert str(raised.value) == message
