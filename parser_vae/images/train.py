"""Training an image model: from settings to a model folder with its results and a sheet of pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parser_vae.errors import ConfigError, InputError, ModelFolderError
from parser_vae.files import write_text_atomically
from parser_vae.images.bounds import as_batch, measure
from parser_vae.images.data import Images, ImageSet, binarised, draw_pixels, load_images
from parser_vae.images.mixture import MixtureModel
from parser_vae.images.models import ImageModel, Shape, start_at_mean, structure_of
from parser_vae.images.pictures import flips, reconstructions, templates, write_sheet
from parser_vae.images.probes import flip_rates, gradient_variance, smoothing_gap, train_reader
from parser_vae.images.problem import ImageBatch, ImageProblem, LabelProblem, MixtureProblem, gold_codes
from parser_vae.images.settings import DataSettings, ImageSettings
from parser_vae.methods.base import Method
from parser_vae.training.checkpoint import read_model, write_model
from parser_vae.training.config import dump_settings, load_settings
from parser_vae.training.loop import Loop, Outcome, Plan, Selection
from parser_vae.training.method_settings import build_method
from parser_vae.training.progress import Progress

RESULT = "result.json"
SHEET = "pictures.png"
MAX_PARAMETERS = 100_000_000
"""A hundred million parameters take 1.6 GB in training."""


@dataclass(frozen=True)
class Trained:
    """A trained model, the images it was made for and how training went."""

    problem: ImageProblem | MixtureProblem
    images: ImageSet
    result: dict[str, Any]


def load_for(data: DataSettings) -> ImageSet:
    """Return the images of these settings, black and white where the settings say so.

    What is ``dynamic`` in training is drawn once for validation and test.
    """
    images = load_images(data.name, data.folder, validation=data.validation, train=data.train, test=data.test)
    held = "fixed" if data.binarise == "dynamic" else data.binarise
    return ImageSet(
        images.name,
        binarised(images.train, data.binarise),
        binarised(images.validation, held),
        binarised(images.test, held),
        images.attributes,
    )


def new_problem(settings: ImageSettings, shape: Shape) -> ImageProblem | MixtureProblem:
    """Return a problem with an untrained model, drawn from torch's own generator.

    Raises:
        ConfigError: The model would be too large to train.
    """
    with torch.device("meta"):
        count = sum(p.numel() for p in _new_model(settings, shape).parameters())
    if count > MAX_PARAMETERS:
        raise ConfigError(
            f"the model would have {count:,} parameters, more than {MAX_PARAMETERS:,}; make model.size, model.hidden "
            "or model.continuous smaller"
        )
    model = _new_model(settings, shape)
    structure = structure_of(settings.model)
    kind = settings.objective.train_kl
    if isinstance(model, MixtureModel):
        return MixtureProblem(model, structure, kind)
    return ImageProblem(model, structure, kind, settings.objective.pixel_bound)


def _new_model(settings: ImageSettings, shape: Shape) -> ImageModel | MixtureModel:
    return (MixtureModel if settings.model.continuous else ImageModel)(settings.model, shape)


def train(
    settings: ImageSettings,
    out: Path,
    *,
    resume: bool,
    progress: Progress,
    begin: Callable[[], None] = lambda: None,
    device: str = "cpu",
    images: ImageSet | None = None,
) -> Trained:
    """Train a model, write it with its results and pictures to the folder ``out``, and return it.

    ``begin`` is called once all input is read and found right, before anything is written. ``images`` are those of the
    settings, where the caller has them already.

    Raises:
        InputError: Images are missing or damaged, or settings contradict each other.
        IncompatibleError: The method cannot be used with this latent.
        KeyboardInterrupt: The user asked to stop; the run can be resumed.
    """
    images = load_for(settings.data) if images is None else images
    options = settings.training
    torch.manual_seed(options.seed)
    problem = new_problem(settings, _shape(images.train))
    if settings.model.start == "mean_image":
        start_at_mean(problem.model.decoder, images.train.pixels)
    problem.module.to(device)
    methods = {"images": build_method(settings.method, settings)}
    methods["images"].check(problem)
    labelled = torch.empty(0, dtype=torch.int64)
    gold = None
    if settings.labels.count:
        gold = gold_codes(images.train.labels, images.train.attributes, settings.model.latent, settings.model.size)
        labelled = balanced(images.train.labels, settings.labels.count, options.seed)
        methods["labels"] = build_method(settings.method, settings)
    progress.event(
        "start",
        train_images=len(images.train),
        validation_images=len(images.validation),
        parameters=sum(p.numel() for p in problem.module.parameters()),
        method=settings.method,
    )
    plan = _plan(settings, images, problem, methods, gold, labelled, device, lambda: loop.state.epoch)
    begin()
    out.mkdir(parents=True, exist_ok=True)
    loop = Loop(plan, out, options.seed, progress, resume)
    outcome = loop.run()
    result = _result(settings, images, problem, outcome)
    write_text_atomically(out / RESULT, json.dumps(result, indent=1) + "\n")
    write_sheet(out / SHEET, sheet(problem, images.test))
    write_model(
        out,
        {name: tensor.detach() for name, tensor in problem.module.state_dict().items()},
        {"kind": "images", "shape": list(_shape(images.train)), "test": result["test"]},
        dump_settings(settings),
        _card(settings, result),
    )
    return Trained(problem, images, result)


def load_trained(folder: Path, data_folder: Path | None = None) -> tuple[ImageSettings, ImageProblem | MixtureProblem]:
    """Return the settings and the problem of a model folder; ``data_folder`` replaces that of its images.

    Raises:
        ModelFolderError: There is no model, or it is not one of images.
    """
    content = read_model(folder)
    if content.manifest.get("kind") != "images":
        raise ModelFolderError(f"{folder}: not a model of images; name a folder that images train wrote")
    values = [] if data_folder is None else [f"data.folder={data_folder}"]
    settings = load_settings(ImageSettings, folder / "config.toml", values)
    shape = content.manifest.get("shape")
    if not isinstance(shape, list) or len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ModelFolderError(f"{folder}: manifest.json says that images are {shape}; expected three whole numbers")
    channels, height, width = shape
    problem = new_problem(settings, (channels, height, width))
    sizes = {name: value.shape for name, value in problem.module.state_dict().items()}
    if sizes != {name: value.shape for name, value in content.tensors.items()}:
        raise ModelFolderError(f"{folder}: its weights are not those of its config.toml and manifest.json; train again")
    problem.module.load_state_dict(content.tensors)
    problem.module.eval()
    return settings, problem.as_measured()


def sheet(problem: ImageProblem | MixtureProblem, images: Images) -> list[Tensor]:
    """Return the grids of a model's sheet: reconstructions, then templates, then flips where bits are attributes."""
    device = next(problem.module.parameters()).device
    problem.module.cpu()
    grids = [reconstructions(problem, images), templates(problem)]
    if isinstance(problem, MixtureProblem) and problem.structure.name == "binary":
        grids.append(flips(problem, images))
    problem.module.to(device)
    return grids


