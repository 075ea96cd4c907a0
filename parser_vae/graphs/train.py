"""Training on trajectories, and the model folder it writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from parser_vae.errors import ConfigError, InputError, ModelFolderError
from parser_vae.graphs.limits import keep_freed_memory, require_memory, training_bytes
from parser_vae.graphs.measure import infer, measures
from parser_vae.graphs.model import GraphModel, ModelSettings
from parser_vae.graphs.problem import GraphProblem, structure_of
from parser_vae.graphs.settings import GraphsSettings
from parser_vae.graphs.trajectories import Trajectories, read_trajectories
from parser_vae.methods import Method
from parser_vae.training.checkpoint import has_state, read_model, write_model
from parser_vae.training.config import dump_settings
from parser_vae.training.loop import Loop, Outcome, Plan, Selection
from parser_vae.training.method_settings import build_method
from parser_vae.training.progress import Progress

BYTES_OF_A_NUMBER = 40  # in a list of Python's


@dataclass(frozen=True)
class GraphsResult:
    """What a training came to.

    Attributes:
        dev: The measures of the kept weights on the dev samples.
        outcome: The course of the training.
    """

    dev: dict[str, float]
    outcome: Outcome


def train(
    settings: GraphsSettings,
    out: Path,
    *,
    resume: bool,
    progress: Progress,
    begin: Callable[[], None] = lambda: None,
    device: str = "cpu",
) -> GraphsResult:
    """Train on trajectories, write the model folder ``out`` and return how it went.

    The weights with the best bound on the dev samples are kept; true edges are never looked at, except to be reported.
    ``begin`` is called once all input is read and found right, before anything is written.

    Raises:
        InputError: A file is malformed, or does not fit the other one.
        ConfigError: The settings contradict one another, or ask for more memory than there is.
        IncompatibleError: The method cannot be used with this latent.
        KeyboardInterrupt: The user asked to stop; the run can be resumed.
    """
    options = settings.training
    evaluate_every = _evaluate_every(settings)
    data, dev = _data(settings)
    if settings.data.init is not None and settings.data.init.resolve() == out.resolve():
        raise InputError(
            f"data.init {settings.data.init}: the folder that is to be written; name another for one of them"
        )
    _require_room(settings, data, evaluate_every)
    torch.manual_seed(options.seed)
    model = _first_model(settings, data, begun=resume and has_state(out))
    model.to(device)
    problem = problem_of(settings, model, data.positions.shape[2])
    method: Method[torch.Tensor] = build_method(settings.method, settings)
    method.check(problem)
    positions = model.normalised(data.positions)
    progress.event(
        "start",
        train_samples=len(data),
        dev_samples=len(dev),
        points=data.positions.shape[2],
        parameters=sum(p.numel() for p in model.parameters()),
        method=settings.method,
        latent=settings.latent,
    )

    def batches(generator: torch.Generator) -> list[list[int]]:
        wanted = options.batch_size * evaluate_every
        passes = [torch.randperm(len(data), generator=generator) for _ in range(math.ceil(wanted / len(data)))]
        return cast(list[list[int]], torch.cat(passes)[:wanted].view(-1, options.batch_size).tolist())

    def step(indices: list[int], epoch: int, generator: torch.Generator) -> dict[str, float]:
        estimate = method.backward(problem, positions[indices], generator)
        model.keep_statistics()
        return {"objective": estimate.objective, "evaluations": float(estimate.evaluations), **estimate.metrics}

    def judge() -> dict[str, float]:
        inference = infer(model, problem.structure, dev.positions, divergence=settings.objective.divergence)
        return measures(inference, dev)

    learnt = list(model.parameters())
    if method.state is not None:
        learnt += method.state.parameters()
    optimiser = torch.optim.Adam(learnt, lr=options.learning_rate, fused=True)

    def before_epoch(epoch: int) -> bool:
        if options.swap_after != (epoch - 1) * evaluate_every:
            return False
        model.swap_kinds()
        optimiser.state.clear()  # its means are those of the former places
        progress.event("note", text=f"the two kinds of message changed places after {options.swap_after} updates")
        return True

    plan = Plan(
        model=model,
        optimiser=optimiser,
        epochs=options.updates // evaluate_every,
        batches=batches,
        step=step,
        evaluate=lambda: {f"dev_{name}": value for name, value in judge().items()},
        selections=(Selection("", "dev_elbo", True),),
        clip=options.clip or math.inf,
        method_state=method.state,
        seconds=options.seconds,
        before_epoch=before_epoch,
        what=f"training by {settings.method}",
    )
    begin()
    keep_freed_memory()
    out.mkdir(parents=True, exist_ok=True)
    outcome = Loop(plan, out, options.seed, progress, resume).run()
    result = GraphsResult(judge(), outcome)
    write_model(
        out,
        model.state_dict(),
        _manifest(settings, model, data, result),
        dump_settings(settings),
        _card(settings, result),
    )
    return result


def problem_of(settings: GraphsSettings, model: GraphModel, points: int) -> GraphProblem:
    """Return the problem that these settings describe."""
    objective = settings.objective
    structure = structure_of(settings.latent, points, objective.max_range)
    return GraphProblem(model, structure, objective.teacher_forcing, objective.unit, objective.divergence)


def load_graph_model(folder: Path) -> tuple[GraphModel, dict[str, Any]]:
    """Return the model in a folder, in evaluation mode, and its manifest.

    Raises:
        ModelFolderError: There is none, or it is not one of moving points.
    """
    content = read_model(folder)
    manifest = content.manifest
    if manifest.get("kind") != "graphs":
        raise ModelFolderError(
            f"{folder}: a model of kind '{manifest.get('kind')}', not of trajectories; name one that "
            "parser-vae graphs train wrote"
        )
    try:
        model = GraphModel(ModelSettings.model_validate(manifest["model"]), manifest["frames"], manifest["dimensions"])
        model.load_state_dict(content.tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelFolderError(
            f"{folder}: does not fit together ({str(error).splitlines()[0]}); train the model again"
        ) from None
    return model.eval(), manifest


def require_fitting(model: GraphModel, data: Trajectories, path: Path) -> None:
    """Raise ``InputError`` unless trajectories have the frames and dimensions that the model was trained on."""
    _, frames, _, dimensions = data.positions.shape
    if (frames, dimensions) != (model.frames, model.dimensions):
        raise InputError(
            f"{path}: {frames} frames of {dimensions} dimensions, but the model was trained on {model.frames} of "
            f"{model.dimensions}; cut the trajectories to that, or train a model on them"
        )


def _data(settings: GraphsSettings) -> tuple[Trajectories, Trajectories]:
    """Return (train, dev); without a dev file the last tenth of the training samples is held out."""
    data = read_trajectories(settings.data.train)
    most = settings.training.dev_samples
    if settings.data.dev is not None:
        dev = read_trajectories(settings.data.dev)
        if dev.positions.shape[1:] != data.positions.shape[1:]:
            shapes = [" x ".join(map(str, part.positions.shape[1:])) for part in (dev, data)]
            raise InputError(
                f"{settings.data.dev}: samples of {shapes[0]}, but those of {settings.data.train} are {shapes[1]} "
                "(time x points x dimensions)"
            )
        return data, dev[:most]
    held_out = len(data) // 10
    if held_out < 1:
        raise InputError(
            f"{settings.data.train}: {len(data)} samples are too few to hold some out for selection; give others "
            "with --dev"
        )
    return data[:-held_out], data[-held_out:][:most]


def _first_model(settings: GraphsSettings, data: Trajectories, begun: bool) -> GraphModel:
    """Return the model to train: random, or a former one, which is shown positions on the scale of the new data.

    A run that has begun brings its weights.
    """
    if settings.data.init is None or begun:
        model = GraphModel(settings.model, data.positions.shape[1], data.positions.shape[3])
    else:
        model, _ = load_graph_model(settings.data.init)
        require_fitting(model, data, settings.data.train)
        if model.settings != settings.model:
            raise ConfigError(
                f"model.hidden is {settings.model.hidden}, but {settings.data.init} has {model.settings.hidden} units "
                f"in a hidden layer; say --set model.hidden={model.settings.hidden}"
            )
    model.fit_extremes(data.positions)
    return model


def _evaluate_every(settings: GraphsSettings) -> int:
    """Return the updates between two looks at the dev samples: no more than there are, and a whole part of them."""
    updates, every = settings.training.updates, settings.training.evaluate_every
    if updates > every and updates % every:
        raise ConfigError(
            f"training.updates is {updates}, not a multiple of training.evaluate_every, {every}; "
            f"{updates - updates % every} or {updates - updates % every + every} updates would be"
        )
    swap_after = settings.training.swap_after
    if swap_after is not None and (swap_after % every or swap_after >= updates):
        raise ConfigError(
            f"training.swap_after is {swap_after}; expected a multiple of training.evaluate_every, {every} (or a "
            f"smaller one), that is less than training.updates, {updates}"
        )
    return min(updates, every)


def _require_room(settings: GraphsSettings, data: Trajectories, every: int) -> None:
    """Raise ``ConfigError`` unless an update fits into memory, before the run begins."""
    frames, points, dimensions = data.positions.shape[1:]
    batch = settings.training.batch_size
    samples = getattr(getattr(settings, settings.method, None), "samples", 1)
    sampled = f", {settings.method}.samples = {samples}" if samples > 1 else ""
    require_memory(
        BYTES_OF_A_NUMBER * batch * every,
        f"training.evaluate_every = {every} with training.batch_size = {batch}",
        "look at the dev samples more often",
    )
    require_memory(
        training_bytes(settings.model, frames, points, dimensions, batch * samples),
        f"model.hidden = {settings.model.hidden} with training.batch_size = {batch}{sampled} on {points} points",
        "take less of one of them",
    )


def _manifest(
    settings: GraphsSettings, model: GraphModel, data: Trajectories, result: GraphsResult
) -> Mapping[str, Any]:
    return {
        "kind": "graphs",
        "structure": settings.latent,
        "frames": model.frames,
        "dimensions": model.dimensions,
        "points": data.positions.shape[2],
        "model": settings.model.model_dump(mode="json"),
        "method": settings.method,
        "divergence": settings.objective.divergence,
        "max_range": settings.objective.max_range,
        "scores": {name: value if math.isfinite(value) else None for name, value in result.dev.items()},
        "epoch": result.outcome.chosen[""],
    }


def _card(settings: GraphsSettings, result: GraphsResult) -> str:
    """Return the model card, as Markdown."""
    scores = result.dev
    lines = [
        "# Edges between moving points, inferred from their trajectories",
        "",
        f"- Latent: {'a spanning tree' if settings.latent == 'tree' else 'n - 1 edges'}; method: {settings.method}; "
        f"true positions every {settings.objective.teacher_forcing} frames",
        f"- Trained on: `{settings.data.train}`, {result.outcome.steps} updates of {settings.training.batch_size} "
        f"samples in {result.outcome.seconds:.0f} s, seed {settings.training.seed}"
        + (f", from `{settings.data.init}`" if settings.data.init else ""),
        f"- On the samples it was selected on: ELBO {scores['elbo']:.1f} per point",
    ]
    if "f1" in scores:
        lines.append(
            f"- Edges recovered there: F1 {scores['f1']:.1f}% of one draw, {scores['best_f1']:.1f}% of the best"
        )
    return "\n".join(lines) + "\n\n## Use\n\n    parser-vae graphs show THIS_FOLDER --data FILE --out picture.png\n"
