"""What adaptations can be told to optimise, from the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from parser_vae import cli
from parser_vae.training import loop
from tests.end_to_end.conftest import adapt_arguments, pretrain_arguments, self_training_arguments

ANCHORED = ["--set=objective.divergence=anchor", "--set=objective.divergence_weight=0.5"]
SUPERVISED = ["--set=objective.supervised_weight=1.0"]


class Killed(Exception):
    """Stands for a kill."""


def epochs(folder: Path) -> list[dict[str, float]]:
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "epoch"]


def test_the_supervised_term_lowers_the_source_loss(files: Path, source_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    longer = ["--epochs", "20", "--source", str(files / "train.conllu"), "--set=training.learning_rate=0.05"]
    weight = "--set=objective.supervised_weight=100.0"  # four noisy evaluations give NES a large, clipped gradient
    assert cli.run([*adapt_arguments(files, source_model, out), weight, *longer]) == 0
    losses = [entry["supervised"] for entry in epochs(out)[1:]]
    assert losses[-1] < 0.7 * losses[0]


def test_a_killed_semi_supervised_anchored_run_resumes_to_the_same_weights(
    files: Path, source_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, *more: str) -> int:
        return cli.run([*adapt_arguments(files, source_model, tmp_path / name), *ANCHORED, *SUPERVISED, *more])

    assert run("whole") == 0
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    steps = 0
    original = loop.Loop._step

    def killed_in_the_fifth(self: loop.Loop, indices: list[int]) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            raise Killed
        original(self, indices)

    monkeypatch.setattr(loop.Loop, "_step", killed_in_the_fifth)
    assert run("broken") == 70
    assert not (tmp_path / "broken" / "model.safetensors").exists()
    assert run("broken", "--resume") == 0
    whole, broken = (tmp_path / name / "model.safetensors" for name in ("whole", "broken"))
    assert whole.read_bytes() == broken.read_bytes()


def test_without_source_sentences_there_is_no_supervised_term(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = tmp_path / "train.conllu"
    train.write_bytes((files / "train.conllu").read_bytes())
    arguments = [str(train) if "train.conllu" in word else word for word in pretrain_arguments(files, tmp_path / "m")]
    assert cli.run(arguments) == 0
    train.unlink()
    assert cli.run([*adapt_arguments(files, tmp_path / "m", tmp_path / "out"), *SUPERVISED]) == 1
    assert capsys.readouterr().err == (
        "error: objective.supervised_weight is 1, but there are no source sentences to learn from: the file that "
        f"{tmp_path}/m was trained on is gone; give it with --source\n"
    )
    assert not (tmp_path / "out").exists()


def test_words_from_their_heads_and_the_exact_gradient(files: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "target"
    assert cli.run([*pretrain_arguments(files, source), "--set=decoder.kind=arcs"]) == 0
    assert "decoder: words from their heads" in (source / "MODEL_CARD.md").read_text()
    more = ["--method", "marginals", "--set=objective.decoder=arcs", "--set=objective.single_root=true"]
    assert cli.run([*adapt_arguments(files, source, out), *ANCHORED, *more, "--epochs", "5"]) == 0
    objectives = [entry["objective"] for entry in epochs(out)[1:]]
    assert objectives[-1] < objectives[0]


def test_a_decoder_that_the_model_lacks_is_one_error_that_says_what_to_do(
    files: Path, source_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = [*adapt_arguments(files, source_model, tmp_path / "out"), "--set=objective.decoder=arcs"]
    assert cli.run(wanted) == 1
    assert capsys.readouterr().err == (
        f"error: objective.decoder is arcs, but {source_model} was pretrained with the decoder lm; pretrain a model "
        "with --set decoder.kind=arcs\n"
    )
    assert not (tmp_path / "out").exists()


def test_the_card_and_the_log_tell_what_can_be_known_without_target_trees(
    files: Path, source_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    held = ["--set=training.held_out=0.4", "--set=training.learning_rate=0.3"]
    assert cli.run([*adapt_arguments(files, source_model, out), *held]) == 0
    entries = epochs(out)
    assert entries[0]["target_agreement"] == 100.0
    assert all("target_reconstruction" in entry for entry in entries)
    card = (out / "MODEL_CARD.md").read_text()
    assert "## What can be known without target trees" in card
    assert "| best reconstruction of held-out target words |" in card
    assert f"| 2 | {entries[2]['dev_uas']:.3f} | {entries[2]['target_reconstruction']:.3f} |" in card


def test_holding_everything_out_is_refused(
    files: Path, source_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*adapt_arguments(files, source_model, tmp_path / "out"), "--set=training.held_out=0.9999"]
    assert cli.run(arguments) == 1
    assert capsys.readouterr().err == (
        "error: training.held_out is 0.9999, which leaves no target sentences to learn from\n"
    )


@pytest.mark.parametrize("generates", ["classes", "tags"])
def test_tags_and_word_classes_from_their_heads(files: Path, tmp_path: Path, generates: str) -> None:
    vectors = tmp_path / "words.vec"
    words = ["the", "a", "dog", "cat", "bird", "horse", "sees", "hears", "it", "server", "router", "."]
    vectors.write_text("".join(f"{word} {number % 3} {number % 5} 1\n" for number, word in enumerate(words)))
    arcs = ["--set=decoder.kind=arcs", f"--set=decoder.generates={generates}", "--set=decoder.classes=4"]
    source, out, taught = tmp_path / "source", tmp_path / "target", tmp_path / "taught"
    assert cli.run([*pretrain_arguments(files, source), "--vectors", str(vectors), *arcs]) == 0
    what = {"classes": "4 word classes", "tags": "UPOS tags"}[generates]
    assert f"decoder: {what} from their heads" in (source / "MODEL_CARD.md").read_text()
    exact = ["--method", "marginals", *ANCHORED, "--set=training.held_out=0.3"]
    assert cli.run([*adapt_arguments(files, source, out), *exact, "--epochs", "5"]) == 0
    entries = epochs(out)
    assert entries[-1]["objective"] < entries[1]["objective"]
    assert 0 < entries[-1]["target_reconstruction"] < math.log(5 if generates == "classes" else 7)
    beside = ["--set=latent.method=nes", "--set=nes.perturb=scores", "--set=nes.population=4"]
    assert cli.run([*self_training_arguments(files, source, taught), *beside]) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--set=decoder.kind=arcs", "--set=decoder.generates=classes"],
            "decoder.generates is classes, which are clusters of word vectors; give some with --vectors",
        ),
        (
            ["--set=decoder.kind=arcs", "--set=decoder.generates=tags", "--set=encoder.tagging=false"],
            "decoder.generates is tags, which raw text gets from the encoder; add --set encoder.tagging=true",
        ),
        (
            ["--set=decoder.generates=tags"],
            "--set decoder.generates=tags: decoder: generates = tags is for kind = arcs; lm generates forms",
        ),
    ],
)
def test_what_cannot_be_generated_is_refused(
    more: list[str], message: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*pretrain_arguments(files, tmp_path / "out"), *more]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "out").exists()
