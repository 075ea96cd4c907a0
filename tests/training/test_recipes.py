"""The recipes in configs/ are complete, and what they say they are."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from pydantic import BaseModel

from parser_vae.graphs.settings import GraphsSettings
from parser_vae.training.config import dump_settings, known_keys, load_settings
from parser_vae.training.settings import AdaptSettings, PretrainSettings
from parser_vae.training.sweep_settings import PairSettings, SweepSettings, cells_of, check_rows

MODEL = {"train": "source/train.conllu"}
ADAPT = {"model": "runs/source", "target": ["target/unlabeled.conllu"]}
GRAPHS = {"data": {"train": "data/train.npz"}, "method": "relaxed"}
SMALL = {
    "model": {"hidden": 64},
    "objective": {"teacher_forcing": 3},
    "relaxed": {"temperature": 0.5},
    "nes": {"population": 600, "sigma": 0.01},
}
SMALL_TRAINING = {"updates": 2000, "evaluate_every": 100, "batch_size": 32, "learning_rate": 1e-3}
RECIPES: dict[str, BaseModel] = {
    "pretrain.toml": PretrainSettings.model_validate({"data": MODEL}),
    "pretrain-kg.toml": PretrainSettings.model_validate(
        {
            "data": MODEL,
            "encoder": {"preset": "kg"},
            "decoder": {"alignment": "previous", "predict_end": False},
            "training": {"batch_size": 16},
        }
    ),
    "adapt.toml": AdaptSettings.model_validate({"data": ADAPT}),
    "adapt-paper.toml": AdaptSettings.model_validate({"data": ADAPT, "preset": "paper"}),
    "adapt-paper-official.toml": AdaptSettings.model_validate({"data": ADAPT, "preset": "paper-official"}),
    "graphs-smoke.toml": GraphsSettings.model_validate(
        GRAPHS
        | {
            "model": {"hidden": 8},
            "objective": {"teacher_forcing": 3},
            "training": {"updates": 20, "evaluate_every": 10, "batch_size": 8, "learning_rate": 3e-3},
            "nes": {"population": 20, "sigma": 0.01},
        }
    ),
    "graphs-small.toml": GraphsSettings.model_validate(GRAPHS | SMALL | {"training": SMALL_TRAINING}),
    "graphs-ten.toml": GraphsSettings.model_validate(
        GRAPHS | SMALL | {"training": SMALL_TRAINING | {"updates": 20_000, "dev_samples": 500}}
    ),
    "graphs-paper.toml": GraphsSettings.model_validate(
        GRAPHS
        | {
            "objective": {"max_range": 15.0},
            "relaxed": {"temperature": 5.0},
            "nes": {"population": 600, "sigma": 0.01},
        }
    ),
}


SWEEPS = {"table2.toml": (6, 3)}  # pairs and seeds


def test_every_recipe_is_known() -> None:
    found = {path.name for path in files("parser_vae.configs").iterdir() if path.name.endswith(".toml")}
    assert found == {*RECIPES, *SWEEPS}


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_is_right_before_any_data_is_there(name: str, tmp_path: Path) -> None:
    settings = load_settings(SweepSettings, Path(str(files("parser_vae.configs"))) / name)
    paths = ("source_train", "source_dev", "target_unlabeled", "target_test")
    for path in paths:
        (tmp_path / path).touch()
    pairs = [PairSettings.model_validate({"name": n} | {p: p for p in paths}) for n in settings.pairs]
    here = settings.model_copy(update={"pairs": [], "pair": pairs, "data": tmp_path})
    cells = cells_of(here, tmp_path)
    check_rows(here, cells)
    assert (len(settings.pairs), len(settings.seeds)) == SWEEPS[name]
    for row in settings.methods:
        assert set(row.published) <= set(settings.pairs)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_its_settings_and_names_every_key(name: str) -> None:
    path = Path(str(files("parser_vae.configs"))) / name
    expected = RECIPES[name]
    assert dump_settings(load_settings(type(expected), path)) == dump_settings(expected)
    section, named = "", set()
    for line in path.read_text().splitlines():
        if header := re.fullmatch(r"\[(.+)\]", line):
            section = header[1] + "."
        elif key := re.match(r"(?:# )?(\w+) =", line):
            named.add(section + key[1])
    keys = known_keys(type(expected))
    assert named == {key for key in keys if not any(other.startswith(key + ".") for other in keys)}
