"""Adapting by gradient methods other than the default, from the command line."""

import json
import re
from pathlib import Path

import pytest

from parser_vae import cli, load
from parser_vae.methods import METHODS
from tests.end_to_end.conftest import adapt_arguments


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("dpp", ["--set=dpp.mode=hard_forward", "--set=objective.divergence=exact_gibbs"]),
        (
            "direct",
            ["--structure", "spanning", "--set=objective.freeze_decoder=false", "--set=direct.epsilon=5"],
        ),
    ],
)
def test_a_parser_is_adapted(files: Path, source_model: Path, tmp_path: Path, method: str, more: list[str]) -> None:
    out = tmp_path / "target"
    assert cli.run([*adapt_arguments(files, source_model, out), "--method", method, *more]) == 0
    updates = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    objectives = [event["objective"] for event in updates if event["event"] == "update"]
    assert len(objectives) == 6 and all(0 < value < 20 for value in objectives)
    assert load(out).manifest["adapted"]["method"] == method


def test_a_temperature_falls_from_update_to_update(files: Path, source_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "target"
    more = ["--method", "relaxed", "--set=relaxed.rate=0.1", "--set=relaxed.every=1"]
    assert cli.run([*adapt_arguments(files, source_model, out), *more]) == 0
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    temperatures = [event["temperature"] for event in events if event["event"] == "update"]
    assert temperatures == pytest.approx([0.9048374**update for update in range(6)], abs=1e-5)


def test_a_method_that_the_trees_cannot_serve_is_refused(
    files: Path, source_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "target"
    arguments = [*adapt_arguments(files, source_model, out), "--method", "dpp", "--structure", "spanning"]
    assert cli.run(arguments) == 1
    assert capsys.readouterr().err == (
        "error: the method 'dpp' needs smoothed_argmax, which the structure 'spanning' cannot give\n"
    )
    assert not out.exists()


def test_every_method_is_listed_with_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["methods"]) == 0
    shown = capsys.readouterr().out
    for name, method in METHODS.items():
        assert re.search(
            rf"^{name}\n    [^\n]+\.\n    needs: {', '.join(sorted(method.requires))}$", shown, re.MULTILINE
        )