def balanced(labels: Tensor, count: int, seed: int) -> Tensor:
    """Return the places of ``count`` images, as many of each class as can be, drawn with the seed.

    Raises:
        ConfigError: There are not so many images.
    """
    if count > len(labels):
        raise ConfigError(f"labels.count is {count}, but there are only {len(labels)} train images")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = labels[order]
    # the n-th image of its class comes before every (n+1)-th of any class
    rank = torch.empty_like(shuffled)
    for one in shuffled.unique():
        places = (shuffled == one).nonzero()[:, 0]
        rank[places] = torch.arange(len(places))
    return order[rank.argsort(stable=True)[:count]]


def _plan(
    settings: ImageSettings,
    images: ImageSet,
    problem: ImageProblem | MixtureProblem,
    methods: dict[str, Method[Any]],
    gold: Tensor | None,
    labelled: Tensor,
    device: str,
    epoch_now: Callable[[], int],
) -> Plan:
    """Return what the loop does in a step, and after an epoch."""
    options, labels = settings.training, settings.labels
    on = torch.device(device)
    pretraining = labels.pretrain_epochs if labels.schedule == "pretrain" else 0
    about_labels = LabelProblem(problem)

    def batches(generator: torch.Generator) -> list[list[int]]:
        places = labelled if epoch_now() <= pretraining else torch.arange(len(images.train))
        order = places[torch.randperm(len(places), generator=generator)]
        return [part.tolist() for part in order.split(options.batch_size)]

    def step(indices: list[int], epoch: int, generator: torch.Generator) -> dict[str, float]:
        index = torch.tensor(indices)
        batch = train_batch(settings, images.train.pixels[index], problem, generator, on)
        estimate = methods["images"].backward(problem, batch, generator)
        values = {"objective": estimate.objective, "evaluations": float(estimate.evaluations), **estimate.metrics}
        if gold is not None and (epoch <= pretraining or labels.schedule == "joint"):
            if labels.schedule == "joint":
                index = labelled[torch.randint(len(labelled), (min(options.batch_size, len(labelled)),),
                                               generator=generator)]  # fmt: skip
            named = ImageBatch(images.train.pixels[index].to(on).float() / 255, gold[index].to(on))
            values["label_loss"] = methods["labels"].backward(about_labels, named, generator, labels.weight).objective
        return values

    def evaluate() -> dict[str, float]:
        values = _evaluate(settings, images, problem, methods["images"], on)
        _require_finite(values["validation_bound"], epoch_now())
        return values

    states = nn.ModuleDict({name: one.state for name, one in methods.items() if one.state is not None})
    return Plan(
        model=problem.module,
        optimiser=torch.optim.Adam(
            [*problem.module.parameters(), *states.parameters()], lr=options.learning_rate, fused=True
        ),
        epochs=options.epochs + pretraining,
        batches=batches,
        step=step,
        evaluate=evaluate,
        selections=(Selection("", "validation_bound", False),),
        clip=options.clip,
        method_state=states,
        seconds=options.seconds,
        what=f"training by {settings.method}",
    )


