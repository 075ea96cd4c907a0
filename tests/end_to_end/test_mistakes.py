"""Every mistake ends in one line and exit code 1, whichever command meets it, and leaves what was there as it was."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from parser_vae import cli
from tests.end_to_end.conftest import SMALL, SMALL_ADAPTATION
from tests.treebank.test_diagnosis import CASES, GOOD, TREE_CASES

# All kinds of problem reach commands through one reader, so the dear ones need not meet them all.
FEW = ("nine columns", "cycle", "not UTF-8", "cut off in a line")
WITHOUT_TREES = [case for case in CASES if not case.startswith(TREE_CASES)]


@pytest.fixture
def malformed(tmp_path: Path) -> Callable[[str], tuple[Path, str]]:
    """A function from the name of a case to a file and the line that its reader is to see."""

    def write(case: str) -> tuple[Path, str]:
        content, message = CASES[case]
        path = tmp_path / "malformed.conllu"
        path.write_bytes(GOOD + (content if isinstance(content, bytes) else content.encode()))
        return path, f"error: {path}{message.removeprefix('f')}\n"

    return write


def fails_with(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*arguments, "--quiet"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == message


@pytest.mark.parametrize("case", WITHOUT_TREES)
def test_parse(
    case: str,
    malformed: Callable[[str], tuple[Path, str]],
    source_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, message = malformed(case)
    out = tmp_path / "out.conllu"
    out.write_text("before")
    fails_with(["parse", str(source_model), str(path), "--output", str(out)], message, capsys)
    assert out.read_text() == "before"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("role", ["gold", "predicted", "baseline"])
def test_evaluate(
    case: str,
    role: str,
    malformed: Callable[[str], tuple[Path, str]],
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, message = malformed(case)
    out = tmp_path / "out.json"
    out.write_text("before")
    roles = dict.fromkeys(["gold", "predicted", "baseline"], files / "test.conllu") | {role: path}
    arguments = [word for name, file in roles.items() for word in (f"--{name}", str(file))]
    fails_with(["evaluate", *arguments, "--json", str(out)], message, capsys)
    assert out.read_text() == "before"


@pytest.mark.parametrize("case", CASES)
def test_check(case: str, malformed: Callable[[str], tuple[Path, str]], capsys: pytest.CaptureFixture[str]) -> None:
    path, message = malformed(case)
    assert cli.run(["check", str(path)]) == 1
    assert message.removeprefix("error: ") in capsys.readouterr().out


@pytest.mark.parametrize("case", FEW)
@pytest.mark.parametrize("role", ["train", "dev"])
def test_pretrain(
    case: str,
    role: str,
    malformed: Callable[[str], tuple[Path, str]],
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, message = malformed(case)
    roles = {name: files / f"{name}.conllu" for name in ("train", "dev")} | {role: path}
    arguments = [word for name, file in roles.items() for word in (f"--{name}", str(file))]
    fails_with(["pretrain", *arguments, "--out", str(tmp_path / "model"), *SMALL], message, capsys)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("case", FEW)
@pytest.mark.parametrize("role", ["target", "source", "dev", "test"])
def test_adapt(
    case: str,
    role: str,
    malformed: Callable[[str], tuple[Path, str]],
    files: Path,
    source_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if role == "target" and case not in WITHOUT_TREES:
        case = "blanks for tabs"
    path, message = malformed(case)
    names = {"target": "target", "source": "train", "dev": "dev", "test": "test"}
    roles = {name: files / f"{file}.conllu" for name, file in names.items()} | {role: path}
    arguments = [word for name, file in roles.items() for word in (f"--{name}", str(file))]
    out = tmp_path / "model"
    fails_with(
        ["adapt", "--from", str(source_model), *arguments, "--out", str(out), *SMALL_ADAPTATION], message, capsys
    )
    assert not out.exists()


def test_a_mistake_leaves_the_model_that_was_to_be_overwritten(
    files: Path, malformed: Callable[[str], tuple[Path, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    out.mkdir()
    for name in ("config.toml", "log.jsonl", "model.safetensors"):
        (out / name).write_text("precious")
    path, message = malformed("cycle")
    fails_with(["pretrain", "--train", str(path), "--out", str(out), "--overwrite"], message, capsys)
    assert [file.read_text() for file in out.iterdir()] == ["precious"] * 3


METHOD = ("--method", "nes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["parse", "{model}", "{none}"], "{none}: "),
        (["parse", "{none}", "{file}"], "{none}: no such model folder; "),
        (["parse", "{file}", "{file}"], "{file}: a file, not a model folder; "),
        (["info", "{none}"], "{none}: no such model folder; "),
        (["evaluate", "--gold", "{file}", "--predicted", "{none}"], "{none}: "),
        (["pretrain", "--train", "{none}", "--out", "{out}"], "--train {none}: no such file or folder"),
        (["pretrain", "--train", "{file}", "--vectors", "{none}", "--out", "{out}"], "--vectors {none}: no such file"),
        (["pretrain", "--train", "{file}", "--vectors", "{file}", "--out", "{out}"], "{file}: "),
        (["pretrain", "--out", "{out}"], "the command line: data.train missing; give the flag, --set data.train=..., "),
        (["pretrain", "--train", "{file}", "--encoder", "big", "--out", "{out}"], "the command line: encoder.preset: "),
        (["adapt", "--target", "{file}", "--out", "{out}"], "the command line: data.model missing; "),
        (
            ["adapt", "--from", "{none}", "--target", "{file}", "--out", "{out}"],
            "--from {none}: no such file or folder",
        ),
        (["adapt", "--from", "{empty}", "--target", "{file}", "--out", "{out}"], "{empty}: not a model folder (no "),
        (
            ["adapt", "--from", "{model}", "--target", "{file}", "--method", "magic", "--out", "{out}"],
            "method 'magic' ",
        ),
        (
            [
                "adapt",
                "--from",
                "{model}",
                "--target",
                "{file}",
                "--preset",
                "paper",
                "--set",
                "nes=3",
                "--out",
                "{out}",
            ],
            "",
        ),
        (
            ["adapt", "--from", "{model}", "--target", "{file}", "--set", "preset=[1]", "--out", "{out}"],
            "--set preset=[1]: preset: expected ",
        ),
        (
            ["adapt", "--from", "{model}", "--target", "{file}", "--overwrite", "--out", "{model}"],
            "--out {model}: is also --from, which would be lost; ",
        ),
        (
            ["adapt", "--from", "{model}", "--target", "{file}", *METHOD, "--silver", "{file}", "--out", "{out}"],
            "--silver: nes reads no labelled sentences while objective.supervised_weight is 0; ",
        ),
        (
            ["adapt", "--from", "{model}", "--target", "{file}", *METHOD, "--teacher", "{model}", "--out", "{out}"],
            "--teacher: nes learns from no parser's trees; ",
        ),
        (
            ["adapt", "--from", "{model}", "--target", "{file}", "--set", "nes.sigma=inf", "--out", "{out}"],
            "--set nes.sigma=inf: nes.sigma: expected a finite number",
        ),
        (["vectors", "--text", "{none}", "--out", "{out}"], "--text {none}: no such file or folder"),
        (["vectors", "--text", "{file}", "--out", "{out}"], "{out}: cannot tell what to write; "),
        (["parse", "{model}", "{file}", "--config", "{none}"], "{none}: cannot read the settings "),
        (["parse", "{model}", "{file}", "--device", "abacus"], "--device abacus: not available here; "),
        (["pretrain", "--train", "{file}", "--out", "{out}", "--device", "cuda"], "--device cuda: training runs on "),
    ],
)
def test_what_is_missing_or_unknown(
    arguments: list[str],
    message: str,
    files: Path,
    source_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    names = {name: str(tmp_path / name) for name in ("none", "out", "empty")}
    names |= {"model": str(source_model), "file": str(files / "train.conllu")}
    assert cli.run([argument.format(**names) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]+\n", error)
    assert error.startswith(f"error: {message.format(**names)}")
    assert not (tmp_path / "out").exists()


def test_a_command_that_cannot_be_shared_refuses_torchrun(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one-of-two")
    arguments = ["pretrain", "--train", str(files / "train.conllu"), "--out", str(tmp_path / "out")]
    fails_with(arguments, "error: this command works in one process; leave torchrun out\n", capsys)
