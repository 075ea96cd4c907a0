"""Training, comparing and showing image models, end to end on a few digits."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from parser_vae import cli
from parser_vae.errors import ConfigError
from parser_vae.images.bounds import measure
from parser_vae.images.compare import Finished, mean_of, smallest, table
from parser_vae.images.data import load_images
from parser_vae.images.pictures import write_sheet
from parser_vae.images.probes import bias_and_variance, encoder_gradients, smoothing_gap
from parser_vae.images.problem import ImageBatch, ImageProblem
from parser_vae.images.recipes import cells_of, read_recipe
from parser_vae.images.settings import ImageSettings
from parser_vae.images.train import balanced, load_for, load_trained, new_problem
from parser_vae.methods import METHODS, Enumeration
from parser_vae.training import loop as loop_module
from parser_vae.training.config import load_settings
from parser_vae.training.method_settings import build_method

SMALL = ["--quiet", "--threads=1", "--set=data.train=40", "--set=data.test=20", "--set=model.hidden=5"]
SMALL += ["--set=training.batch_size=20", "--set=model.size=4"]


MEASURES = {"bound", "reconstruction", "divergence", "purity", "perplexity", "accuracy", "milliseconds_per_step"}
MEASURES |= {"bias", "variance", "cosine", "gradient_variance", "smoothing_gap", "effective_samples"}
MEASURES |= {"flip_right", "flip_changed"}


def read_png(path: Path) -> np.ndarray:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    length = struct.unpack(">I", content[33:37])[0]
    assert content[37:41] == b"IDAT"
    rows = np.frombuffer(zlib.decompress(content[41 : 41 + length]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_train_evaluate_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    assert cli.run(["images", "train", "--out", str(out), "--epochs", "2", *SMALL]) == 0
    trained = capsys.readouterr().out
    assert "test bound: " in trained
    assert cli.run(["images", "evaluate", str(out), "--json", "--threads=1"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert f"test bound: {values['bound']:.4g}" in trained
    assert values["bound"] == pytest.approx(values["reconstruction"] + values["divergence"])
    assert json.loads((out / "result.json").read_text())["test"]["bound"] == pytest.approx(values["bound"])
    sheet = tmp_path / "sheet.png"
    assert cli.run(["images", "show", str(out), "--output", str(sheet), "--threads=1"]) == 0
    assert np.array_equal(read_png(sheet), read_png(out / "pictures.png"))
    assert read_png(sheet).max() == 255


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    assert cli.run(["images", "train", "--out", str(out), "--dataset", "mnist"]) == 1
    assert capsys.readouterr().err == (
        "error: 'mnist' needs its files: name their folder with --data, or use digits or shapes\n"
    )
    assert not out.exists()
    assert cli.run(["images", "train", "--out", str(out), "--set", "model.continuous=2", "--latent", "pairwise"]) == 1
    assert "model.continuous goes with the latents categorical and binary" in capsys.readouterr().err
    assert cli.run(["images", "compare", "table-9", "--out", str(out)]) == 1
    assert "table-9: no such file, nor a recipe that comes with the package: bartler" in capsys.readouterr().err
    assert cli.run(["images", "evaluate", str(tmp_path)]) == 1
    assert "not a model folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "direct", "model": {"size": 3}, "direct": {"rate": 0.1, "every": 1}},
        {"method": "relaxed", "model": {"size": 10, "continuous": 2}, "labels": {"count": 6}},
        {"method": "score_function", "model": {"size": 3}, "data": {"binarise": "dynamic"},
         "score_function": {"baseline": "nvil"}},
    ],
)  # fmt: skip
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, dict[str, object]]
) -> None:
    from parser_vae.images import train as train_module
    from parser_vae.training.progress import Quiet

    monkeypatch.setattr(loop_module, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    small = {"data": {"train": 30, "test": 10}, "training": {"epochs": 2, "batch_size": 10}}
    merged = {key: small.get(key, {}) | settings[key] if key in small and key in settings else
              settings.get(key, small.get(key)) for key in small | settings}  # fmt: skip
    given = ImageSettings.model_validate(merged)
    images = load_for(given.data)
    whole = train_module.train(given, tmp_path / "whole", resume=False, progress=Quiet(), images=images)
    original = train_module.as_batch
    calls = 0

    def failing(*arguments: object, **more: object) -> ImageBatch:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return original(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(train_module, "as_batch", failing)
    with pytest.raises(KeyboardInterrupt):
        train_module.train(given, tmp_path / "broken", resume=False, progress=Quiet(), images=images)
    monkeypatch.setattr(train_module, "as_batch", original)
    resumed = train_module.train(given, tmp_path / "broken", resume=True, progress=Quiet(), images=images)
    for name, value in whole.problem.module.state_dict().items():
        assert torch.equal(value, resumed.problem.module.state_dict()[name]), name
    assert resumed.result["test"] == whole.result["test"]


def test_exact_and_sampled_bounds_agree() -> None:
    torch.manual_seed(0)
    images = load_images("digits", test=60).test
    settings = ImageSettings.model_validate({"model": {"latent": "binary", "size": 5, "hidden": 8}})
    problem = new_problem(settings, (1, 8, 8))
    for parameter in problem.module.parameters():
        parameter.data *= 3
    exact = measure(problem, images)
    sampled = measure(problem, images, "sample", samples=400)
    perturbed = measure(problem, images, "perturb", samples=400)
    assert exact.divergence == pytest.approx(sampled.divergence)
    assert sampled.reconstruction == pytest.approx(exact.reconstruction, rel=2e-3)
    assert perturbed.reconstruction == pytest.approx(exact.reconstruction, rel=2e-3)
    best = measure(problem, images, "map")
    assert abs(best.reconstruction - exact.reconstruction) > 1e-3


def test_purity_and_accuracy_of_a_model_that_reads_the_answer() -> None:
    images = load_images("digits", test=50).test
    torch.manual_seed(0)
    problem = new_problem(ImageSettings.model_validate({"model": {"size": 10}}), (1, 8, 8))
    assert isinstance(problem, ImageProblem)
    gold = torch.nn.functional.one_hot(images.labels, 10).float()
    pixels = (images.pixels.float() / 255).flatten(1)
    answer = torch.linalg.pinv(pixels) @ (gold * 9)  # 50 images of 64 pixels: an exact fit
    problem.model.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10, bias=False))
    problem.model.encoder[1].weight.data = answer.T.contiguous()
    found = measure(problem, images, gold=gold)
    assert found.accuracy == 1.0
    assert found.purity == 1.0
    assert found.perplexity is not None
    assert 5 < found.perplexity <= 10


def test_labelled_images_are_balanced() -> None:
    labels = torch.tensor([0] * 50 + [1] * 5 + [2] * 20)
    chosen = labels[balanced(labels, 12, seed=1)]
    assert chosen.bincount().tolist() == [4, 4, 4]
    assert len(set(balanced(labels, 30, seed=1).tolist())) == 30
    assert labels[balanced(labels, 30, seed=1)].bincount()[1] == 5
    with pytest.raises(ConfigError):
        balanced(labels, 100, seed=1)


def test_gradients_are_probed_without_changing_anything() -> None:
    torch.manual_seed(0)
    problem = new_problem(ImageSettings.model_validate({"model": {"size": 4, "hidden": 5}}), (1, 8, 8))
    assert isinstance(problem, ImageProblem)
    batch = ImageBatch((torch.rand(6, 1, 8, 8) < 0.5).float())
    before = [parameter.clone() for parameter in problem.module.parameters()]
    exact = encoder_gradients(problem, Enumeration[ImageBatch](), batch, 1)[0]
    settings = load_settings(ImageSettings, overrides=["direct.epsilon=0.3", "direct.rate=0.1"])
    method = build_method("score_function", settings)
    noisy = bias_and_variance(encoder_gradients(problem, method, batch, 300), exact)
    assert noisy["bias"] < 0.3
    assert noisy["variance"] > 0
    assert noisy["cosine"] > 0.9
    direct = build_method("direct", settings)
    encoder_gradients(problem, direct, batch, 3)
    assert direct.state is not None
    assert int(direct.state.updates) == 0
    assert smoothing_gap(problem, batch, 1e-6, 4) < 1e-3 < smoothing_gap(problem, batch, 0.3, 4)
    for parameter, former in zip(problem.module.parameters(), before, strict=True):
        assert torch.equal(parameter, former)
        assert parameter.grad is None


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("dpp", "entropy")])
@pytest.mark.parametrize("latent", ["categorical", "binary"])
def test_every_method_lowers_the_bound(name: str, latent: str) -> None:
    overrides = ["nes.population=20", "nes.sigma=0.02", "implicit_mle.strength=1.0"]
    settings = load_settings(ImageSettings, overrides=[*overrides, f"model.latent={latent}", "model.size=4"])
    images = load_images("digits", train=100)
    torch.manual_seed(1)
    problem = new_problem(settings, (1, 8, 8))
    method = build_method(name, settings)
    if not method.requires <= problem.structure.capabilities:
        pytest.skip(f"{latent} cannot serve {name}")
    state = [] if method.state is None else list(method.state.parameters())
    optimiser = torch.optim.Adam([*problem.module.parameters(), *state], lr=5e-3)
    batch = ImageBatch((images.train.pixels > 127).float())
    generator = torch.Generator().manual_seed(0)
    before = measure(problem.as_measured(), images.train).bound
    for _ in range(12):
        optimiser.zero_grad()
        method.backward(problem, batch, generator)
        optimiser.step()
    assert measure(problem.as_measured(), images.train).bound < before - 1.5


def test_bundled_recipes_can_be_read_at_every_scale() -> None:
    folder = Path(cli.__file__).parents[1] / "configs" / "images"
    folder = folder if folder.is_dir() else Path(cli.__file__).parents[1] / "parser_vae" / "configs" / "images"
    names = sorted(path.stem for path in folder.glob("*.toml"))
    assert len(names) >= 14
    for name in names:
        short, recipe = read_recipe(name)
        assert short == name
        assert set(recipe.scales) == {"smoke", "small", "paper"}
        for scale in recipe.scales:
            cells = cells_of(recipe, scale)
            assert len({cell.folder for cell in cells}) == len(cells) > 0
        assert set(recipe.measures) <= MEASURES
    with pytest.raises(ConfigError):
        cells_of(recipe, "huge")
    with pytest.raises(ConfigError):
        cells_of(recipe, "smoke", only="nobody")


RECIPE = """
title = "t"
source = "s"
claim = "c"
plots = ["epochs", "axis"]
measures = ["bound"]
[settings]
data = { train = 40, test = 20 }
model = { size = 3, hidden = 4 }
training = { epochs = 2, batch_size = 20 }
[axes]
"model.hidden" = [4, 5]
[arms.exact.settings]
method = "enumeration"
[arms.nes]
settings = { method = "nes" }
axes = { "nes.population" = [2, 4] }
[smallest]
arm = "nes"
axis = "nes.population"
reference = "exact"
[paper.exact]
"4" = 12.5
[scales.smoke]
seeds = [1, 2]
"""


def test_a_comparison_is_run_reported_and_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path, out = tmp_path / "mine.toml", tmp_path / "out"
    path.write_text(RECIPE)
    command = ["images", "compare", str(path), "--out", str(out), "--quiet", "--threads=1"]
    assert cli.run(command) == 0
    report = capsys.readouterr().out
    assert "| model.hidden | nes.population | exact | nes |" in report
    assert "(paper 12.5)" in report
    assert "4: nes reaches exact" in report
    results = json.loads((out / "results.json").read_text())
    assert len(results["cells"]) == 2 * 2 * (1 + 2)
    times = {model: model.stat().st_mtime_ns for model in out.glob("runs/**/model.safetensors")}
    assert len(times) == 12
    assert cli.run(command) == 0
    assert capsys.readouterr().out == report
    assert all(model.stat().st_mtime_ns == time for model, time in times.items())
    assert (out / "epochs.png").is_file()
    assert (out / "axis.png").is_file()
    path.write_text(RECIPE.replace("epochs = 2", "epochs = 3"))
    assert cli.run(command) == 1
    assert "holds a run with other settings" in capsys.readouterr().err


def test_gradients_are_compared_at_one_model(tmp_path: Path) -> None:
    from parser_vae.images.compare import compare
    from parser_vae.images.recipes import Recipe
    from parser_vae.training.progress import Quiet

    recipe = Recipe.model_validate(
        {
            "title": "t", "source": "s", "claim": "c", "kind": "gradients", "measures": ["bias", "variance"],
            "settings": {"data": {"train": 40, "test": 20}, "model": {"size": 3, "hidden": 4},
                         "training": {"epochs": 1, "batch_size": 20}},
            "arms": {"direct": {"settings": {"method": "direct"}, "axes": {"direct.epsilon": [0.2, 1.0]}}},
            "scales": {"smoke": {"seeds": [1], "draws": 200}},
        }
    )  # fmt: skip
    finished = compare("mine", recipe, "smoke", tmp_path, progress=Quiet())
    assert [one.cell.values for one in finished] == [{"direct.epsilon": 0.2}, {"direct.epsilon": 1.0}]
    small, large = (one.value("variance") for one in finished)
    assert small is not None
    assert large is not None
    assert small > large
    again = compare("mine", recipe, "smoke", tmp_path, progress=Quiet())
    assert [one.result for one in again] == [one.result for one in finished]


def test_means_have_intervals_over_seeds() -> None:
    mean = mean_of([1.0, 2.0, 3.0])
    assert mean.value == 2.0
    assert mean.half_width == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert str(mean_of([164.534])) == "164.53"
    assert str(mean_of([0.2, 0.3])) == "0.250 ± 0.635"


def test_smallest_value_that_reaches_a_reference(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    _, recipe = read_recipe(str(path))
    bounds = {("exact", "4"): 10.0, ("nes", "4/2"): 11.0, ("nes", "4/4"): 9.5, ("exact", "5"): 10.0}
    finished = [
        Finished(cell, {"test": {"bound": bounds.get((cell.arm, cell.key), 10.5)}})
        for cell in cells_of(recipe, "smoke")
    ]
    first, second = smallest(recipe, finished)
    assert first.endswith("with nes.population = 4")
    assert second.endswith("with none of 2, 4")
    assert "| 4 |  | 10.00 ± 0.00 (paper 12.5) |  |" in table(recipe, finished, "bound")


def test_sheets_are_enlarged_and_padded(tmp_path: Path) -> None:
    grid = torch.zeros(1, 2, 1, 8, 8)
    grid[0, 1] = torch.nan
    grid[0, 0, 0, 0, 0] = 1.0
    write_sheet(tmp_path / "x.png", [grid, torch.ones(1, 1, 3, 8, 8)])
    picture = read_png(tmp_path / "x.png")
    assert picture.shape == (2 * (56 + 4) + 14, 2 * 58 + 2, 3)
    assert (picture[2:9, 2:9] == 255).all()
    assert (picture[10:58, 2:58] == 0).all()
    assert (picture[2:58, 60:116] == 96).all()


@pytest.mark.parametrize("extra", [[], ["--set=model.network=cnn"], ["--set=model.continuous=3"]])
@pytest.mark.parametrize("start", ["mean_image", "random"])
def test_a_decoder_starts_at_the_mean_image_unless_told_otherwise(tmp_path: Path, extra: list[str], start: str) -> None:
    """The rate is too small to train, so what is written is the start; a convolution has one bias for all pixels."""
    still = ["--epochs=1", "--set=training.learning_rate=1e-12", f"--set=model.start={start}"]
    assert cli.run(["images", "train", "--out", str(tmp_path / "model"), *SMALL, *still, *extra]) == 0
    settings, problem = load_trained(tmp_path / "model")
    mean = load_for(settings.data).train.pixels.float().mean(0).flatten() / 255
    shares = list(problem.model.decoder.parameters())[-1].detach().sigmoid()
    wanted = mean.mean().expand(1) if len(shares) == 1 else mean.clamp(1e-3, 1 - 1e-3)
    assert torch.allclose(shares, wanted, atol=1e-4) == (start == "mean_image")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--set=model.hidden=9000000"], "the model would have 1,242,000,068 parameters, more than 100,000,000; make "
         "model.size, model.hidden or model.continuous smaller"),
        (["--set=training.learning_rate=1e30", "--epochs=1"],
         "training by enumeration: diverged after 1 updates: the objective is nan; take a smaller learning_rate than "
         "1e+30, or clip gradients"),
    ],
)  # fmt: skip
def test_absurd_numbers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert cli.run(["images", "train", "--out", str(tmp_path / "model"), *SMALL, *flags]) == 1
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([1, 8], "manifest.json says that images are [1, 8]; expected three whole numbers"),
        ([1, 9, 8], "its weights are not those of its config.toml and manifest.json; train again"),
    ],
)
def test_a_damaged_model_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: list[int], said: str
) -> None:
    out = tmp_path / "model"
    assert cli.run(["images", "train", "--out", str(out), "--epochs=1", *SMALL]) == 0
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    (out / "manifest.json").write_text(json.dumps(manifest | {"shape": shape}), encoding="utf-8")
    capsys.readouterr()
    assert cli.run(["images", "evaluate", str(out), "--threads=1"]) == 1
    assert capsys.readouterr().err == f"error: {out}: {said}\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("samples = 4", "sampels = 4", "the recipe: unknown key importance.sampels; did you mean importance.samples?"),
        ("seeds = [1]", "seeds = [1, 1]", "the recipe's seeds are 1, 1; expected at least one, none twice, made of "
         "letters, digits, points, plus, minus and underscores"),
        ("arms.same", 'arms."../same"', "the recipe's arms are ../same, tempered, mixture, uniform; expected at least "
         "one, none twice, made of letters, digits, points, plus, minus and underscores"),
        ('plots = ["epochs"]', 'plots = ["axis"]',
         "{}: plots against an axis need one; give axes, or leave 'axis' out of plots"),
        ('plots = ["epochs"]', 'plots = ["axis"]\naxes."importance.proposal" = ["same"]',
         "{}: plots against an axis need numbers, and importance.proposal is 'same'; leave 'axis' out of plots"),
        ('plots = ["epochs"]', 'plots = ["epochs"]\nkind = "gradients"',
         "{}: plots against epochs are of trainings, and the recipe's kind is gradients"),
        ('plots = ["epochs"]', 'axes."training.seed" = [1]',
         "{}: axes: training.seed is set by the seeds of a scale; leave it out"),
        ('plots = ["epochs"]', "axes.k = [1]\narms.same.axes.k = [2]",
         "{}: axes: k is shared, so arms.same.axes cannot have it too"),
        ('plots = ["epochs"]', 'smallest = {arm = "same", axis = "k", reference = "mine"}',
         "{}: smallest: no arm mine; there are same, tempered, mixture, uniform"),
        ('plots = ["epochs"]', 'smallest = {arm = "same", axis = "k", reference = "uniform"}',
         "{}: smallest: same must have k as its only axis of its own; it has none"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    """Its folder has a space and a letter beyond ASCII; nothing is written."""
    text = (Path(__file__).parents[2] / "configs/images/bartler-proposals.toml").read_text(encoding="utf-8")
    recipe = tmp_path / "mein büro" / "rezept.toml"
    recipe.parent.mkdir()
    recipe.write_text(text.replace(old, new), encoding="utf-8")
    assert cli.run(["images", "compare", str(recipe), "--out", str(tmp_path / "out"), "--threads=1"]) == 1
    assert capsys.readouterr().err == f"error: {said.format(recipe)}\n"
    assert not (tmp_path / "out").exists()
