"""The two bundled treebanks: what the demonstration relies on."""

from __future__ import annotations

import runpy
from pathlib import Path

from parser_vae.treebank.catalog import BUNDLED, bundled
from parser_vae.treebank.report import check_file

FILES = [path for name in BUNDLED for path in vars(bundled(name)).values() if isinstance(path, Path)]


def test_they_are_valid_and_of_the_stated_size() -> None:
    reports = {f"{path.parent.name}/{path.stem}": check_file(path) for path in FILES}
    assert {name: report.sentences for name, report in reports.items()} == {
        "tiny-source/train": 250,
        "tiny-source/dev": 50,
        "tiny-target/dev": 40,
        "tiny-target/test": 120,
        "tiny-target/unlabeled": 250,
    }
    for name, report in reports.items():
        assert not report.problems
        assert report.has_trees == (not name.endswith("unlabeled"))
        assert min(report.lengths) >= 4
        assert max(report.lengths) <= 20
        assert report.multiword_tokens
        assert report.non_projective_sentences or not report.has_trees
    assert sum(path.stat().st_size for path in FILES) < 400_000


def test_the_readme_has_their_sizes() -> None:
    table = (FILES[0].parent.parent / "README.md").read_text(encoding="utf-8")
    for path in FILES:
        report = check_file(path)
        row = next(line for line in table.split("\n") if f"`{path.parent.name}/{path.name}`" in line)
        assert f"| {report.sentences} | {report.words} |" in row


def test_no_sentence_is_in_two_files_and_the_script_writes_the_same_bytes() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "write_tiny_treebanks.py"
    written = dict(runpy.run_path(str(script))["files"](7))
    texts = [tuple(form.lower() for form in sentence.forms) for part in written.values() for sentence in part]
    assert len(set(texts)) == len(texts)
    assert sorted(written) == sorted(f"{path.parent.name}/{path.name}" for path in FILES)
    for path in FILES:
        text = "".join(sentence.to_conllu() for sentence in written[f"{path.parent.name}/{path.name}"])
        assert path.read_text(encoding="utf-8") == text
