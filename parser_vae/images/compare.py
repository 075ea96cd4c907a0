"""Running a comparison, and its results as JSON and as Markdown tables with intervals."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from parser_vae.errors import InputError
from parser_vae.files import write_text_atomically
from parser_vae.images.data import ImageSet
from parser_vae.images.probes import bias_and_variance, encoder_gradients
from parser_vae.images.recipes import Cell, Recipe, cells_of, key_of
from parser_vae.images.settings import ImageSettings
from parser_vae.images.train import RESULT, load_for, load_trained, train, train_batch
from parser_vae.training.checkpoint import CONFIG, MANIFEST, prepare_output, remove_state
from parser_vae.training.config import dump_settings, load_settings, require_same_settings
from parser_vae.training.method_settings import build_method
from parser_vae.training.progress import Progress

RESULTS = "results.json"


@dataclass(frozen=True)
class Finished:
    """A cell and what came of it (``result.json``)."""

    cell: Cell
    result: dict[str, Any]

    def value(self, measure: str) -> float | None:
        """Return a measure: of the test images, of the run, or of its last epoch; None where it has no such thing."""
        for place in (self.result.get("test", {}), self.result, (self.result.get("history") or [{}])[-1]):
            if isinstance(found := place.get(measure), int | float):
                return float(found)
        return None


@dataclass(frozen=True)
class Mean:
    """The mean over seeds and the half-width of its 95% interval (Student's t); None for a single seed."""

    value: float
    half_width: float | None
    seeds: int

    def __str__(self) -> str:
        """Return both numbers with as many digits as say something."""
        digits = max(0, 2 - math.floor(math.log10(max(abs(self.value), 1e-9))))
        digits = min(4, max(digits, 2 if abs(self.value) < 1000 else 0))
        shown = f"{self.value:.{digits}f}"
        return shown if self.half_width is None else f"{shown} ± {self.half_width:.{digits}f}"


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of independent runs with its interval."""
    if len(values) == 1:
        return Mean(values[0], None, 1)
    from scipy.stats import t  # here, because it is slow to import

    spread = torch.tensor(values, dtype=torch.float64)
    error = float(spread.std()) / math.sqrt(len(values))
    return Mean(float(spread.mean()), float(t.ppf(0.975, len(values) - 1)) * error, len(values))


def compare(
    name: str,
    recipe: Recipe,
    scale: str,
    out: Path,
    *,
    progress: Progress,
    data: Path | None = None,
    only: str | None = None,
    device: str = "cpu",
) -> list[Finished]:
    """Run what is not yet done of a comparison, write ``results.json`` and return all finished cells.

    Every cell has its folder in ``out/runs``; a run that was stopped goes on where it was.

    Raises:
        InputError: ``out`` holds runs with other settings, or images are missing.
        KeyboardInterrupt: The user asked to stop; the same command goes on.
    """
    cells = cells_of(recipe, scale, data, only)

    images = functools.lru_cache(maxsize=2)(load_for)
    finished = []
    for number, cell in enumerate(cells, start=1):
        progress.event("note", text=f"[{number}/{len(cells)}] {cell.folder}")
        folder = out / "runs" / cell.folder
        if recipe.kind == "training":
            result = _train(cell.settings, folder, images(cell.settings.data), progress, device)
        else:
            base = out / "runs" / "base" / _shared_folder(cell)
            _train(cell.base, base, images(cell.base.data), progress, device)
            draws = recipe.scales[scale].draws  # type: ignore[index]
            result = _gradients(cell, base, folder, images(cell.base.data), draws)
        finished.append(Finished(cell, result))
    content = {
        "recipe": name,
        "scale": scale,
        "source": recipe.source,
        "claim": recipe.claim,
        "cells": [
            {"arm": one.cell.arm, "values": one.cell.values, "seed": one.cell.seed, **one.result} for one in finished
        ],
    }
    write_text_atomically(out / RESULTS, json.dumps(content, indent=1) + "\n")
    return finished


def table(recipe: Recipe, finished: Sequence[Finished], measure: str) -> str:
    """Return one measure as a Markdown table: a row for each combination of values, a column for each arm.

    The first measure's cells also show the paper's number where it has one.
    """
    arms = list(dict.fromkeys(one.cell.arm for one in finished))
    rows = list(dict.fromkeys(one.cell.key for one in finished))
    axes = list(dict.fromkeys(axis for one in finished for axis in one.cell.values))
    values: dict[str, dict[str, Any]] = {}
    for one in finished:
        values.setdefault(one.cell.key, {}).update(one.cell.values)  # arms may have axes of different names
    means = summaries(finished, measure)
    if not means:
        return f"No run has a measure of this name; they have {', '.join(sorted(finished[0].result.get('test', {})))}."
    lines = [
        "| " + " | ".join([*axes, *arms]) + " |",
        "|" + " --- |" * (len(axes) + len(arms)),
    ]
    for row in rows:
        shown = [str(values[row].get(axis, "")) for axis in axes]
        for arm in arms:
            mean = means.get((arm, row))
            paper = recipe.paper.get(arm, {}).get(row) if measure == recipe.measures[0] else None
            text = "" if mean is None else str(mean)
            shown.append(text if paper is None or not text else f"{text} (paper {paper:g})")
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def summaries(finished: Sequence[Finished], measure: str) -> dict[tuple[str, str], Mean]:
    """Return the mean over seeds by arm and row."""
    groups: dict[tuple[str, str], list[float]] = {}
    for one in finished:
        value = one.value(measure)
        if value is not None:
            groups.setdefault((one.cell.arm, one.cell.key), []).append(value)
    return {place: mean_of(values) for place, values in groups.items()}


def smallest(recipe: Recipe, finished: Sequence[Finished]) -> list[str]:
    """Return for each shared row the smallest value at which the arm's mean is no worse than the reference's."""
    question = recipe.smallest
    if question is None:
        return []
    means = summaries(finished, recipe.measures[0])
    lines = []
    for one in dict.fromkeys(_shared_key(each.cell) for each in finished):
        reference = means.get((question.reference, one))
        if reference is None:
            continue
        tried = {
            each.cell.values[question.axis]: means[question.arm, each.cell.key].value
            for each in finished
            if (question.arm, each.cell.key) in means
            and each.cell.arm == question.arm
            and _shared_key(each.cell) == one
        }
        if not tried:
            continue
        reached = [value for value in sorted(tried) if tried[value] <= reference.value]
        answer = f"{question.axis} = {reached[0]}" if reached else f"none of {', '.join(map(str, sorted(tried)))}"
        lines.append(f"{one}: {question.arm} reaches {question.reference} ({reference}) with {answer}")
    return lines


def _shared_key(cell: Cell) -> str:
    return key_of(dict(list(cell.values.items())[: len(cell.values) - cell.own]))


def _shared_folder(cell: Cell) -> str:
    return "/".join([part for part in (_shared_key(cell), f"seed-{cell.seed}") if part])


def _train(settings: ImageSettings, folder: Path, images: ImageSet, progress: Progress, device: str) -> dict[str, Any]:
    """Return the result of a training, made now unless it is there already."""
    if _recorded(folder, settings):
        return _read(folder)

    def begin() -> None:
        prepare_output(folder, resume=True, overwrite=False)
        write_text_atomically(folder / CONFIG, dump_settings(settings))

    trained = train(settings, folder, resume=True, progress=progress, begin=begin, device=device, images=images)
    remove_state(folder)
    return trained.result


def _gradients(cell: Cell, base: Path, folder: Path, images: ImageSet, draws: int) -> dict[str, Any]:
    """Return bias and variance of a cell's method at the trained model, on one batch of train images."""
    if _recorded(folder, cell.settings) and _read(folder)["draws"] == draws:
        return _read(folder)
    _, problem = load_trained(base)
    size = cell.settings.training.batch_size
    batch = train_batch(
        cell.settings, images.train.pixels[:size], problem, torch.Generator().manual_seed(0), torch.device("cpu")
    )
    exact = encoder_gradients(problem, build_method("enumeration", cell.base), batch, 1)[0]
    estimates = encoder_gradients(problem, build_method(cell.settings.method, cell.settings), batch, draws, cell.seed)
    result = {"test": bias_and_variance(estimates, exact), "draws": draws}
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / CONFIG, dump_settings(cell.settings))
    write_text_atomically(folder / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def _recorded(folder: Path, settings: ImageSettings) -> bool:
    """Return whether a run with these settings has ended in ``folder``.

    Raises:
        InputError: One with other settings is there.
    """
    if not (folder / CONFIG).is_file():
        return False
    try:
        require_same_settings(load_settings(ImageSettings, folder / CONFIG), settings, folder)
    except InputError as error:
        raise InputError(f"{folder} holds a run with other settings ({error}); name another --out") from None
    return (folder / RESULT).is_file() and ((folder / MANIFEST).is_file() or "draws" in _read(folder))


def _read(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    assert isinstance(content, Mapping)
    return dict(content)
