"""Pictures: moving points with true and inferred edges side by side, and learning curves. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from parser_vae.errors import InputError
from parser_vae.files import replacing
from parser_vae.graphs.measure import infer, recovery
from parser_vae.graphs.problem import structure_of
from parser_vae.graphs.train import load_graph_model, require_fitting
from parser_vae.graphs.trajectories import read_trajectories
from parser_vae.training.progress import read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG, MISSED = "#1b7837", "#c51b7d", "#999999"  # told apart by line style as well
STEPS_BETWEEN_FRAMES = 3  # of the animation, so that points glide
MILLISECONDS = 130
STILLS = ("png", "svg", "pdf")
SWITCHED = "labels switched: shown are the pairs that the model does not call edges"


def draw_samples(folder: Path, path: Path, out: Path, chosen: slice) -> None:
    """Draw samples of ``path`` with true edges (where known) above those that the model finds best.

    A still shows each point's way from pale to dark; a ``.gif`` moves the points. Where labels are switched, the
    complement of what the model calls edges is drawn, and the picture's title says so.

    Raises:
        ModelFolderError: The folder holds no such model.
        InputError: The trajectories are malformed or do not fit the model, there is no such sample, matplotlib is
            missing, or it cannot write such files.
    """
    require_drawable(out, (*STILLS, "gif"))
    data = read_trajectories(path)
    model, manifest = load_graph_model(folder)
    require_fitting(model, data, path)
    if model.dimensions != 2:
        raise InputError(f"{path}: points in {model.dimensions} dimensions; only those in a plane can be drawn")
    if chosen.start >= len(data):
        raise InputError(f"{path}: has {len(data)} samples, 0 to {len(data) - 1}; there is no sample {chosen.start}")
    # The whole file decides whether "edge" means edge; see Recovery.
    structure = structure_of(manifest["structure"], data.positions.shape[2], manifest.get("max_range"))
    inference = infer(model, structure, data.positions, divergence=manifest.get("divergence", "gumbel"))
    switched = data.edges is not None and recovery(inference.drawn, data.edges).switched
    best = ~inference.best if switched else inference.best
    scene = _Scene(
        data.positions[chosen],
        best[chosen],
        None if data.edges is None else data.edges[chosen],
        chosen.start,
        SWITCHED if switched else "",
    )
    size = (3 * len(scene.positions), 3.2 * scene.rows + (1.0 if switched else 0.7))
    figure = _figure_class()(figsize=size, layout="constrained")
    if out.suffix.lower() == ".gif":
        _animate(figure, scene, out)
    else:
        scene.draw(figure, data.positions.shape[1] - 1.0, trails=True)
        _save(figure, out)


class _Scene:
    """Some samples with their edges, ready to be drawn at any time."""

    def __init__(self, positions: Tensor, inferred: Tensor, true: Tensor | None, first: int, title: str) -> None:
        self.positions, self.inferred, self.true, self.first, self.title = positions, inferred, true, first, title
        self.rows = 1 if true is None else 2
        points = positions.shape[2]
        self.pairs = torch.triu_indices(points, points, 1).T.tolist()

    def draw(self, figure: Figure, time: float, trails: bool) -> None:
        """Draw all samples at a time, in frames; between two frames points are on the straight line."""
        if self.title:
            figure.suptitle(fill(self.title, 32 * len(self.positions)), fontsize=11)
        grid: Any = figure.subplots(self.rows, len(self.positions), squeeze=False)
        for column in range(len(self.positions)):
            for row in range(self.rows):
                self._draw_one(grid[row][column], column, row, time, trails)
        grid[self.rows - 1][0].set_ylabel("inferred", fontsize=12)
        if self.true is not None:
            grid[0][0].set_ylabel("true", fontsize=12)
            lines = [self._line(grid[1][0], (), (), kind) for kind in ("right", "wrong", "missed")]
            labels = ["inferred, true", "inferred, not true", "true, not inferred"]
            figure.legend(lines, labels, loc="outside lower center", ncols=3, frameon=False)

    def _draw_one(self, axes: Axes, column: int, row: int, time: float, trails: bool) -> None:
        positions = self.positions[column].numpy()
        before = min(int(time), len(positions) - 2)
        now = positions[before] + (time - before) * (positions[before + 1] - positions[before])
        if self.true is None:
            kinds = ["right" if edge else "" for edge in self.inferred[column]]
        elif row == 0:
            kinds = ["true" if edge else "" for edge in self.true[column]]
        else:
            both = zip(self.inferred[column].tolist(), self.true[column].tolist(), strict=True)
            kinds = [{(1, 1): "right", (1, 0): "wrong", (0, 1): "missed"}.get(edge, "") for edge in both]
        for (a, b), kind in zip(self.pairs, kinds, strict=True):
            if kind:
                self._line(axes, (now[a, 0], now[b, 0]), (now[a, 1], now[b, 1]), kind)
        colours = [f"C{point % 10}" for point in range(positions.shape[1])]
        places = positions if trails else np.concatenate([positions[: before + 1], now[None]])
        for frame in range(len(places) - 1):
            shade = 0.15 + 0.45 * (frame + 1) / len(positions)
            for point, colour in enumerate(colours):
                way = places[frame : frame + 2, point]
                axes.plot(way[:, 0], way[:, 1], color=colour, alpha=shade, linewidth=1.5, zorder=1)
        axes.scatter(now[:, 0], now[:, 1], c=colours, s=60, edgecolors="white", zorder=3)
        low, high = self.positions.amin((0, 1, 2)), self.positions.amax((0, 1, 2))
        (left, right), (bottom, top) = torch.stack([low - 0.08 * (high - low), high + 0.08 * (high - low)], 1).tolist()
        axes.set(xlim=(left, right), ylim=(bottom, top))
        axes.set(xticks=[], yticks=[], aspect="equal")
        if row == 0:
            axes.set_title(f"sample {self.first + column}", fontsize=10)
        if row == 1 and self.true is not None:
            right = int((self.inferred[column] & self.true[column]).sum())
            axes.set_xlabel(f"{right} of {int(self.true[column].sum())} edges found", fontsize=10)

    @staticmethod
    def _line(axes: Axes, x: Sequence[Any], y: Sequence[Any], kind: str) -> Any:
        style = {
            "true": {"color": "#333333", "linewidth": 2.5},
            "right": {"color": RIGHT, "linewidth": 2.5},
            "wrong": {"color": WRONG, "linewidth": 2.5, "linestyle": "--"},
            "missed": {"color": MISSED, "linewidth": 2, "linestyle": ":"},
        }[kind]
        return axes.plot(x, y, zorder=2, **style)[0]  # type: ignore[arg-type]


def _animate(figure: Figure, scene: _Scene, out: Path) -> None:
    """Write the scene over time as an animated GIF that pauses at its end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    frames = scene.positions.shape[1]
    figure.set_dpi(60)
    pictures: list[Image.Image] = []
    for step in range((frames - 1) * STEPS_BETWEEN_FRAMES + 1):
        figure.clear()
        scene.draw(figure, step / STEPS_BETWEEN_FRAMES, trails=False)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    # One palette for all, or the colours flicker; without dithering, which looks worse here and takes twice the space.
    palette = pictures[-1].quantize(64)
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [MILLISECONDS] * (len(pictures) - 1) + [1500]
    with replacing(out) as file:
        pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def draw_curves(folders: Sequence[Path], out: Path) -> None:
    """Draw the bound and, where true edges were known, F1 on the dev samples over the updates, a line for each model.

    Raises:
        InputError: matplotlib is missing, or cannot write such files.
    """
    require_drawable(out, STILLS)
    figure = _figure_class()(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for folder in folders:
        history = [event for event in read_log(folder / "log.jsonl") if event["event"] == "epoch"]
        steps = [event["steps"] for event in history]
        left.plot(steps, [event["dev_elbo"] for event in history], label=folder.name)
        if "dev_f1" in history[0]:
            right.plot(steps, [event["dev_f1"] for event in history], label=folder.name)
    left.set(xlabel="updates", ylabel="ELBO per point, dev")
    right.set(xlabel="updates", ylabel="edge F1 of one draw, dev (%)", ylim=(0, 100))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(frameon=False)
    _save(figure, out)


def require_drawable(out: Path, kinds: Sequence[str] = STILLS) -> None:
    """Raise ``InputError`` unless a picture of one of these kinds, by its ending, can be written to ``out``."""
    _figure_class()
    if out.suffix.removeprefix(".").lower() not in kinds:
        *most, last = (f".{kind}" for kind in kinds)
        raise InputError(f"{out}: cannot draw that; name a file that ends in {', '.join(most)} or {last}")


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("pictures need matplotlib; pip install 'parser-vae[plots]'") from None
    return Figure


def _save(figure: Figure, out: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format=out.suffix.removeprefix(".").lower(), dpi=110)
    with replacing(out) as file:
        file.write(picture.getvalue())
