"""Settings: what wins over what, and the whole message of every mistake."""

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from parser_vae.errors import ConfigError
from parser_vae.training.config import Settings, dump_settings, known_keys, load_settings, require_same_settings


class Data(Settings):
    train: Path
    dev: Path | None = None
    target: tuple[Path, ...] = ()


class Training(Settings):
    epochs: int = Field(20, ge=1)
    rate: float = 0.002
    average: bool = False
    name: str = "run"


class Example(Settings):
    structure: Literal["projective", "spanning"] = "projective"
    data: Data
    training: Training = Training()

    @model_validator(mode="after")
    def _consistent(self) -> "Example":
        if self.data.dev is not None and self.data.dev == self.data.train:
            raise ValueError("data.dev is data.train; hold sentences out, or leave data.dev away")
        return self


def load(*overrides: str, toml: Path | None = None, flags: dict[str, object] | None = None) -> Example:
    return load_settings(Example, toml, overrides, flags)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text('structure = "spanning"\n[data]\ntrain = "a.conllu"\n[training]\nepochs = 3\nrate = 0.1\n')
    return path


def test_a_flag_beats_an_override_beats_the_file_beats_the_default(toml: Path) -> None:
    settings = load("training.rate=0.5", "training.epochs=4", toml=toml, flags={"training.epochs": 5, "data.dev": None})
    assert settings == Example(
        structure="spanning", data=Data(train=Path("a.conllu")), training=Training(epochs=5, rate=0.5)
    )


def test_the_value_of_an_override_is_toml_or_else_plain_text() -> None:
    settings = load("data.train = a=b c.conllu", "data.target=['x', 'y']", 'training.name="7"', "training.average=true")
    assert settings.data.train == Path("a=b c.conllu")
    assert settings.data.target == (Path("x"), Path("y"))
    assert settings.training == Training(name="7", average=True)


def test_flags_may_be_paths_and_lists_of_paths() -> None:
    assert load(flags={"data.train": Path("a"), "data.target": [Path("b")]}).data == Data(
        train=Path("a"), target=(Path("b"),)
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "unknown key training.epoch; did you mean training.epochs?"),
        ("epochs=3", "unknown key epochs; did you mean training.epochs?"),
        ("trainning.epochs=3", "unknown key trainning; did you mean training?"),
        ("data.zzz=3", "unknown key data.zzz; known in data: data.train, data.dev, data.target"),
        ("zzz=3", "unknown key zzz; known at the top level: structure, data, training"),
        ("training.epochs=2.5", "training.epochs: expected a whole number, not 2.5"),
        ("training.epochs=many", 'training.epochs: expected a whole number, not "many"'),
        ("training.epochs=0", "training.epochs: expected greater than or equal to 1, not 0"),
        ("training.average=1", "training.average: expected true or false, not 1"),
        ("training.rate=fast", 'training.rate: expected a number, not "fast"'),
        ("training.name=7", "training.name: expected a text, not 7; put it in quotes"),
        ("training=7", "training: expected a section with keys, not 7"),
        ("structure=flat", "structure: expected 'projective' or 'spanning', not \"flat\""),
    ],
)
def test_a_mistake_is_one_line_that_names_place_key_and_remedy(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("data.train=a", override)
    assert str(caught.value) == f"--set {override}: {message}"


def test_a_mistake_in_the_file_names_the_file(toml: Path) -> None:
    toml.write_text('[data]\ntrain = "a"\n[training]\nepohcs = 3\n')
    with pytest.raises(ConfigError) as caught:
        load(toml=toml)
    assert str(caught.value) == f"{toml}: unknown key training.epohcs; did you mean training.epochs?"


def test_a_mistake_in_a_flag_names_the_command_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load(flags={"data.train": Path("a"), "training.epochs": -1})
    assert str(caught.value) == ("the command line: training.epochs: expected greater than or equal to 1, not -1")


def test_what_is_missing_is_named_with_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        load("training.epochs=2")
    assert str(caught.value) == (
        "the command line: data.train missing; give the flag, --set data.train=..., or the key in a --config file"
    )


def test_an_unknown_key_is_reported_before_the_key_it_was_meant_to_be() -> None:
    with pytest.raises(ConfigError) as caught:
        load("data.trian=a")
    assert str(caught.value) == "--set data.trian=a: unknown key data.trian; did you mean data.train? (and 1 more)"


def test_a_contradiction_is_told_in_its_own_words() -> None:
    with pytest.raises(ConfigError, match=r": data\.dev is data\.train; hold sentences out"):
        load("data.train=a", "data.dev=a")


@pytest.mark.parametrize("text", ["epochs", "=3", "training.=3", ".epochs=3"])
def test_an_override_without_key_or_value(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert str(caught.value) == f"--set {text}: expected section.key=value, for example --set training.seed=3"


def test_a_file_that_is_missing_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.toml: cannot read the settings \(No such file or directory\)"):
        load(toml=tmp_path / "nope.toml")
    (tmp_path / "bad.toml").write_text("[data\n")
    with pytest.raises(ConfigError, match=r"bad\.toml: not TOML: .*line 1"):
        load(toml=tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match=r"bad\.toml: not TOML: "):
        load(toml=tmp_path / "bad.toml")


@given(
    st.builds(
        Example,
        structure=st.sampled_from(["projective", "spanning"]),
        data=st.builds(
            Data,
            train=st.text(st.characters(codec="utf-8"), min_size=1).map(Path),
            target=st.lists(st.text(st.characters(codec="utf-8")).map(Path)).map(tuple),
        ),
        training=st.builds(
            Training,
            epochs=st.integers(1, 2**62),
            rate=st.floats(allow_nan=False, allow_infinity=False),
            name=st.text(st.characters(codec="utf-8")),
        ),
    )
)
def test_what_is_dumped_loads_to_the_same(tmp_path_factory: pytest.TempPathFactory, settings: Example) -> None:
    path = tmp_path_factory.mktemp("dump") / "config.toml"
    path.write_text(dump_settings(settings), encoding="utf-8", newline="")
    assert load(toml=path) == settings


def test_a_resumed_run_must_have_the_recorded_settings() -> None:
    recorded = load("data.train=a")
    require_same_settings(recorded, load("data.train=a"), Path("runs/x"))
    with pytest.raises(ConfigError) as caught:
        require_same_settings(recorded, load("data.train=a", "training.epochs=30"), Path("runs/x"))
    assert str(caught.value) == (
        "--resume: training.epochs is 20 in runs/x/config.toml but 30 now; resume with the recorded settings "
        "(leave the flag out), or start anew with --overwrite"
    )
    with pytest.raises(ConfigError, match=r'data\.dev is unset in runs/x/config\.toml but "b" now'):
        require_same_settings(recorded, load("data.train=a", "data.dev=b"), Path("runs/x"))


def test_known_keys_are_dotted_and_in_order() -> None:
    assert known_keys(Example)[:5] == ["structure", "data", "data.train", "data.dev", "data.target"]
