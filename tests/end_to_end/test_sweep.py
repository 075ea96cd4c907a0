"""A sweep from its recipe to its tables, killed in the middle and resumed."""

from __future__ import annotations

import gzip
import json
import signal
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from parser_vae.cli.sweep import _limited

from parser_vae import cli
from parser_vae.training import loop
from parser_vae.treebank.conllu import read_treebank
from parser_vae.treebank.trees import read_trees

RECIPE = """
title = "Tiny & small"
seeds = [1, 2]

[[pair]]
name = "pets__servers"
source_train = "train.conllu"
source_dev = "dev.conllu"
target_unlabeled = "target.conllu"
target_test = "test.conllu"

[source.settings]
"training.epochs" = 2
"training.batch_size" = 4
"decoder.kind" = "arcs"
"encoder.hidden" = 8
"encoder.layers" = 1
"encoder.word_size" = 8
"encoder.character_size" = 4
"encoder.arc_size" = 8
"encoder.label_size" = 8

[[methods]]
name = "nes"
method = "nes"
[methods.settings]
"nes.population" = 4
"training.epochs" = 2
"training.batch_size" = 4

[[methods]]
name = "exact"
method = "marginals"
settings = { "objective.divergence" = "anchor", "training.epochs" = 2, "training.batch_size" = 4 }
published = { pets__servers = 71.5 }

[[methods]]
name = "more-source"
method = "control"
like = "exact"
settings = { "training.batch_size" = 4 }
"""


