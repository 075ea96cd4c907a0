"""Recipes of comparisons: which models are trained side by side, at which scale, and what a paper says about them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from parser_vae.errors import ConfigError, InputError
from parser_vae.images.settings import ImageSettings
from parser_vae.training.config import Settings, leaves, load_settings, settings_from

ScaleName = Literal["smoke", "small", "paper"]


class Scale(Settings):
    """How much of a comparison is run."""

    seeds: list[int] = Field(min_length=1, description="one run of every cell for each")
    settings: dict[str, Any] = Field({}, description="settings of images train that replace the recipe's")
    axes: dict[str, list[Any]] = Field({}, description="values that replace those of axes of the recipe or its arms")
    draws: int = Field(1000, ge=2, description="gradient estimates per cell, where gradients are compared")


class Arm(Settings):
    """One of the contestants."""

    settings: dict[str, Any] = Field({}, description="settings of images train")
    axes: dict[str, list[Any]] = Field({}, description="further axes, of this arm alone")


class Smallest(Settings):
    """A question to a finished comparison: the smallest value of an axis at which an arm is as good as another."""

    arm: str = Field(description="the arm that has the axis")
    axis: str = Field(description="the axis, from good value for money to bad")
    reference: str = Field(description="the arm to be reached")


class Recipe(Settings):
    """A comparison."""

    title: str = Field(description="what is compared")
    source: str = Field(description="the table or figure it follows")
    claim: str = Field(description="what the paper says it shows")
    differences: str = Field("", description="what is done otherwise than in the paper")
    kind: Literal["training", "gradients"] = Field(
        "training", description="training: every cell is a training; gradients: estimates at one trained model"
    )
    measures: list[str] = Field(["bound"], min_length=1, description="one table for each")
    curve: str = Field("test_bound", description="the value of an epoch that is plotted")
    plots: list[Literal["epochs", "seconds", "axis"]] = Field([], description="plots against what")
    settings: dict[str, Any] = Field({}, description="settings of images train that all cells share")
    axes: dict[str, list[Any]] = Field({}, description="settings whose values are crossed, by dotted name")
    arms: dict[str, Arm] = Field(min_length=1, description="the contestants")
    smallest: Smallest | None = Field(None, description="a question about an arm's own axis")
    paper: dict[str, dict[str, float]] = Field(
        {}, description="the paper's numbers of the first measure, by arm and by the values of the axes joined by /"
    )
    scales: dict[ScaleName, Scale] = Field(description="smoke, small and paper")

    @model_validator(mode="after")
    def _can_be_answered(self) -> Recipe:
        """Refuse plots and questions that no run could answer, before any has begun."""
        if self.kind == "gradients" and (timed := [kind for kind in self.plots if kind != "axis"]):
            raise ValueError(f"plots against {timed[0]} are of trainings, and the recipe's kind is gradients")
        if "axis" in self.plots:
            plotted = [list((self.axes | arm.axes).items())[-1] for arm in self.arms.values() if self.axes or arm.axes]
            plotted += [
                (name, size.axes[name]) for size in self.scales.values() for name, _ in plotted if name in size.axes
            ]
            if not plotted:
                raise ValueError("plots against an axis need one; give axes, or leave 'axis' out of plots")
            for name, values in plotted:
                if wrong := [value for value in values if not isinstance(value, int | float)]:
                    raise ValueError(
                        f"plots against an axis need numbers, and {name} is '{wrong[0]}'; leave 'axis' out of plots"
                    )
        for name, arm in self.arms.items():
            if twice := set(self.axes) & set(arm.axes):
                raise ValueError(f"axes: {', '.join(sorted(twice))} is shared, so arms.{name}.axes cannot have it too")
            if "training.seed" in self.axes | arm.axes:
                raise ValueError("axes: training.seed is set by the seeds of a scale; leave it out")
        if (question := self.smallest) is not None:
            if unknown := {question.arm, question.reference} - set(self.arms):
                raise ValueError(f"smallest: no arm {', '.join(sorted(unknown))}; there are {', '.join(self.arms)}")
            own = list(self.arms[question.arm].axes)
            if own != [question.axis]:
                raise ValueError(
                    f"smallest: {question.arm} must have {question.axis} as its only axis of its own; it has "
                    f"{', '.join(own) or 'none'}"
                )
            if self.arms[question.reference].axes:
                raise ValueError(f"smallest: {question.reference} must have no axes of its own, to be one number")
        return self


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes:
        arm: The contestant.
        values: The values of the axes, those of the arm alone last.
        own: How many of the last values belong to axes of the arm alone.
        seed: The seed.
        settings: Everything that training is told.
        base: The settings of the model at which gradients are compared; those of the recipe and its axes only.
    """

    arm: str
    values: dict[str, Any]
    own: int
    seed: int
    settings: ImageSettings
    base: ImageSettings

    @property
    def folder(self) -> str:
        """Return the name of the cell's folder."""
        return "/".join([self.arm, *map(str, self.values.values()), f"seed-{self.seed}"])

    @property
    def key(self) -> str:
        """Return the values joined by slashes."""
        return key_of(self.values)