def _require_finite(value: float, epoch: int) -> None:
    if not math.isfinite(value):
        raise InputError(f"epoch {epoch}: the objective is {value}; lower training.learning_rate or training.clip")


def train_batch(
    settings: ImageSettings,
    pixels: Tensor,
    problem: ImageProblem | MixtureProblem,
    generator: torch.Generator,
    device: torch.device,
) -> ImageBatch:
    """Return train images as training reads them: drawn black and white anew where ``data.binarise`` is dynamic."""
    if settings.data.binarise == "dynamic":
        pixels = (draw_pixels(pixels.float() / 255, generator) * 255).to(torch.uint8)
    return as_batch(pixels, problem, generator, device)


def _evaluate(
    settings: ImageSettings,
    images: ImageSet,
    problem: ImageProblem | MixtureProblem,
    method: Method[Any],
    device: torch.device,
) -> dict[str, float]:
    """Return the values of an epoch: bounds of validation and test, and what else the settings ask for."""
    options = settings.measure
    measured = problem.as_measured()
    validation = measure(measured, images.validation, options.latent, options.samples)
    test = measure(measured, images.test, options.latent, options.samples)
    values = {
        "validation_bound": validation.bound,
        "test_bound": test.bound,
        "test_log_likelihood": -test.reconstruction,
    }
    generator = torch.Generator().manual_seed(0)
    if options.gradient_draws:
        batch = train_batch(settings, images.train.pixels[: settings.training.batch_size], problem, generator, device)
        values["gradient_variance"] = gradient_variance(problem, method, batch, options.gradient_draws)
    if options.smoothing_draws and isinstance(measured, ImageProblem):
        batch = as_batch(images.test.pixels[:1000], measured, generator, device)
        values["smoothing_gap"] = smoothing_gap(measured, batch, settings.nes.sigma, options.smoothing_draws)
    return values


def _result(
    settings: ImageSettings, images: ImageSet, problem: ImageProblem | MixtureProblem, outcome: Outcome
) -> dict[str, Any]:
    """Return what is written about a finished run; every value is of the epoch that was best on validation."""
    options = settings.measure
    gold = None
    if settings.labels.count:
        gold = gold_codes(images.test.labels, images.test.attributes, settings.model.latent, settings.model.size)
    test = measure(problem.as_measured(), images.test, options.latent, options.samples, gold).values()
    if gold is not None and isinstance(problem, MixtureProblem) and problem.structure.name == "binary":
        device = next(problem.module.parameters()).device
        reader = train_reader(images.train)
        problem.module.cpu()
        test |= flip_rates(problem, images.test, reader)
        problem.module.to(device)
    return {
        "test": test,
        "epoch": outcome.chosen[""],
        "steps": outcome.steps,
        "trained_seconds": outcome.seconds,
        "milliseconds_per_step": 1000 * outcome.seconds / max(1, outcome.steps),
        "history": outcome.history,
        "settings": settings.model_dump(mode="json", exclude_none=True),
    }


def _shape(images: Images) -> Shape:
    _, channels, height, width = images.pixels.shape
    return channels, height, width


def _card(settings: ImageSettings, result: dict[str, Any]) -> str:
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in result["test"].items())
    return (
        f"# A variational auto-encoder of {settings.data.name}\n\n"
        f"Latent: {settings.model.latent}, {settings.model.size}. Trained by {settings.method} for "
        f"{settings.training.epochs} epochs (seed {settings.training.seed}); epoch {result['epoch']} was best on "
        f"validation images and is kept. Test images, expectation `{settings.measure.latent}`, nats per image:\n\n"
        f"| measure | value |\n| --- | --- |\n{rows}\n"
    )
