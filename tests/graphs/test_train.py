"""parser-vae graphs from simulated data to pictures, and what a killed training comes to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from parser_vae import cli
from parser_vae.graphs import picture
from parser_vae.graphs.measure import Recovery, recovery
from parser_vae.graphs.model import GraphModel
from parser_vae.graphs.train import load_graph_model
from parser_vae.graphs.trajectories import read_trajectories
from parser_vae.training import loop
from parser_vae.training.progress import read_log

SMALL = [
    "--quiet",
    *("--set", "model.hidden=8"),
    *("--set", "training.batch_size=8"),
    *("--set", "training.evaluate_every=3"),
    *("--set", "training.updates=6"),
    *("--set", "objective.teacher_forcing=2"),
    *("--set", "nes.population=4"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sizes = ["--points", "4", "--frames", "4", "--train", "40", "--dev", "20", "--test", "10"]
    assert cli.run(["graphs", "simulate", "--out", str(folder), *sizes]) == 0
    return folder


def train(data: Path, out: Path, *more: str) -> int:
    files = ["--train", str(data / "train.npz"), "--dev", str(data / "dev.npz")]
    return cli.run(["graphs", "train", *files, "--out", str(out), *SMALL, *more])


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    assert train(data, data / "trained", "--method", "relaxed") == 0
    return data / "trained"


def test_a_training_leaves_a_model(trained: Path) -> None:
    model, manifest = load_graph_model(trained)
    assert not model.training
    assert manifest["points"] == 4
    history = [event for event in read_log(trained / "log.jsonl") if event["event"] == "epoch"]
    assert [event["steps"] for event in history] == [3, 6]
    best = max(history, key=lambda event: event["dev_elbo"])
    assert manifest["scores"]["elbo"] == pytest.approx(best["dev_elbo"], rel=1e-4)
    assert (model.encoder.points.norm.mean != 0).all()
    assert not (trained / "state.safetensors").exists()


@pytest.mark.parametrize("more", [("--method=relaxed",), ("--method=nes",), ("--set", "training.swap_after=3")])
def test_a_resumed_training_ends_as_an_uninterrupted_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    assert train(data, tmp_path / "whole", *more) == 0
    original, calls = loop.Loop._step, 0

    def stopping(self: loop.Loop, indices: list[int]) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        original(self, indices)

    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(loop.Loop, "_step", stopping)
        assert train(data, tmp_path / "parts", *more) == 130
    assert cli.run(["graphs", "train", "--out", str(tmp_path / "parts"), "--quiet", "--resume"]) == 0
    assert calls == 6
    for name in ("model.safetensors", "config.toml"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_training_may_begin_with_a_model_of_fewer_points(data: Path, trained: Path, tmp_path: Path) -> None:
    sizes = ["--points", "5", "--frames", "4", "--train", "40", "--dev", "20", "--test", "10"]
    assert cli.run(["graphs", "simulate", "--out", str(tmp_path), *sizes]) == 0
    begun = ["--init", str(trained), "--set", "training.learning_rate=1e-12"]
    assert train(tmp_path, tmp_path / "out", *begun) == 0
    first, later = (dict(load_graph_model(folder)[0].named_parameters()) for folder in (trained, tmp_path / "out"))
    for name, value in first.items():
        torch.testing.assert_close(later[name], value, rtol=0, atol=1e-9)
    read = read_trajectories(tmp_path / "train.npz").positions
    assert load_graph_model(tmp_path / "out")[0].extremes.tolist() == [read.min(), read.max()]
    assert f"from `{trained}`" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_kinds_of_message_change_places_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    monkeypatch.setattr(GraphModel, "swap_kinds", lambda model: steps.append("swap"))
    original = GraphModel.keep_statistics
    monkeypatch.setattr(GraphModel, "keep_statistics", lambda model: (steps.append("step"), original(model)))
    assert train(data, tmp_path / "out", "--set", "training.updates=9", "--set", "training.swap_after=6") == 0
    assert steps == ["step"] * 6 + ["swap"] + ["step"] * 3


def test_an_interruption_says_how_to_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(self: loop.Loop, indices: list[int]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Loop, "_step", stop)
    assert train(data, tmp_path / "run") == 130
    expected = f"interrupted; resume with: parser-vae graphs train --out {tmp_path / 'run'} --resume\n"
    assert capsys.readouterr().err == expected


def test_evaluate_reports_every_model_and_their_mean(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "other", "--method", "relaxed", "--seed", "2") == 0
    capsys.readouterr()
    outputs = {"json": tmp_path / "a.json", "edges": tmp_path / "e.npz", "curves": tmp_path / "c.png"}
    options = [word for name, path in outputs.items() for word in (f"--{name}", str(path))]
    test = data / "test.npz"
    assert cli.run(["graphs", "evaluate", str(trained), str(tmp_path / "other"), "--data", str(test), *options]) == 0
    shown = capsys.readouterr().out
    report = json.loads(outputs["json"].read_text())
    first, second = report["models"].values()
    assert report["summary"]["elbo"]["mean"] == pytest.approx((first["elbo"] + second["elbo"]) / 2)
    assert report["summary"]["elbo"]["deviation"] == pytest.approx(abs(first["elbo"] - second["elbo"]) / 2**0.5)
    assert f"{first['f1']:.1f}" in shown
    assert "mean and deviation" in shown
    inferred = read_trajectories(outputs["edges"])
    assert inferred.edges is not None
    true = read_trajectories(test).edges
    assert true is not None
    found = 100 * 2 * (inferred.edges & true).sum(1) / (inferred.edges.sum(1) + true.sum(1))
    assert float(found.mean()) == pytest.approx(first["best_f1"], rel=1e-5)
    with Image.open(outputs["curves"]) as image:
        assert image.size[0] > 500


def test_pictures(data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("still.png", "moving.gif"):
        options = ["--data", str(data / "test.npz"), "--out", str(tmp_path / name), "--samples", "1"]
        assert cli.run(["graphs", "show", str(trained), *options]) == 0
    with Image.open(tmp_path / "still.png") as image:
        assert image.size[1] > 300
    with Image.open(tmp_path / "moving.gif") as animation:
        assert animation.n_frames == 10
    unlabelled = tmp_path / "own.npz"
    np.savez(unlabelled, trajectories=read_trajectories(data / "test.npz").positions.numpy())
    assert cli.run(["graphs", "show", str(trained), "--data", str(unlabelled), "--out", str(tmp_path / "own.svg")]) == 0
    assert cli.run(["graphs", "evaluate", str(trained), "--data", str(unlabelled)]) == 0
    assert "F1" not in capsys.readouterr().out


def test_switched_labels_are_announced(
    data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    for switched in (False, True):
        out = tmp_path / f"{switched}.svg"
        monkeypatch.setattr(picture, "recovery", lambda *edges, _is=switched: Recovery(0, 0, 0, _is))
        options = ["--data", str(data / "test.npz"), "--out", str(out)]
        assert cli.run(["graphs", "show", str(trained), *options]) == 0
        drawn.append(out.read_text())
    assert "labels switched" not in drawn[0]
    assert "labels switched: shown are the pairs that the model does not call edges" in drawn[1]


def test_mistakes(
    data: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2**21, "SC_PAGE_SIZE": 2**12}.__getitem__)
    longer, few = tmp_path / "longer.npz", tmp_path / "few.npz"
    np.savez(longer, trajectories=np.random.default_rng(0).normal(size=(20, 6, 4, 2)))
    np.savez(few, trajectories=np.random.default_rng(0).normal(size=(5, 6, 4, 2)))
    test, out = data / "test.npz", tmp_path / "picture.doc"
    fresh = ["train", "--train", str(data / "train.npz"), "--out", str(tmp_path / "new")]
    size = "would take about {} GiB of memory, and this machine has 8 GiB"
    for arguments, message in [
        (
            ["evaluate", str(trained), "--data", str(longer)],
            f"{longer}: 6 frames of 2 dimensions, but the model was trained on 4 of 2; cut the trajectories to that, "
            "or train a model on them",
        ),
        (
            ["train", "--train", str(longer), "--dev", str(test), "--out", str(tmp_path / "new")],
            f"{test}: samples of 4 x 4 x 2, but those of {longer} are 6 x 4 x 2 (time x points x dimensions)",
        ),
        (
            ["train", "--train", str(few), "--out", str(tmp_path / "new")],
            f"{few}: 5 samples are too few to hold some out for selection; give others with --dev",
        ),
        (
            ["show", str(trained), "--data", str(test), "--out", str(out)],
            f"{out}: cannot draw that; name a file that ends in .png, .svg, .pdf or .gif",
        ),
        (
            ["show", str(trained), "--data", str(test), "--out", f"{out}.svg", "--first", "10"],
            f"{test}: has 10 samples, 0 to 9; there is no sample 10",
        ),
        (
            ["evaluate", str(trained), "--data", str(test), "--json", str(out), "--curves", f"{out}.gif"],
            f"{out}.gif: cannot draw that; name a file that ends in .png, .svg or .pdf",
        ),
        (
            [*fresh, "--set", "model.hidden=10000000"],
            f"model.hidden = 10000000 with training.batch_size = 128 on 4 points {size.format('26,078,871')}; "
            "take less of one of them",
        ),
        (
            [*fresh, "--set", "training.batch_size=1000000000"],
            f"training.evaluate_every = 500 with training.batch_size = 1000000000 {size.format('18,626')}; "
            "look at the dev samples more often",
        ),
        (
            [*fresh, "--method", "score_function", "--set", "score_function.samples=1000000"],
            "model.hidden = 256 with training.batch_size = 128, score_function.samples = 1000000 on 4 points "
            f"{size.format('46,875')}; take less of one of them",
        ),
        (
            [*fresh, "--method", "nes", "--set", "nes.population=1000000000"],
            "--set nes.population=1000000000: nes.population: expected less than or equal to 10000000, not 1000000000",
        ),
        (
            [*fresh, "--init", str(tmp_path / "missing")],
            f"--init {tmp_path / 'missing'}: no such file or folder",
        ),
        (
            ["train", "--train", str(data / "train.npz"), "--init", str(trained), "--out", str(trained), "--overwrite"],
            f"data.init {trained}: the folder that is to be written; name another for one of them",
        ),
        (
            [*fresh, "--init", str(trained)],
            f"model.hidden is 256, but {trained} has 8 units in a hidden layer; say --set model.hidden=8",
        ),
        (
            ["train", "--train", str(longer), "--out", str(tmp_path / "new"), "--init", str(trained)],
            f"{longer}: 6 frames of 2 dimensions, but the model was trained on 4 of 2; cut the trajectories to that, "
            "or train a model on them",
        ),
        (
            [*fresh, "--set", "training.swap_after=700"],
            "training.swap_after is 700; expected a multiple of training.evaluate_every, 500 (or a smaller one), that "
            "is less than training.updates, 50000",
        ),
        (
            [*fresh, "--updates", "1200"],
            "training.updates is 1200, not a multiple of training.evaluate_every, 500; 1000 or 1500 updates would be",
        ),
    ]:
        assert cli.run(["graphs", *arguments]) == 1
        assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "new").exists()
    assert not out.exists()


def test_recovery_may_switch_labels() -> None:
    true = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]).bool()
    good = torch.tensor([[1, 1, 0, 1, 0, 0], [0, 0, 0, 1, 1, 1]]).bool()
    found, switched = recovery(good, true), recovery(~good, true)
    assert found.precision == found.recall == found.f1 == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert (found.switched, switched.switched) == (False, True)
    assert switched.f1 == found.f1
