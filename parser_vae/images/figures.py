"""Plots of a comparison as PNG files, and the page that holds tables and plots together."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from parser_vae.errors import InputError
from parser_vae.files import replacing, write_text_atomically
from parser_vae.images.compare import Finished, mean_of, smallest, summaries, table
from parser_vae.images.recipes import Recipe
from parser_vae.images.train import SHEET

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPORT = "report.md"


def write_report(name: str, recipe: Recipe, scale: str, finished: Sequence[Finished], out: Path) -> str:
    """Write plots and ``report.md`` to ``out`` and return the text of the latter."""
    seeds = sorted({one.cell.seed for one in finished})
    text = [
        f"# {recipe.title}",
        f"After {recipe.source}. The paper: {recipe.claim}",
        *([f"Done otherwise here: {recipe.differences}"] if recipe.differences else []),
        f"Scale `{scale}`, seeds {', '.join(map(str, seeds))}; means with 95% intervals (Student's t) over seeds.",
    ]
    for measure in recipe.measures:
        text += [f"## {measure.replace('_', ' ')}", table(recipe, finished, measure)]
    if lines := smallest(recipe, finished):
        text += ["## Smallest value that reaches the reference", "\n".join(f"- {line}" for line in lines)]
    for kind in recipe.plots:
        path = out / f"{kind}.png"
        if plot(recipe, finished, kind, path):
            text.append(f"![{kind}]({path.name})")
    if recipe.kind == "training":
        text.append("## Pictures")
        first = {(one.cell.arm, one.cell.key): one for one in reversed(finished)}
        for (arm, key), one in sorted(first.items()):
            label = f"{arm} {key}".strip()
            text += [f"{label}:", f"![{label}](runs/{one.cell.folder}/{SHEET})"]
    content = "\n\n".join(text) + "\n"
    write_text_atomically(out / REPORT, content)
    return content


def plot(recipe: Recipe, finished: Sequence[Finished], kind: str, path: Path) -> bool:
    """Write one plot and return whether there was anything to draw.

    It has a panel for each combination of shared values, a line for each arm and bands over seeds.

    ``epochs`` and ``seconds`` draw the recipe's curve; ``axis`` draws each measure against the arms' own axis, or
    against the last shared one.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise InputError("plots need matplotlib; pip install 'parser-vae[plots]'") from None
    panels = _axis_panels(recipe, finished) if kind == "axis" else _curve_panels(recipe, finished, kind)
    if not panels:
        return False
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    for number, (title, lines) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        for label, points in lines.items():
            _line(axes, label, points)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel({"epochs": "epoch", "seconds": "seconds of training"}.get(kind, _axis_name(finished)))
        if kind == "epochs":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(recipe.curve.replace("_", " ") if kind != "axis" else title.split(",")[0])
        if kind == "axis" and recipe.kind == "gradients":
            axes.set_xscale("log")
            if not title.startswith("cosine"):
                axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    with replacing(path) as file:
        file.write(content.getvalue())
    return True


Points = list[tuple[float, float, float | None]]
"""Places, means and half-widths."""


def _line(axes: Axes, label: str, points: Points) -> None:
    across = [point[0] for point in points]
    middle = [point[1] for point in points]
    axes.plot(across, middle, label=label, marker="o" if len(points) < 15 else None, markersize=3)
    if all(point[2] is not None for point in points):
        low = [point[1] - (point[2] or 0) for point in points]
        high = [point[1] + (point[2] or 0) for point in points]
        axes.fill_between(across, low, high, alpha=0.2)


def _curve_panels(recipe: Recipe, finished: Sequence[Finished], kind: str) -> dict[str, dict[str, Points]]:
    panels: dict[str, dict[str, Points]] = {}
    groups: dict[tuple[str, str], list[Finished]] = {}
    for one in finished:
        shared = list(one.cell.values.items())[: len(one.cell.values) - one.cell.own]
        own = list(one.cell.values.items())[len(shared) :]
        label = " ".join([one.cell.arm, *(f"{axis.split('.')[-1]}={value}" for axis, value in own)])
        groups.setdefault((" ".join(str(value) for _, value in shared), label), []).append(one)
    for (title, label), runs in groups.items():
        histories = [run.result["history"] for run in runs]
        points: Points = []
        for entries in zip(*histories, strict=False):
            values = [entry.get(recipe.curve) for entry in entries]
            if any(value is None for value in values):
                continue
            mean = mean_of(values)
            place = sum(e["epoch"] if kind == "epochs" else e["trained_seconds"] for e in entries) / len(entries)
            points.append((place, mean.value, mean.half_width))
        panels.setdefault(title, {})[label] = points
    return panels


def _axis_panels(recipe: Recipe, finished: Sequence[Finished]) -> dict[str, dict[str, Points]]:
    panels: dict[str, dict[str, Points]] = {}
    for measure in recipe.measures:
        means = summaries(finished, measure)
        seen: set[tuple[str, str]] = set()
        for one in finished:
            place = (one.cell.arm, one.cell.key)
            if place in seen or place not in means or not one.cell.values:
                continue
            seen.add(place)
            *others, (_, last) = one.cell.values.items()
            title = ", ".join([measure.replace("_", " "), *(str(value) for _, value in others)])
            mean = means[place]
            panels.setdefault(title, {}).setdefault(one.cell.arm, []).append((float(last), mean.value, mean.half_width))
    return {title: {arm: sorted(points) for arm, points in lines.items()} for title, lines in panels.items()}


def _axis_name(finished: Sequence[Finished]) -> str:
    names = dict.fromkeys(list(one.cell.values)[-1] for one in finished if one.cell.values)
    return " or ".join(name.split(".")[-1] for name in names)
