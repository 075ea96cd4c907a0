"""A recipe with a gradient method beside it, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parser_vae import cli, load
from parser_vae.training import loop
from tests.end_to_end.conftest import self_training_arguments

BESIDE = [
    "--set=latent.method=score_function",
    "--set=latent.weight=0.5",
    "--set=score_function.baseline=nvil",
    "--set=objective.divergence=anchor",
]


class Killed(Exception):
    """Stands for a kill."""


def test_a_killed_run_resumes_to_the_same_weights_which_the_method_had_a_part_in(
    files: Path, source_model: Path, self_trained_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, *more: str) -> int:
        return cli.run([*self_training_arguments(files, source_model, tmp_path / name), *BESIDE, *more])

    assert run("whole") == 0
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    steps = 0
    original = loop.Loop._step

    def killed_in_the_second_round(self: loop.Loop, indices: list[int]) -> None:
        nonlocal steps
        steps += 1
        if steps == 11:  # two students of four steps, then the third step of the last one
            raise Killed
        original(self, indices)

    monkeypatch.setattr(loop.Loop, "_step", killed_in_the_second_round)
    assert run("broken") == 70
    assert (tmp_path / "broken" / "rounds" / "2-1" / "state.safetensors").exists()
    assert run("broken", "--resume") == 0
    whole, broken, without = (
        (folder / "model.safetensors").read_bytes()
        for folder in (tmp_path / "whole", tmp_path / "broken", self_trained_model)
    )
    assert whole == broken
    assert whole != without
    assert ", by self-training with score_function (weight 0.5), " in (tmp_path / "whole/MODEL_CARD.md").read_text()
    assert load(tmp_path / "whole").manifest["adapted"]["latent_method"] == "score_function"


def test_tagging_tasks_beside_a_gradient_method(files: Path, source_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = self_training_arguments(files, source_model, out)
    arguments[arguments.index("self-training")] = "dcst"
    assert cli.run([*arguments, "--epochs", "2", *BESIDE]) == 0
    events = [json.loads(line) for line in (out / "rounds/1-1/log.jsonl").read_text().splitlines()]
    values = [event for event in events if event["event"] == "epoch"]
    assert len(values) == 2 and all({"depth", "objective"} <= entry.keys() for entry in values)


@pytest.mark.parametrize(
    ("method", "more", "message"),
    [
        (
            "nes",
            [],
            "latent.method is entropy, which is for recipes, and --method nes is a gradient method itself; leave one "
            "of them out, or adapt by self-training",
        ),
        (
            "self-training",
            ["--set=objective.supervised_weight=1"],
            "objective.supervised_weight is 1, but self-training learns from the labelled source anyway; leave it "
            "out, latent.weight balances the two",
        ),
        (
            "dcst",
            ["--set=objective.freeze_decoder=false"],
            "objective.freeze_decoder is false, but the students of dcst share the source model's decoder, which "
            "stays as it is; leave it out",
        ),
        (
            "self-training",
            ["--set=latent.method=dcst"],
            "method 'dcst' is unknown; parser-vae methods lists them: nes, ",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    method: str,
    more: list[str],
    message: str,
    files: Path,
    source_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = self_training_arguments(files, source_model, tmp_path / "out")
    arguments[arguments.index("self-training")] = method
    assert cli.run([*arguments, "--set=latent.method=entropy", *more]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
