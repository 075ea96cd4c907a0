"""``parser-vae graphs``: find the tree that couples moving points, from their trajectories alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Common, with_common_options
from .runs import Out, Overwrite, Resume, Seed, is_finished, require_files, start_run

app = typer.Typer(help="Find the tree that couples moving points, from their trajectories alone.", no_args_is_help=True)

LARGEST_SEED = 2**31 - 1
Data = Annotated[
    Path, typer.Option("--data", help="Trajectories, npz: samples x time x points x dimensions.", metavar="FILE")
]
Models = Annotated[list[Path], typer.Argument(help="Folders that train wrote.", metavar="MODEL_DIR...")]


def simulate(
    common: Common,
    out: Annotated[Path, typer.Option(help="The folder for train.npz, dev.npz and test.npz.", metavar="DIR")],
    points: Annotated[int, typer.Option(help="Points that move.")] = 10,
    frames: Annotated[int, typer.Option(help="Time steps.")] = 10,
    train: Annotated[int, typer.Option(help="Samples to learn from.")] = 50_000,
    dev: Annotated[int, typer.Option(help="Samples to select on.")] = 10_000,
    test: Annotated[int, typer.Option(help="Samples to report on.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of everything random.")] = 42,
) -> None:
    """Simulate points whose motion is steered by a hidden tree: the graph-layout data."""
    common.prepare_torch()
    from parser_vae.graphs.simulate import simulate as run_simulation
    from parser_vae.graphs.trajectories import write_trajectories

    for name, data in run_simulation({"train": train, "dev": dev, "test": test}, points, frames, seed).items():
        write_trajectories(out / f"{name}.npz", data)


def train(
    common: Common,
    out: Out,
    train: Annotated[
        Path | None, typer.Option(help="Trajectories to learn from; true edges in them are ignored.", metavar="FILE")
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Trajectories to select on; default: a tenth of train.", metavar="FILE")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="A model to begin with, say one trained on fewer points; default: none.", metavar="MODEL_DIR"
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="How to train: see parser-vae methods.")] = None,
    latent: Annotated[str | None, typer.Option(help="What to infer: tree, or edges (any n - 1).")] = None,
    updates: Annotated[int | None, typer.Option(help="How often the parameters are changed.")] = None,
    seed: Seed = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Learn to infer the edges between moving points, without being told any."""
    require_files({"--train": train, "--dev": dev, "--init": None if resume else init})
    from parser_vae.graphs.settings import GraphsSettings
    from parser_vae.graphs.train import train as run_training
    from parser_vae.training.checkpoint import remove_state

    flags = {
        "data.train": train,
        "data.dev": dev,
        "data.init": init,
        "method": method,
        "latent": latent,
        "training.updates": updates,
        "training.seed": seed,
    }
    settings, begin = start_run(GraphsSettings, common, flags, out, resume, overwrite)
    if is_finished(out, resume):
        return
    progress = common.progress()
    device = common.prepare_torch()
    run_training(settings, out, resume=resume, progress=progress, begin=begin, device=device)
    remove_state(out)
    progress.event("note", text=f"next: parser-vae graphs show {out} --data FILE --out picture.png")


def evaluate(
    common: Common,
    models: Models,
    data: Data,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers of every model as JSON.", metavar="FILE")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(help="Draw how the models learnt, as PNG or SVG.", metavar="FILE")
    ] = None,
    edges: Annotated[
        Path | None, typer.Option(help="Write the edges the first model infers, as npz with the data.", metavar="FILE")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the latents that are drawn.")] = 0,
) -> None:
    """Score models on trajectories; of several, which may differ in their seeds, also the mean and deviation."""
    require_files({"--data": data})
    if curves is not None:
        from parser_vae.graphs.picture import draw_curves, require_drawable

        require_drawable(curves)
    from parser_vae.graphs.report import evaluate as score

    common.prepare_torch()
    report = score(models, data, seed)
    if json_file is not None:
        from parser_vae.files import write_text_atomically

        write_text_atomically(json_file, report.to_json())
    if edges is not None:
        from parser_vae.graphs.trajectories import write_trajectories

        write_trajectories(edges, report.inferred)
    if curves is not None:
        draw_curves(models, curves)
    print(report.to_text())


def show(
    common: Common,
    model: Annotated[Path, typer.Argument(help="A folder that train wrote.", metavar="MODEL_DIR")],
    data: Data,
    out: Annotated[Path, typer.Option(help="The picture: .png or .svg, or .gif for moving ones.", metavar="FILE")],
    samples: Annotated[int, typer.Option(min=1, max=20, help="How many of the samples, from the first on.")] = 4,
    first: Annotated[int, typer.Option(min=0, help="The first sample to draw.")] = 0,
) -> None:
    """Draw trajectories with the edges the model infers, beside the true ones where they are known."""
    require_files({"--data": data})
    from parser_vae.graphs.picture import draw_samples

    common.prepare_torch()
    draw_samples(model, data, out, slice(first, first + samples))


for _command in (simulate, train, evaluate, show):
    app.command()(with_common_options(_command, has_settings=_command is train, group="graphs"))
