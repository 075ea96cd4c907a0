"""Two tiny domains and the models trained on them, made once for all tests of this folder."""

import random
from pathlib import Path

import pytest

from parser_vae import cli

# Small enough to train in a second: what is tested is that the pieces fit, not how good the parser gets.
SMALL = [
    "--quiet",
    "--threads=1",
    "--set=training.batch_size=4",
    "--set=encoder.hidden=8",
    "--set=encoder.layers=1",
    "--set=encoder.word_size=8",
    "--set=encoder.character_size=4",
    "--set=encoder.arc_size=8",
    "--set=encoder.label_size=8",
]
SMALL_ADAPTATION = [
    "--quiet",
    "--threads=1",
    "--set=training.batch_size=4",
    "--set=training.learning_rate=0.01",
    "--set=nes.population=4",
    "--set=nes.sigma=0.1",
]


def treebank(count: int, seed: int, nouns: str) -> str:
    """Return sentences such as "the dog sees it", with comments, a multiword token, an empty node, MISC and DEPS."""
    choose = random.Random(seed)
    text = []
    for number in range(1, count + 1):
        rows = []
        first, second = choose.sample(nouns.split(), 2)
        words = [
            ("the", "DET", 2, "det"),
            (first, "NOUN", 3, "nsubj"),
            (choose.choice(["sees", "hears"]), "VERB", 0, "root"),
        ]
        if choose.random() < 0.5:
            words += [("a", "DET", 5, "det"), (second, "NOUN", 3, "obj")]
        else:
            words += [("it", "PRON", 3, "obj")]
        words.append((".", "PUNCT", 3, "punct"))
        for position, (form, tag, head, relation) in enumerate(words, start=1):
            misc = "SpaceAfter=No" if position == len(words) - 1 else "_"
            rows.append(f"{position}\t{form}\t_\t{tag}\t_\t_\t{head}\t{relation}\t{head}:{relation}\t{misc}")
        if number % 3 == 0:
            rows.insert(2, "3-4\tsees-it\t_\t_\t_\t_\t_\t_\t_\t_")
            rows.insert(4, "3.1\tgone\t_\t_\t_\t_\t_\t_\t_\t_")
        text.append(f"# sent_id = {seed}-{number}\n# note: kept | as it is\n" + "\n".join(rows) + "\n\n")
    return "".join(text)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``train``, ``dev`` (source), ``target`` and ``test`` (target domain), each ``.conllu``."""
    folder = tmp_path_factory.mktemp("treebanks")
    source, target = "dog cat bird horse", "server router cable horse"
    for name, count, nouns in (("train", 16, source), ("dev", 6, source), ("target", 12, target), ("test", 6, target)):
        (folder / f"{name}.conllu").write_text(treebank(count, len(name) + count, nouns), encoding="utf-8")
    return folder


def pretrain_arguments(files: Path, out: Path) -> list[str]:
    data = ["--train", str(files / "train.conllu"), "--dev", str(files / "dev.conllu")]
    return ["pretrain", *data, "--out", str(out), "--epochs", "2", *SMALL]


def adapt_arguments(files: Path, source_model: Path, out: Path) -> list[str]:
    data = ["--from", str(source_model), "--target", str(files / "target.conllu"), "--test", str(files / "test.conllu")]
    return ["adapt", *data, "--method", "nes", "--out", str(out), "--epochs", "2", *SMALL_ADAPTATION]


def self_training_arguments(files: Path, source_model: Path, out: Path) -> list[str]:
    data = ["--from", str(source_model), "--target", str(files / "target.conllu"), "--test", str(files / "test.conllu")]
    small = ["--teacher", str(source_model), "--set=self_training.rounds=2", "--set=self_training.epochs=2"]
    return ["adapt", *data, "--method", "self-training", "--out", str(out), *small, "--quiet", "--threads=1"]


@pytest.fixture(scope="session")
def source_model(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "source"
    assert cli.run(pretrain_arguments(files, out)) == 0
    return out


@pytest.fixture(scope="session")
def target_model(files: Path, source_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "target"
    assert cli.run(adapt_arguments(files, source_model, out)) == 0
    return out


@pytest.fixture(scope="session")
def self_trained_model(files: Path, source_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "self-trained"
    assert cli.run(self_training_arguments(files, source_model, out)) == 0
    return out
