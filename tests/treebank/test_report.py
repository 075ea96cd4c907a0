"""The report on files, and the command that prints it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import typer
from parser_vae.cli.check import check as check_command
from typer.testing import CliRunner

from parser_vae.treebank.catalog import bundled
from parser_vae.treebank.report import check, check_file

GOOD = (
    "1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_\n1\tdo\t_\tAUX\t_\t_\t3\taux\t_\t_\n2\tn't\t_\tPART\t_\t_\t3\tadvmod\t_\t_\n"
    "3\tgo\t_\tVERB\t_\t_\t0\troot\t_\t_\n3.1\te\t_\t_\t_\t_\t_\t_\t_\t_\n\n"
)
CROSSING = (
    "1\ta\t_\tX\t_\t_\t3\tdep\t_\t_\n2\tb\t_\tX\t_\t_\t4\tdep\t_\t_\n"
    "3\tc\t_\tX\t_\t_\t0\troot\t_\t_\n4\td\t_\tX\t_\t_\t3\tdep\t_\t_\n\n"
)
BAD = "1\ta\t_\tX\t_\t_\t7\tdep\t_\t_\n2\tb\t_\tX\t_\t_\t8\tdep\t_\t_\n\n"
RAW = "1\ta\t_\tX\t_\t_\t_\t_\t_\t_\n\n"


def test_counts_and_problems(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    path.write_text(GOOD + BAD + CROSSING)
    report = check_file(path)
    assert [str(problem) for problem in report.problems] == [
        f"{path}:7: HEAD is 7, but the sentence has 2 words; give it a head from 0 to 2",
        f"{path}:8: HEAD is 8, but the sentence has 2 words; give it a head from 0 to 2",
    ]
    assert (report.sentences, report.words, report.malformed) == (2, 7, 1)
    assert report.lengths == (3, 4)
    assert (report.non_projective_sentences, report.non_projective_arcs, report.non_projective_share) == (1, 1, 0.5)
    assert report.upos == Counter({"X": 4, "AUX": 1, "PART": 1, "VERB": 1})
    assert report.deprels == Counter({"dep": 3, "root": 2, "aux": 1, "advmod": 1})
    assert (report.multiword_tokens, report.empty_nodes) == (1, 1)


def test_files_without_trees_are_fine_but_not_files_with_some(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text(RAW + RAW)
    report = check_file(tmp_path / "raw")
    assert (report.has_trees, report.problems, report.sentences) == (False, (), 2)
    assert not report.deprels
    (tmp_path / "some").write_text(RAW + GOOD)
    assert [problem.line for problem in check_file(tmp_path / "some").problems] == [1]
    (tmp_path / "none").write_text(RAW.replace("_\t_\t_\t_\n", "x\t_\t_\t_\n"))
    (problem,) = check_file(tmp_path / "none").problems
    assert problem.what == "HEAD is x, expected a whole number from 0 to 1"


def test_files_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    report = check([tmp_path / "no", tmp_path / "empty"])
    assert [problem.what for problem in report.problems] == [
        "cannot be read (No such file or directory)",
        "the file is empty",
    ]


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(check_command)
    return app


def test_the_command_describes_a_good_file(command: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    path.write_text(GOOD + CROSSING)
    result = CliRunner().invoke(command, [str(path)])
    assert result.exit_code == 0
    assert result.stdout == (
        f"{path}: 2 sentences, 7 words\n"
        "  lengths          3 to 4 words, mean 3.5, median 3.5\n"
        "  multiword tokens 1\n"
        "  empty nodes      1\n"
        "  non-projective   50.0% of the sentences (1), 1 arc\n"
        "  labels           4: dep 3, root 2, aux 1, advmod 1\n"
        "  UPOS             4: X 4, AUX 1, PART 1, VERB 1\n"
    )


def test_the_command_lists_all_problems_and_exits_with_1(command: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    path.write_text(BAD + RAW)
    result = CliRunner().invoke(command, [str(path), str(tmp_path / "no"), str(bundled("tiny-target").unlabeled)])
    assert result.exit_code == 1
    lines = result.stdout.split("\n")
    assert lines[:4] == [
        f"{path}:1: HEAD is 7, but the sentence has 2 words; give it a head from 0 to 2",
        f"{path}:2: HEAD is 8, but the sentence has 2 words; give it a head from 0 to 2",
        f"{path}:4: HEAD is _, expected a whole number from 0 to 1; annotate the sentence, or correct the number",
        f"{tmp_path / 'no'}: cannot be read (No such file or directory); check the name of the file",
    ]
    assert lines[4:6] == [
        f"{path}: 0 sentences, 0 words",
        "  malformed        2 sentences with 3 problems, not counted below",
    ]
    assert "  trees            none (HEAD is _ throughout)" in lines
