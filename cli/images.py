"""``parser-vae images``: train, evaluate, show and compare discrete image models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from parser_vae.errors import ConfigError

from .options import Common, with_common_options
from .runs import Epochs, Out, Overwrite, Resume, Seed, is_finished, start_run

DataFolder = Annotated[Path | None, typer.Option("--data", help="The folder of the images' files.", metavar="DIR")]
ModelFolder = Annotated[Path, typer.Argument(help="A folder that images train wrote.", metavar="MODEL_DIR")]


def train(
    common: Common,
    out: Out,
    dataset: Annotated[str | None, typer.Option(help="digits, shapes, or a set in --data: mnist, omniglot...")] = None,
    data: DataFolder = None,
    method: Annotated[str | None, typer.Option(help="How gradients are estimated: see parser-vae methods.")] = None,
    latent: Annotated[str | None, typer.Option(help="categorical, binary, pairwise or supermodular.")] = None,
    size: Annotated[int | None, typer.Option(help="Classes, or bits.")] = None,
    epochs: Epochs = None,
    seed: Seed = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train an auto-encoder with a discrete latent; without files, on scikit-learn's digits."""
    from parser_vae.images.settings import ImageSettings
    from parser_vae.images.train import SHEET
    from parser_vae.images.train import train as run_training
    from parser_vae.training.checkpoint import remove_state

    flags = {
        "data.name": dataset,
        "data.folder": data,
        "method": method,
        "model.latent": latent,
        "model.size": size,
        "training.epochs": epochs,
        "training.seed": seed,
    }
    settings, begin = start_run(ImageSettings, common, flags, out, resume, overwrite)
    if is_finished(out, resume):
        return
    progress = common.progress()
    device = common.prepare_torch()
    trained = run_training(settings, out, resume=resume, progress=progress, begin=begin, device=device)
    remove_state(out)
    for name, value in trained.result["test"].items():
        print(f"test {name}: {value:.4g}")
    print(f"pictures: {(out / SHEET).resolve()}")


def evaluate(
    common: Common,
    model: ModelFolder,
    data: DataFolder = None,
    latent: Annotated[str | None, typer.Option(help="Expectation: exact, sample, perturb or map.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Latents drawn per image where not exact.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print how good a model is on its test images."""
    from typing import get_args

    from parser_vae.images.bounds import measure
    from parser_vae.images.settings import Expectation
    from parser_vae.images.train import load_for, load_trained

    if latent is not None and latent not in get_args(Expectation):
        raise ConfigError(f"--latent {latent}: choose one of {', '.join(get_args(Expectation))}")
    device = common.prepare_torch()
    settings, problem = load_trained(model, data)
    problem.module.to(device)
    how: Expectation = latent or settings.measure.latent  # type: ignore[assignment]
    values = measure(problem, load_for(settings.data).test, how, samples or settings.measure.samples).values()
    if as_json:
        print(json.dumps({"latent": how, **values}))
        return
    print(f"expectation: {how}")
    for name, value in values.items():
        print(f"test {name}: {value:.4g}")


def show(
    common: Common,
    model: ModelFolder,
    output: Annotated[Path, typer.Option(help="The PNG file to write.", metavar="PNG")],
    data: DataFolder = None,
) -> None:
    """Write a sheet of pictures: test images, their reconstructions, and what the latents look like."""
    from parser_vae.images.pictures import write_sheet
    from parser_vae.images.train import load_for, load_trained, sheet

    common.prepare_torch()
    settings, problem = load_trained(model, data)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_sheet(output, sheet(problem, load_for(settings.data).test))
    print(output.resolve())


def compare(
    common: Common,
    recipe: Annotated[str, typer.Argument(help="A recipe's TOML file, or the name of one that comes with it.")],
    out: Annotated[Path, typer.Option(help="The folder for all runs and results.", metavar="DIR")],
    scale: Annotated[str, typer.Option(help="smoke, small or paper.")] = "smoke",
    data: DataFolder = None,
    only: Annotated[str | None, typer.Option(help="Run only this arm.")] = None,
) -> None:
    """Train what a recipe names, with several seeds, and print tables; go on where a former call was stopped."""
    from parser_vae.images.compare import compare as run_comparison
    from parser_vae.images.figures import write_report
    from parser_vae.images.recipes import read_recipe

    name, content = read_recipe(recipe)
    device = common.prepare_torch()
    progress = common.progress()
    finished = run_comparison(name, content, scale, out, progress=progress, data=data, only=only, device=device)
    print(write_report(name, content, scale, finished, out))


app = typer.Typer(help="Discrete image models: train, evaluate, show and compare them.", no_args_is_help=True)
for _command in (train, evaluate, show, compare):
    app.command()(with_common_options(_command, has_settings=_command is train, group="images"))