def read_recipe(name: str) -> tuple[str, Recipe]:
    """Return the short name and the recipe of a TOML file, or of one that comes with the package, by its name.

    Raises:
        InputError: There is no such recipe, or it is malformed.
    """
    path = Path(name)
    if not path.is_file():
        bundled = Path(str(files("parser_vae.configs"))) / "images"
        known = sorted(one.stem for one in bundled.glob("*.toml"))
        if name not in known:
            raise InputError(f"{name}: no such file, nor a recipe that comes with the package: {', '.join(known)}")
        path = bundled / f"{name}.toml"
    return path.stem, load_settings(Recipe, path)


def cells_of(recipe: Recipe, scale: str, data: Path | None = None, only: str | None = None) -> list[Cell]:
    """Return the runs of a recipe at a scale, arms innermost, so that what is compared is run side by side.

    Raises:
        ConfigError: The recipe has no such scale or arm, or a setting in it is wrong.
    """
    if scale not in recipe.scales:
        raise ConfigError(f"--scale {scale}: the recipe has {', '.join(recipe.scales)}")
    if only is not None and only not in recipe.arms:
        raise ConfigError(f"--only {only}: the recipe's arms are {', '.join(recipe.arms)}")
    size = recipe.scales[scale]
    known = set(recipe.axes).union(*(arm.axes for arm in recipe.arms.values()))
    if unknown := set(size.axes) - known:
        raise ConfigError(f"scales.{scale}.axes: no axis {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    _require_names(recipe, size)
    cells = []
    for seed in size.seeds:
        for shared in _product(recipe.axes | {k: v for k, v in size.axes.items() if k in recipe.axes}):
            layers = [dict(leaves(recipe.settings)), dict(leaves(size.settings)), shared, {"training.seed": seed}]
            if data is not None:
                layers.append({"data.folder": str(data)})
            for name, arm in recipe.arms.items():
                if only not in (None, name):
                    continue
                for own in _product(arm.axes | {k: v for k, v in size.axes.items() if k in arm.axes}):
                    settings = _settings([*layers, dict(leaves(arm.settings)), own])
                    cells.append(Cell(name, shared | own, len(own), seed, settings, _settings(layers)))
    return cells


def _require_names(recipe: Recipe, size: Scale) -> None:
    """Raise ``ConfigError`` unless every run gets a folder of its own within the comparison's."""
    every = [recipe.axes, size.axes, *(arm.axes for arm in recipe.arms.values())]
    names: list[tuple[str, list[Any]]] = [("arms", list(recipe.arms)), ("seeds", list(size.seeds))]
    for place, values in names + [(f"axes.{name}", values) for axes in every for name, values in axes.items()]:
        wrong = [value for value in values if not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", str(value))]
        if wrong or not values or len(set(map(str, values))) < len(values):
            raise ConfigError(
                f"the recipe's {place} are {', '.join(map(str, values)) or 'none'}; expected at least one, none "
                "twice, made of letters, digits, points, plus, minus and underscores"
            )


def key_of(values: Mapping[str, Any]) -> str:
    """Return the values of axes joined by slashes."""
    return "/".join(map(str, values.values()))


def _product(axes: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _settings(layers: Sequence[Mapping[str, Any]]) -> ImageSettings:
    """Return the settings of several layers by dotted key, later ones over earlier ones."""
    return settings_from(ImageSettings, {key: value for layer in layers for key, value in layer.items()}, "the recipe")
