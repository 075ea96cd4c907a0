"""Pretrain, adapt, parse, parse again, evaluate: what a user does, from file to file."""

import io
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from parser_vae import cli, load, read_treebank
from parser_vae.training import adapt
from parser_vae.training.settings import AdaptSettings
from parser_vae.training.students import Students
from tests.end_to_end.conftest import adapt_arguments, self_training_arguments

MODEL_FILES = ["MODEL_CARD.md", "config.toml", "log.jsonl", "manifest.json", "model.safetensors"]


@pytest.mark.parametrize("which", ["source_model", "target_model"])
def test_a_run_leaves_a_model_folder_and_nothing_else(which: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(which)
    assert sorted(path.name for path in folder.iterdir()) == MODEL_FILES
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == ([0, 1, 2][which == "source_model" :])


def test_the_last_epoch_is_kept_where_that_is_asked_for(files: Path, source_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "last"
    assert cli.run([*adapt_arguments(files, source_model, out), "--set=training.keep=last"]) == 0
    assert json.loads((out / "manifest.json").read_text())["adapted"]["epoch"] is None
    assert "the last epoch's (training.keep asks for it)" in (out / "MODEL_CARD.md").read_text()
    assert (out / "model.safetensors").read_bytes() != (source_model / "model.safetensors").read_bytes()


def test_a_recipe_leaves_its_students_beside_the_model(self_trained_model: Path) -> None:
    assert sorted(path.name for path in self_trained_model.iterdir()) == sorted([*MODEL_FILES, "rounds"])
    assert sorted(path.name for path in (self_trained_model / "rounds").iterdir()) == ["1-1", "1-2", "2-1"]
    last = (self_trained_model / "rounds" / "2-1" / "manifest.json").read_text()
    assert json.loads(last)["kind"] == "parser"
    events = [json.loads(line) for line in (self_trained_model / "log.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [0, 1, 2]
    assert 0 < events[-1]["confidence"] <= 1


def self_trained(files: Path, source_model: Path, out: Path, *settings: str) -> dict[str, torch.Tensor]:
    """The BiLSTM after two rounds of self-training with some settings."""
    data = ["--from", str(source_model), "--target", str(files / "target.conllu"), "--out", str(out)]
    given = [f"--set=self_training.{setting}" for setting in ("rounds=2", *settings)]
    assert cli.run(["adapt", *data, *given, "--quiet", "--threads=1"]) == 0
    tensors = load_file(out / "model.safetensors")
    return {name: tensor for name, tensor in tensors.items() if name.startswith("weights.encoder.lstm")}


def test_a_student_starts_from_its_predecessor_the_source_parser_or_new_weights(
    files: Path, source_model: Path, tmp_path: Path
) -> None:
    source = load_file(source_model / "model.safetensors")
    hardly = ("learning_rate=1e-12", "average=0")
    for start in ("previous", "base", "scratch"):
        still = self_trained(files, source_model, tmp_path / f"{start}-still", f"start={start}", *hardly)
        stays = all(torch.allclose(source[name], tensor, atol=1e-6) for name, tensor in still.items())
        assert stays == (start != "scratch")
    went_on = self_trained(files, source_model, tmp_path / "went-on", "start=previous")
    again = self_trained(files, source_model, tmp_path / "again", "start=base")
    moved, moved_again = (
        sum(float((source[name] - tensor).square().sum()) for name, tensor in after.items())
        for after in (went_on, again)
    )
    assert moved > moved_again  # two passes lead further from the source than one


def test_dcst_adapts_from_file_to_file(files: Path, source_model: Path, tmp_path: Path) -> None:
    data = ["--from", str(source_model), "--target", str(files / "target.conllu"), "--test", str(files / "test.conllu")]
    common = ["--method", "dcst", "--set=dcst.epochs=2", "--quiet", "--threads=1"]
    for out in ("first", "second"):
        assert cli.run(["adapt", *data, "--out", str(tmp_path / out), *common]) == 0
    first, second = ((tmp_path / out / "model.safetensors").read_bytes() for out in ("first", "second"))
    assert first == second != (source_model / "model.safetensors").read_bytes()


@pytest.mark.parametrize("flag", ["--silver", "--target-train"])
def test_relations_that_the_model_does_not_know_are_counted(
    flag: str, files: Path, source_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silver = tmp_path / "silver.conllu"
    silver.write_text((files / "test.conllu").read_text().replace("\tdet\t", "\tarticle\t"), encoding="utf-8")
    data = ["--from", str(source_model), "--target", str(files / "target.conllu"), flag, str(silver)]
    common = ["--epochs", "1", "--set=self_training.rounds=1", "--threads=1", "--out", str(tmp_path / "out")]
    assert cli.run(["adapt", *data, *common]) == 0
    note = flag + r": (\d+) of (\d+) words have a relation .* \('article' most often\)"
    found = re.search(note, capsys.readouterr().err)
    assert found
    assert 0 < int(found[1]) < int(found[2])


@pytest.mark.parametrize("keep", ["best", "last"])
def test_where_adapting_has_likely_hurt_the_source_parser_is_kept(
    keep: str, files: Path, source_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "likely_to_hurt", lambda *_: "adapting has likely hurt: a test says so")
    arguments = [*self_training_arguments(files, source_model, tmp_path / "out"), f"--set=training.keep={keep}"]
    assert cli.run(arguments) == 0
    parsers = load(source_model), load(tmp_path / "out")
    sentences = read_treebank(files / "test.conllu").sentences
    before, after = (parser.analyse(sentences)[0].arc_scores for parser in parsers)
    assert torch.equal(torch.as_tensor(before), torch.as_tensor(after)) == (keep == "best")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["adapted"]["epoch"] == (
        0 if keep == "best" else 2
    )
    assert "**Warning**: adapting has likely hurt" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_target_sentences_may_be_plain_text(files: Path, source_model: Path, tmp_path: Path) -> None:
    text = tmp_path / "target.txt"
    sentences = read_treebank(files / "target.conllu", trees="ignore").sentences
    text.write_text("".join(" ".join(sentence.forms) + "\n" for sentence in sentences), encoding="utf-8")
    small = ["--set=self_training.rounds=1", "--quiet", "--threads=1"]
    for target in (files / "target.conllu", text):
        arguments = ["adapt", "--from", str(source_model), "--target", str(target)]
        assert cli.run([*arguments, "--out", str(tmp_path / target.suffix), *small]) == 0
    first, second = (load_file(tmp_path / suffix / "model.safetensors") for suffix in (".conllu", ".txt"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("flag", ["--silver", "--target-train"])
def test_labelled_target_sentences_are_for_the_supervised_term(
    flag: str, files: Path, source_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [flag, str(files / "test.conllu")]
    assert cli.run([*adapt_arguments(files, source_model, tmp_path / "refused"), *given]) == 1
    assert capsys.readouterr().err == (
        f"error: {flag}: nes reads no labelled sentences while objective.supervised_weight is 0; add --set "
        "objective.supervised_weight=1, or adapt by self-training\n"
    )
    supervised = ["--epochs", "1", "--set=training.keep=last", "--set=objective.supervised_weight=1"]
    for name, more in (("with", given), ("without", [])):
        assert cli.run([*adapt_arguments(files, source_model, tmp_path / name), *supervised, *more]) == 0
    states = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("with", "without")]
    assert states[0] != states[1]


def test_words_of_labelled_target_sentences_are_counted_and_those_held_out_stay_unknown(
    files: Path, source_model: Path, tmp_path: Path
) -> None:
    """A word that is known but was never counted would always be dropped while students learn."""
    labelled, target = tmp_path / "labelled.conllu", tmp_path / "target.txt"
    labelled.write_text((files / "test.conllu").read_text().replace("server", "kettle"), encoding="utf-8")
    target.write_text("".join(f"the word{number} sees it\n" for number in range(40)), encoding="utf-8")
    data = {"model": source_model, "target": [target], "target_train": labelled}
    material = adapt.read_material(AdaptSettings.model_validate({"data": data, "training": {"held_out": 0.3}}))
    vocabulary = Students(AdaptSettings.model_validate({"data": data}), material).blank.vocabulary
    counts = dict(zip(vocabulary.words, vocabulary.counts, strict=True))
    assert counts["kettle"] == labelled.read_text().count("\tkettle\t")
    seen = {form for sentence in material.target for form in sentence.forms}
    assert 0 < sum(f"word{number}" in seen for number in range(40)) < 40
    assert all((f"word{number}" in seen) == (f"word{number}" in counts) for number in range(40))


@pytest.mark.parametrize("method", ["self-training", "dcst"])
def test_a_recipe_needs_the_labelled_source(
    method: str, files: Path, source_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(source_model, moved)
    manifest = json.loads((moved / "manifest.json").read_text())
    manifest["source"] = {"train": "/nowhere/train.conllu", "dev": None}
    (moved / "manifest.json").write_text(json.dumps(manifest))
    out = tmp_path / "out"
    arguments = ["adapt", "--from", str(moved), "--target", str(files / "target.conllu"), "--out", str(out)]
    assert cli.run([*arguments, "--method", method, "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {method} reads the labelled source")
    assert error.endswith("give it by --source\n")
    assert not out.exists()


def test_parsing_changes_two_columns_and_nothing_else(files: Path, target_model: Path, tmp_path: Path) -> None:
    before, out = files / "test.conllu", tmp_path / "out.conllu"
    assert cli.run(["parse", str(target_model), str(before), "--output", str(out), "--quiet"]) == 0
    old_lines, new_lines = before.read_text().split("\n"), out.read_text().split("\n")
    assert len(old_lines) == len(new_lines)
    for old, new in zip(old_lines, new_lines, strict=True):
        if old[:1].isdigit() and old.split("\t")[0].isdigit():
            old_row, new_row = old.split("\t"), new.split("\t")
            assert old_row[:6] + old_row[8:] == new_row[:6] + new_row[8:]
        else:
            assert old == new
    read_treebank(out)  # raises unless every sentence has a tree with one root


def test_the_same_input_gives_the_same_bytes_and_parsing_ignores_trees(
    files: Path, target_model: Path, tmp_path: Path
) -> None:
    outputs = [tmp_path / f"{number}.conllu" for number in range(3)]
    for source, out in zip([files / "test.conllu", files / "test.conllu", outputs[0]], outputs, strict=True):
        assert cli.run(["parse", str(target_model), str(source), "--output", str(out), "--quiet"]) == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes() == outputs[2].read_bytes()


def test_standard_input_and_output(
    files: Path, source_model: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    text = (files / "test.conllu").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written := io.BytesIO()))
    assert cli.run(["parse", str(source_model)]) == 0
    sentences = read_treebank(io.BytesIO(written.getvalue())).sentences
    parsed = load(source_model).parse(read_treebank(files / "test.conllu").sentences)
    assert list(sentences) == parsed


def test_tokenised_text_confidence_and_cleared_deps(source_model: Path, tmp_path: Path) -> None:
    text, out = tmp_path / "in.txt", tmp_path / "out.conllu"
    text.write_text("the dog sees it .\n\nit hears a router .\n")
    arguments = ["parse", str(source_model), str(text), "--input", "words", "--output", str(out), "--confidence"]
    assert cli.run([*arguments, "--clear-deps", "--quiet"]) == 0
    sentences = read_treebank(out).sentences
    assert [sentence.forms for sentence in sentences] == [
        ("the", "dog", "sees", "it", "."),
        ("it", "hears", "a", "router", "."),
    ]
    for sentence in sentences:
        for word in sentence.words:
            assert word.deps == "_"
            assert 0.0 <= float(word.misc_items["ArcConfidence"] or "nan") <= 1.0


def test_malformed_sentences_can_be_skipped_and_are_counted(
    files: Path, source_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed, out = tmp_path / "mixed.conllu", tmp_path / "out.conllu"
    good = (files / "test.conllu").read_text()
    mixed.write_text("1\tbroken\n\n" + good)
    assert cli.run(["parse", str(source_model), str(mixed), "--on-error", "skip", "--output", str(out)]) == 0
    assert out.read_text().startswith("1\tbroken\n\n# sent_id")
    assert f"1 malformed sentence written unchanged; the first: {mixed}:1: " in capsys.readouterr().err


def test_the_python_way(files: Path, target_model: Path) -> None:
    parser = load(target_model)
    sentences = read_treebank(files / "target.conllu", trees="ignore").sentences
    parsed = parser.parse(sentences)
    assert [sentence.forms for sentence in parsed] == [sentence.forms for sentence in sentences]
    (analysis,) = parser.analyse(sentences[:1], marginals=True)
    assert tuple(analysis.heads) == parsed[0].heads
    assert analysis.marginals is not None
    assert analysis.marginals[:, 1:].sum(0).tolist() == pytest.approx([1.0] * len(sentences[0]), abs=1e-4)


def test_info_shows_the_card_and_the_settings(source_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["info", str(source_model)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# ")
    assert "[training]\nepochs = 2" in shown
    assert cli.run(["info", str(source_model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == 1
