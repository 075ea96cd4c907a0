from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer
from parser_vae.cli.evaluate import evaluate
from typer.testing import CliRunner

from parser_vae.errors import InputError
from tests.evaluation.material import conllu, perturbed, synthetic

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(evaluate)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gold = synthetic(40, 3)
    for name, sentences in {
        "gold": gold,
        "before": perturbed(gold, 0.5, 1),
        "after": perturbed(gold, 0.2, 2),
        "other": synthetic(40, 4),
    }.items():
        (tmp_path / f"{name}.conllu").write_text(conllu(sentences), encoding="utf-8")
    return tmp_path


def run(folder: Path, *options: str, **names: str) -> str:
    files = {"gold": "gold.conllu", "predicted": "after.conllu", **names}
    arguments = [part for name, file in files.items() for part in (f"--{name}", str(folder / file))]
    result = CliRunner().invoke(app, [*arguments, "--resamples", "100", *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_tables_go_to_standard_output_and_files_hold_the_same_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["parser-vae", "evaluate", "--gold", "a b"])
    names = {kind: str(folder / f"report.{kind}") for kind in ("json", "html", "markdown")}
    options = [part for kind, file in names.items() for part in (f"--{kind}", file)]
    shown = run(folder, *options, baseline="before.conllu")
    values = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert values["data"]["baseline"] == str(folder / "before.conllu")
    for text in (shown, *((folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "markdown"))):
        for scorer in ("nltk", "conll18"):
            assert f"{values[scorer]['uas']:.1f}" in text
            assert f"{values[scorer]['baseline']['uas']:.1f}" in text
    assert "parser-vae evaluate --gold &#x27;a b&#x27;" in (folder / "report.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith((".", "report"))) == [
        "report.html",
        "report.json",
        "report.markdown",
    ]


def test_json_can_be_piped(folder: Path) -> None:
    assert json.loads(run(folder, "--json", "-"))["format"] == 1


def test_trees_are_drawn_on_request(folder: Path) -> None:
    assert "►" not in run(folder, baseline="before.conllu")
    drawn = run(folder, "--show", "2", baseline="before.conllu")
    assert drawn.count("Most improved: ") == 2
    assert "►" in drawn
    assert "✓" in drawn
    assert run(folder, "--show", "1").count("Hardest: ") == 1


def test_the_domains_are_compared_on_request(folder: Path) -> None:
    values = json.loads(run(folder, "--json", "-", source="other.conllu"))
    assert set(values["domain"]) == {"accuracy", "proxy_a_distance", "source_words", "target_words"}
    assert json.loads(run(folder, "--json", "-"))["domain"] is None


def test_other_sentences_are_refused_before_anything_is_written(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"gold\.conllu:1 \(sentence s0\) reads .* where .*other\.conllu:1 \(sentence s0\)"
    ):
        run(folder, "--json", str(folder / "report.json"), predicted="other.conllu")
    assert not (folder / "report.json").exists()


def test_standard_input_can_be_only_one_of_the_files(folder: Path) -> None:
    with pytest.raises(InputError, match="only one of"):
        CliRunner().invoke(app, ["--gold", "-", "--predicted", "-"], catch_exceptions=False)


def test_several_roots_are_scored_only_if_trees_are_ignored(folder: Path) -> None:
    path = folder / "after.conllu"
    text = path.read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("2\t") and line.split("\t")[6] != "0")
    cells = row.split("\t")
    path.write_text(text.replace(row, "\t".join([*cells[:6], "0", *cells[7:]]), 1), encoding="utf-8")
    with pytest.raises(InputError, match="root already"):
        run(folder)
    assert json.loads(run(folder, "--trees", "ignore", "--json", "-"))["trees"]["valid"]["value"] == 97.5
