"""What a sweep is told: methods, treebank pairs, seeds, and the cells they make."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from parser_vae.errors import ConfigError, InputError
from parser_vae.methods import METHODS
from parser_vae.training.adapt import RECIPES
from parser_vae.training.config import Settings, leaves, nearest_key, settings_from
from parser_vae.training.settings import AdaptSettings, PretrainSettings

SOURCE, CONTROL = "source", "control"  # what is no method: no adaptation; more training on the source
SETUPS = "treebanks/setups.json"
_NAME = re.compile(r"[\w.+-]*\w[\w.+-]*")


class PairSettings(Settings):
    """One source treebank and one target domain; paths are relative to the data folder."""

    name: str = Field(description="as tables call it, by custom SOURCE__TARGET")
    source_train: Path = Field(description="labelled source sentences")
    source_dev: Path = Field(description="labelled source sentences to select on")
    target_unlabeled: Path = Field(description="raw target sentences")
    target_test: Path = Field(description="labelled target sentences, only scored")

    @property
    def source(self) -> str:
        """Return what names the source model: the part of the name before ``__``."""
        return self.name.partition("__")[0]

    @property
    def language(self) -> str:
        """Return what names the word vectors: the part of the source's name before ``_``."""
        return self.source.partition("_")[0]


class SourceModels(Settings):
    """The source models that all methods of a pair and seed start from; relative paths lie in the sweep's folder."""

    models: str = Field("sources/{source}.{seed}", description="model folders; those that are missing are pretrained")
    vectors: str | None = Field(None, description="word vectors by {language}; trained where missing; default: none")
    text: str = Field(
        "text/{language}.txt.gz",
        description="text in the data folder for vectors; without it, the words of source and target",
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of pretrain, by dotted key")


class MethodRow(Settings):
    """One row of the table: a way to adapt, with its settings."""

    name: str = Field(description="as tables and folders call it")
    method: str = Field(description="a method of adapt; source: no adaptation; control: more training on the source")
    like: str | None = Field(None, description="for control: the row whose CPU seconds it gets, pair by pair")
    teachers: list[int] = Field(default_factory=list, description="seeds of source models that teach as well")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of adapt, by dotted key")
    published: dict[str, float] = Field(default_factory=dict, description="UAS without punctuation elsewhere, by pair")


class SweepSettings(Settings):
    """Everything a sweep is told: methods x pairs x seeds."""

    title: str = Field("Sweep", description="the heading of the tables")
    data: Path | None = Field(
        None, description=f"folder with {SETUPS}, to which paths of pairs are relative; default: the current one"
    )
    pairs: list[str] = Field(default_factory=list, description=f"names of pairs in {SETUPS}")
    pair: list[PairSettings] = Field(default_factory=list, description="pairs given here")
    seeds: list[int] = Field(min_length=1, description="seeds; a seed's source model is pretrained with it as well")
    keep_models: bool = Field(False, description="keep the adapted models; predictions are kept always")
    source: SourceModels = Field(default_factory=lambda: SourceModels.model_validate({}))
    methods: list[MethodRow] = Field(min_length=1, description="rows of the table; source is always one of them")

    @property
    def folder(self) -> Path:
        """Return the data folder."""
        return self.data or Path()

    @model_validator(mode="after")
    def _rows_fit_together(self) -> SweepSettings:
        names = [row.name for row in self.methods]
        for name in (*names, *(pair.name for pair in self.pair)):
            if not _NAME.fullmatch(name):
                raise ValueError(f"'{name}' is to name a folder; use letters, digits, '.', '+', '-' and '_'")
        pairs = [*self.pairs, *(pair.name for pair in self.pair)]
        for name in pairs:
            if pairs.count(name) > 1:
                raise ValueError(f"two pairs are called '{name}'; name each pair differently")
        for row in self.methods:
            if names.count(row.name) > 1:
                raise ValueError(f"two rows are called '{row.name}'; name each row differently")
            if (row.name == SOURCE) != (row.method == SOURCE):
                raise ValueError(f"'{SOURCE}' is both the name and the method of the row without adaptation")
            others = [other.name for other in self.methods if other.method not in (SOURCE, CONTROL)]
            if row.method == CONTROL and row.like not in others:
                raise ValueError(f"row '{row.name}' must be like one of {', '.join(others) or 'the adapting rows'}")
            if row.method != CONTROL and row.like is not None:
                raise ValueError(f"row '{row.name}' is no control, so it cannot be like another row")
        return self


@dataclass(frozen=True)
class Cell:
    """One row, pair and seed, and its folder."""

    row: MethodRow
    pair: PairSettings
    seed: int
    folder: Path


def rows_of(settings: SweepSettings) -> list[MethodRow]:
    """Return the rows in the order in which they run: source first, controls after what they are like."""
    given = {row.name: row for row in settings.methods}
    first = given.pop(SOURCE, None) or MethodRow.model_validate({"name": SOURCE, "method": SOURCE})
    return [first, *sorted(given.values(), key=lambda row: row.method == CONTROL)]


def cells_of(settings: SweepSettings, out: Path) -> list[Cell]:
    """Return all cells in the order in which they run: every row and pair of one seed before the next seed."""
    return [
        Cell(row, pair, seed, out / "cells" / pair.name / row.name / str(seed))
        for seed in settings.seeds
        for pair in pairs_of(settings)
        for row in rows_of(settings)
    ]


def pairs_of(settings: SweepSettings) -> list[PairSettings]:
    """Return the pairs, their paths as they are to be opened.

    Raises:
        InputError: There is no such pair, or no pair at all, or a file is missing.
    """
    known = {pair["name"]: pair for pair in _setups(settings.folder)} if settings.pairs else {}
    pairs = []
    for name in settings.pairs:
        if name not in known:
            hint = nearest_key(name, list(known))
            raise ConfigError(f"pairs: {settings.folder / SETUPS} has no pair '{name}'; {hint}")
        kept = {key: known[name][key] for key in PairSettings.model_fields if key in known[name]}
        pairs.append(settings_from(PairSettings, kept, f"{settings.folder / SETUPS}, {name}"))
    pairs += settings.pair
    if not pairs:
        raise ConfigError(f"no pairs: name some of {SETUPS} in pairs, or give each as a [[pair]] section")
    located = [pair.model_copy(update=_located(pair, settings.folder)) for pair in pairs]
    for pair in located:
        for key in _located(pair, Path()):
            if not getattr(pair, key).is_file():
                raise InputError(f"pair {pair.name}: {key} {getattr(pair, key)}: no such file; check --data")
    return located


def adaptation(cell: Cell, model: Path, teachers: Sequence[Path] = ()) -> AdaptSettings:
    """Return the settings of an adapting cell that starts from ``model``, further ``teachers`` beside it.

    Raises:
        ConfigError: The row's settings are wrong, or its method unknown.
    """
    given = {
        **dict(leaves(cell.row.settings)),
        "data.model": model,
        "data.target": [cell.pair.target_unlabeled],
        "data.source": cell.pair.source_train,
        "data.dev": cell.pair.source_dev,
        "data.teachers": list(teachers),
        "method": cell.row.method,
        "training.seed": cell.seed,
    }
    return settings_from(AdaptSettings, given, f"the row {cell.row.name}")


def pretraining(
    settings: SweepSettings, pair: PairSettings, seed: int, vectors: Path | None, row: MethodRow | None = None
) -> PretrainSettings:
    """Return the settings of a source model, or, with a control row's own laid over them, of its further training."""
    given = {
        **dict(leaves(settings.source.settings)),
        **({} if row is None else {"training.learning_rate": CONTROL_RATE} | dict(leaves(row.settings))),
        "data.train": pair.source_train,
        "data.dev": pair.source_dev,
        "data.vectors": vectors,
        "training.seed": seed,
    }
    where = "source.settings" if row is None else f"the row {row.name}"
    return settings_from(PretrainSettings, {key: value for key, value in given.items() if value is not None}, where)


CONTROL_RATE = 5e-4  # a quarter of pretraining's first step size: the model is trained already


def check_rows(settings: SweepSettings, cells: Sequence[Cell]) -> None:
    """Raise ``ConfigError`` where a row or the source models cannot be as told, before anything has run."""
    for cell in cells:
        pretraining(settings, cell.pair, cell.seed, None, cell.row if cell.row.method == CONTROL else None)
        if cell.row.method not in (SOURCE, CONTROL):
            if cell.row.method not in (*METHODS, *RECIPES):
                known = ", ".join((SOURCE, CONTROL, *METHODS, *RECIPES))
                raise ConfigError(f"the row {cell.row.name}: method '{cell.row.method}' is unknown; known: {known}")
            if cell.row.teachers and cell.row.method not in RECIPES:
                raise ConfigError(f"the row {cell.row.name}: teachers are for {' and '.join(RECIPES)}; leave them out")
            adaptation(cell, Path("model"))


def _setups(data: Path) -> Iterator[dict[str, Any]]:
    path = data / SETUPS
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))
        for group in groups.values():
            yield from group
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name the folder with --data") from None
    except (ValueError, AttributeError, TypeError):
        raise InputError(f"{path}: not lists of pairs by group in JSON; see docs/sweep.md") from None


def _located(pair: PairSettings, data: Path) -> dict[str, Path]:
    return {key: data / value for key, value in pair if isinstance(value, Path)}