class Killed(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def whole(files: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweeps") / "whole"
    assert cli.run(["sweep", str(recipe), "--data", str(files), "--out", str(out), "--quiet", "--threads", "1"]) == 0
    return out


def cell(out: Path, row: str, seed: int) -> Path:
    return out / "cells" / "pets__servers" / row / str(seed)


def test_every_cell_says_what_it_was_told_and_came_to(whole: Path) -> None:
    for row in ("source", "nes", "exact", "more-source"):
        for seed in (1, 2):
            folder = cell(whole, row, seed)
            result = json.loads((folder / "cell.json").read_text())
            assert (result["row"], result["seed"]) == (row, seed)
            assert set(result["scores"]) == {"nltk", "conll18"}
            assert len(gzip.decompress((folder / "trees.gz").read_bytes()).splitlines()) == 6
            assert (result["updates"] > 0) == (result["cpu_seconds"] > 0) == (row != "source")
            assert (result["change"] is None) == (row == "source")
            assert ("compute_ratio" in result) == (row == "more-source")
            assert sorted(path.name for path in folder.iterdir()) == [
                *("cell.json", "cpu.json", "settings.json", "trees.gz")
            ]
    assert json.loads((cell(whole, "exact", 2) / "settings.json").read_text())["settings"]["training"]["seed"] == 2


def test_a_killed_sweep_resumes_to_the_same_predictions(
    whole: Path, files: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, original, adapting = tmp_path / "broken", loop.Loop._step, 0
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    def killed_in_the_fifth(self: loop.Loop, indices: list[int]) -> None:
        nonlocal adapting
        adapting += self.plan.what.startswith("adapting by nes")
        if adapting == 5:
            raise Killed
        original(self, indices)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Loop, "_step", killed_in_the_fifth)
        common = ["--data", str(files), "--out", str(out), "--quiet", "--threads", "1"]
        assert cli.run(["sweep", str(recipe), *common]) == 70
    assert (cell(out, "source", 1) / "cell.json").exists()
    assert not (cell(out, "nes", 1) / "cell.json").exists()
    before = (cell(out, "source", 1) / "cell.json").stat().st_mtime_ns
    assert cli.run(["sweep", "--out", str(out), "--resume", "--quiet", "--threads", "1"]) == 0
    assert (cell(out, "source", 1) / "cell.json").stat().st_mtime_ns == before
    for row in ("source", "nes", "exact"):
        for seed in (1, 2):
            first, second = (cell(folder, row, seed) / "trees.gz" for folder in (whole, out))
            assert first.read_bytes() == second.read_bytes(), (row, seed)
    assert json.loads((cell(out, "nes", 1) / "cell.json").read_text())["sessions"] == 2


def test_the_tables_say_the_same_and_are_made_again_from_predictions(
    whole: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("table.md", "table.json", "table.html")
    before = {name: (whole / name).read_bytes() for name in names}
    for name in names:
        (whole / name).unlink()
    assert cli.run(["sweep", "--out", str(whole), "--table-only"]) == 0
    assert {name: (whole / name).read_bytes() for name in names} == before
    assert capsys.readouterr().out == before["table.md"].decode()
    table = json.loads(before["table.json"])
    assert table["missing"] == []
    rows = {row["row"]: row["pairs"]["pets__servers"] for row in table["rows"]}
    assert list(rows) == ["source", "nes", "exact", "more-source"]
    assert set(rows["exact"]["changes"]) == {"source", "more-source"}
    assert rows["exact"]["published_uas"] == 71.5
    scores = [
        json.loads((cell(whole, "exact", seed) / "cell.json").read_text())["scores"]["nltk"]["uas"] for seed in (1, 2)
    ]
    assert rows["exact"]["scores"]["nltk"]["uas"]["mean"] == pytest.approx(sum(scores) / 2, abs=1e-3)
    gold = read_treebank(files / "test.conllu").sentences
    first, second = (
        [head for s in read_trees(cell(whole, "exact", seed) / "trees.gz", gold) for head in s.heads] for seed in (1, 2)
    )
    same = 100 * sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    assert rows["exact"]["seed_agreement"] == pytest.approx(same, abs=1e-3)
    assert rows["source"]["agreement"] == {}
    page = before["table.html"].decode()
    assert "<title>Tiny &amp; small</title>" in page
    assert "published: 71.50" in page
    assert balanced(page)


def balanced(page: str) -> bool:
    """Whether every element of the page is closed where it should be."""
    opened: list[str] = []
    void = {"meta", "br", "line", "path", "circle"}

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in void:
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in void:
                assert opened.pop() == tag

    Checker().feed(page)
    return not opened


def test_another_setting_of_a_finished_row_is_refused(
    whole: Path, recipe: Path, files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    changed = tmp_path / "changed.toml"
    changed.write_text(RECIPE.replace('"nes.population" = 4', '"nes.population" = 6'))
    arguments = ["sweep", str(changed), "--data", str(files), "--out", str(whole), "--quiet"]
    assert cli.run(arguments) == 1
    assert capsys.readouterr().err == f"error: --out {whole}: not empty; continue with --resume, or name another\n"
    recorded = (whole / "config.toml").read_bytes()
    assert cli.run([*arguments, "--resume"]) == 1
    assert capsys.readouterr().err == (
        f"error: the row nes differs in settings from when {cell(whole, 'nes', 1)} was run; call the row otherwise, "
        "or remove its folder to run it anew\n"
    )
    assert (whole / "config.toml").read_bytes() == recorded


def test_another_setting_of_a_trained_source_model_is_refused(
    whole: Path, files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    changed = tmp_path / "changed.toml"
    changed.write_text(RECIPE.replace('"training.epochs" = 2', '"training.epochs" = 3', 1))
    assert cli.run(["sweep", str(changed), "--data", str(files), "--out", str(whole), "--quiet", "--resume"]) == 1
    assert capsys.readouterr().err == (
        f"error: source.settings: training.epochs is 3, but {whole / 'sources' / 'pets.1'} was made with 2; name "
        "other folders in source.models, or remove that one and the cells that began with it\n"
    )


def test_a_row_can_be_added_later(whole: Path, files: Path, tmp_path: Path, recipe: Path) -> None:
    later = {
        "later": '"marginals"\nsettings = { "training.epochs" = 1 }',
        "students": '"self-training"\nteachers = [1, 2]',
    }
    later["students"] += '\nsettings = { "self_training.epochs" = 1, "self_training.rounds" = 1 }'
    more = RECIPE + "".join(f'\n[[methods]]\nname = "{name}"\nmethod = {rest}\n' for name, rest in later.items())
    (tmp_path / "more.toml").write_text(more)
    before = (cell(whole, "nes", 1) / "cell.json").stat().st_mtime_ns
    arguments = ["sweep", str(tmp_path / "more.toml"), "--data", str(files), "--out", str(whole), "--quiet", "--resume"]
    assert cli.run(arguments) == 0
    for row in later:
        assert json.loads((cell(whole, row, 2) / "cell.json").read_text())["updates"] > 0
    assert (cell(whole, "nes", 1) / "cell.json").stat().st_mtime_ns == before


def test_nothing_finished_is_no_table(
    files: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["sweep", str(recipe), "--data", str(files), "--out", str(tmp_path / "x"), "--table-only"]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/x: no cell has finished, so there is no table to make; run the sweep first\n"
    )
    assert cli.run(["sweep", "--out", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err.startswith("error: no recipe: name a TOML file")


@pytest.mark.parametrize("on_interrupt", [signal.default_int_handler, signal.SIG_IGN])
def test_a_limit_interrupts_and_is_no_error(on_interrupt: Callable[[int, object], None] | signal.Handlers) -> None:
    former = signal.signal(signal.SIGINT, on_interrupt)  # a job in the background ignores Ctrl-C
    try:
        with _limited(0.001) as limit:
            for _ in range(500):
                time.sleep(0.02)
            raise AssertionError("not interrupted within ten seconds")
    finally:
        signal.signal(signal.SIGINT, former)
    assert limit.reached


def test_a_limit_stops_a_training_after_a_step_and_the_rest_comes_later(
    whole: Path, files: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, original, adapting = tmp_path / "limited", loop.Loop._step, 0

    def out_of_time_in_the_second(self: loop.Loop, indices: list[int]) -> None:
        nonlocal adapting
        adapting += self.plan.what.startswith("adapting by nes")
        if adapting == 2:
            signal.raise_signal(signal.SIGALRM)
        original(self, indices)

    arguments = ["--out", str(out), "--quiet", "--threads", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(loop.Loop, "_step", out_of_time_in_the_second)
        assert cli.run(["sweep", str(recipe), "--data", str(files), "--limit-minutes", "60", *arguments]) == 0
    assert adapting == 2
    assert (cell(out, "nes", 1) / "run" / "state.safetensors").exists()
    assert len(json.loads((out / "table.json").read_text())["missing"]) == 7
    assert cli.run(["sweep", *arguments, "--resume"]) == 0
    first, second = (cell(folder, "nes", 1) / "trees.gz" for folder in (whole, out))
    assert first.read_bytes() == second.read_bytes()
