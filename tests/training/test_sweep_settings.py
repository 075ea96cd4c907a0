"""Recipes of sweeps: which cells they make, and what a mistake in one looks like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parser_vae.errors import ParserVaeError
from parser_vae.training.config import load_settings
from parser_vae.training.sweep_settings import (
    SweepSettings,
    adaptation,
    cells_of,
    check_rows,
    pairs_of,
    pretraining,
    rows_of,
)

RECIPE = """
seeds = [1, 2]
pairs = ["a_x__a_y"]

[source.settings]
"training.epochs" = 3

[[methods]]
name = "more"
method = "control"
like = "nes"

[[methods]]
name = "nes"
method = "nes"
[methods.settings]
"nes.population" = 10
objective.divergence = "anchor"
"""
PAIR = {
    "name": "a_x__a_y",
    "source_train": "x/train.conllu",
    "source_dev": "x/dev.conllu",
    "target_unlabeled": "y/unlabeled.conllu",
    "target_test": "y/test.conllu",
    "note": "further keys are not read",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for key, path in PAIR.items():
        if key.startswith(("source", "target")):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).touch()
    (tmp_path / "treebanks").mkdir()
    (tmp_path / "treebanks" / "setups.json").write_text(json.dumps({"paper": [PAIR]}))
    return tmp_path


def load(data: Path, text: str = RECIPE) -> SweepSettings:
    recipe = data / "recipe.toml"
    recipe.write_text(text)
    return load_settings(SweepSettings, recipe, (), {"data": data})


def test_cells_go_seed_by_seed_source_first_and_controls_last(data: Path) -> None:
    settings = load(data)
    cells = cells_of(settings, Path("out"))
    assert [(cell.row.name, cell.seed) for cell in cells] == [
        *(("source", 1), ("nes", 1), ("more", 1)),
        *(("source", 2), ("nes", 2), ("more", 2)),
    ]
    assert cells[1].folder == Path("out/cells/a_x__a_y/nes/1")
    (pair,) = pairs_of(settings)
    assert pair.target_test == data / "y/test.conllu"
    assert (pair.source, pair.language) == ("a_x", "a")


def test_a_rows_settings_reach_its_adaptation_and_those_of_source_its_model(data: Path) -> None:
    settings = load(data)
    cells = cells_of(settings, Path("out"))
    told = adaptation(cells[4], Path("model"))
    assert (told.nes.population, told.objective.divergence, told.training.seed) == (10, "anchor", 2)
    assert told.data.source == data / "x/train.conllu"
    assert told.data.test is None  # nothing but the score may see it
    assert pretraining(settings, cells[3].pair, 2, None).training.epochs == 3
    control = next(row for row in rows_of(settings) if row.method == "control")
    assert pretraining(settings, cells[5].pair, 2, None, control).training.learning_rate == 5e-4


def test_tables_say_the_same_as_dotted_keys(data: Path) -> None:
    given = load(data)
    control = next(row for row in rows_of(given) if row.method == "control")
    dotted = {"training.epochs": 5, "training.batch_size": 7}
    nested = {"training": {"epochs": 5, "batch_size": 7}}
    told = []
    for keys, rate in ((dotted, {"training.learning_rate": 0.01}), (nested, {"training": {"learning_rate": 0.01}})):
        settings = given.model_copy(update={"source": given.source.model_copy(update={"settings": keys})})
        row = control.model_copy(update={"settings": rate})
        told.append(pretraining(settings, pairs_of(settings)[0], 1, None, row))
    assert told[0] == told[1]
    assert (told[1].training.epochs, told[1].training.batch_size, told[1].training.learning_rate) == (5, 7, 0.01)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [1, 2]", "seeds = []", "{toml}: seeds: expected "),
        ("seeds = [1, 2]", "seed = [1, 2]", "{toml}: unknown key seed; did you mean seeds?"),
        ("seeds = [1, 2]", "seeds = [", "{toml}: not TOML: "),
        ('like = "nes"', 'lik = "nes"', "{toml}: unknown key methods.lik; did you mean methods.like?"),
        ('like = "nes"', 'like = "dpp"', "row 'more' must be like one of nes"),
        ('name = "more"', 'name = "nes"', "two rows are called 'nes'; name each row differently"),
        ('name = "more"', 'name = "a/b"', "'a/b' is to name a folder; use letters, digits, '.', '+', '-' and '_'"),
        ('name = "more"', 'name = "source"', "'source' is both the name and the method of the row without adaptation"),
        ('method = "nes"', 'method = "magic"', "the row nes: method 'magic' is unknown; known: source, control, nes, "),
        ('"nes.population" = 10', '"nes.populatio" = 10', "the row nes: unknown key nes.populatio; did you mean nes.p"),
        ('"nes.population" = 10', '"nes.population" = "x"', "the row nes: nes.population: expected a whole number"),
        ('"training.epochs" = 3', '"training.epoch" = 3', "source.settings: unknown key training.epoch; did you mean"),
        ('pairs = ["a_x__a_y"]', 'pairs = ["a_x__a_z"]', "has no pair 'a_x__a_z'; did you mean a_x__a_y?"),
        ('pairs = ["a_x__a_y"]', "", "no pairs: name some of treebanks/setups.json in pairs, or give each as a "),
    ],
)
def test_a_mistake_is_one_clear_error(data: Path, old: str, new: str, message: str) -> None:
    assert old in RECIPE
    with pytest.raises(ParserVaeError) as raised:
        settings = load(data, RECIPE.replace(old, new, 1))
        check_rows(settings, cells_of(settings, Path("out")))
    text = str(raised.value)
    assert message.format(toml=data / "recipe.toml") in text
    assert "\n" not in text


def test_a_missing_file_is_named(data: Path) -> None:
    (data / "y" / "test.conllu").unlink()
    with pytest.raises(ParserVaeError) as raised:
        pairs_of(load(data))
    assert str(raised.value) == f"pair a_x__a_y: target_test {data}/y/test.conllu: no such file; check --data"
