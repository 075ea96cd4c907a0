"""Model folders and states: exact round trips, one-line errors, and a whole model after a crash at any moment."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import parser_vae.training.checkpoint as checkpoint
from parser_vae.errors import InputError, ModelFolderError
from parser_vae.training.checkpoint import (
    load_state,
    prepare_output,
    read_manifest,
    read_model,
    save_state,
    write_model,
)


def write(folder: Path, value: float = 1.0) -> None:
    write_model(folder, {"weight": torch.full((3, 2), value)}, {"kind": "parsing"}, f"value = {value}\n", "# A card\n")


def test_a_model_comes_back_as_it_was_written(tmp_path: Path) -> None:
    base = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    tensors = {"a": base, "transposed": base.t(), "row": base[1], "flags": torch.tensor([True, False])}
    write_model(tmp_path / "new" / "model", tensors, {"kind": "parsing", "words": ["ä"]}, 'x = "ä"\n', "card")
    model = read_model(tmp_path / "new" / "model")
    assert model.tensors.keys() == tensors.keys()
    assert all(torch.equal(model.tensors[name], tensors[name]) for name in tensors)
    assert model.settings_toml == 'x = "ä"\n'
    assert model.manifest["kind"] == "parsing"
    assert model.manifest["words"] == ["ä"]
    assert model.manifest["format"] == 1
    assert sorted(path.name for path in (tmp_path / "new" / "model").iterdir()) == [
        "MODEL_CARD.md",
        "config.toml",
        "manifest.json",
        "model.safetensors",
    ]


def test_the_manifest_records_the_hashes(tmp_path: Path) -> None:
    write(tmp_path)
    recorded = read_manifest(tmp_path)["sha256"]
    assert recorded == {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in recorded}
    assert set(recorded) == {"model.safetensors", "config.toml", "MODEL_CARD.md"}


def test_the_card_may_be_edited_but_the_weights_may_not(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "MODEL_CARD.md").write_text("my own words")
    read_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(ModelFolderError) as caught:
        read_model(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/model.safetensors: is not the file that manifest.json describes (its hash differs); "
        "copy the model folder again, or train the model again"
    )


def test_the_caller_cannot_redefine_the_manifest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format"):
        write_model(tmp_path, {}, {"format": 7}, "", "")


def test_every_way_not_to_be_a_model_has_its_message(tmp_path: Path) -> None:
    def message(folder: Path) -> str:
        with pytest.raises(ModelFolderError) as caught:
            read_model(folder)
        return str(caught.value).replace(str(tmp_path), "")

    assert message(tmp_path / "none") == (
        "/none: no such model folder; check the path, or train a model with parser-vae pretrain --out /none"
    )
    (tmp_path / "file").touch()
    assert (
        message(tmp_path / "file") == "/file: a file, not a model folder; name the folder that --out named in training"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    assert message(folder) == (
        "/folder: not a model folder (no manifest.json); name the folder that --out named in training"
    )
    (folder / "config.toml").touch()
    assert message(folder) == "/folder: its training has not written a model yet; continue it with --resume"
    (folder / "manifest.json").write_text("{")
    assert message(folder) == ("/folder/manifest.json: not JSON; copy the model folder again, or train the model again")
    (folder / "manifest.json").write_text("{}")
    assert message(folder) == (
        "/folder/manifest.json: not the manifest of a parser-vae model; name the folder that pretrain wrote"
    )
    write(folder)
    (folder / "model.safetensors").unlink()
    assert message(folder) == (
        "/folder/model.safetensors: is missing; copy the model folder again, or train the model again"
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 2, "version": "9.0"}))
    assert message(folder) == (
        "/folder: model format 2 (parser-vae 9.0), but this version, 0.1.0, reads up to 1; "
        "upgrade with pip install --upgrade parser-vae"
    )


class Crash(BaseException):
    pass


def test_a_crash_at_any_rename_leaves_the_old_model_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renames are all that changes what a reader sees; stop before each one in turn, then read and write again."""
    real = Path.replace
    seen = []
    for stop_at in range(10):
        folder = tmp_path / str(stop_at)
        write(folder, 1.0)
        calls = 0

        def replace(self: Path, target: Path, stop_at: int = stop_at) -> Path:
            nonlocal calls
            if calls == stop_at:
                raise Crash
            calls += 1
            return real(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        try:
            write(folder, 2.0)
            crashed = False
        except Crash:
            crashed = True
        monkeypatch.setattr(Path, "replace", real)
        model = read_model(folder)
        value = model.tensors["weight"][0, 0].item()
        assert model.settings_toml == f"value = {value}\n"
        assert torch.equal(model.tensors["weight"], torch.full((3, 2), value))
        seen.append(value)
        # A second crash before the next commit must not lose the model that waits under its pending names.
        monkeypatch.setattr(checkpoint, "replacing", _crash)
        with pytest.raises(Crash):
            write(folder, 3.0)
        monkeypatch.undo()
        assert read_model(folder).tensors["weight"][0, 0].item() == value
        write(folder, 4.0)
        assert read_model(folder).tensors["weight"][0, 0].item() == 4.0
        assert not list(folder.glob("*.new"))
        if not crashed:
            break
    assert seen[0] == 1.0, "the first rename is the commit"
    assert set(seen[1:]) == {2.0}
    assert len(seen) >= 4


def _crash(path: Path) -> Any:
    raise Crash


WRITER = """
import sys, itertools, torch
from pathlib import Path
from parser_vae.training.checkpoint import save_state, write_model
folder = Path(sys.argv[1])
for value in itertools.count(1):
    tensors = {"weight": torch.full((300, 400), float(value))}
    write_model(folder, tensors, {"value": value}, f"value = {value}\\n", f"card {value}")
    save_state(folder, {"value": value, **tensors})
    print(value, flush=True)
"""


def test_kill_9_in_the_middle_of_writing_leaves_a_whole_model_and_state(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    pauses = torch.rand(6, generator=torch.Generator().manual_seed(3)).tolist()
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    for pause in pauses:
        # Stopping is as abrupt as killing for what is on the disk, and spares the start of a new process each time.
        time.sleep(0.01 + 0.03 * pause)
        os.kill(process.pid, signal.SIGSTOP)
        model, state = read_model(folder), load_state(folder)
        value = model.manifest["value"]
        assert torch.equal(model.tensors["weight"], torch.full((300, 400), float(value)))
        assert model.settings_toml == f"value = {value}\n"
        assert torch.equal(state["weight"], torch.full((300, 400), float(state["value"])))
        assert state["value"] in (value, value - 1)
        os.kill(process.pid, signal.SIGCONT)
    time.sleep(0.02)
    process.kill()
    process.stdout.close()
    process.wait()
    value = read_model(folder).manifest["value"]
    assert load_state(folder)["value"] in (value, value - 1)
    write(folder, 7.0)
    assert read_model(folder).tensors["weight"][0, 0].item() == 7.0


# ------------------------------------------------------------------------------------------------ training states

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
tensors = st.builds(
    lambda dtype, shape, seed: torch.randint(0, 200, shape, generator=torch.Generator().manual_seed(seed)).to(dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(0, 99),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | tensors,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, Tensor):
        return left.dtype == right.dtype and left.shape == right.shape and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return left.hex() == right.hex()
    return bool(left == right)


@given(st.dictionaries(st.text() | st.integers(), values, max_size=4))
def test_a_state_comes_back_equal_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, state: dict[str | int, Any]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "state"
    save_state(folder, state)
    assert same(load_state(folder), state)


def test_tuples_come_back_as_lists_and_shared_tensors_as_copies(tmp_path: Path) -> None:
    shared = torch.arange(6.0).view(2, 3)
    save_state(tmp_path, {"betas": (0.9, 0.999), "a": shared, "b": shared, "row": shared[1], "nan": float("nan")})
    state = load_state(tmp_path)
    assert state["betas"] == [0.9, 0.999]
    assert torch.equal(state["a"], shared)
    assert torch.equal(state["b"], shared)
    assert torch.equal(state["row"], shared[1])
    assert state["nan"] != state["nan"]


def test_an_optimiser_and_a_generator_continue_where_they_were(tmp_path: Path) -> None:
    def make() -> tuple[torch.nn.Linear, torch.optim.Adam, torch.Generator]:
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.Adam(layer.parameters(), lr=0.1), torch.Generator()

    def step(layer: torch.nn.Linear, optimiser: torch.optim.Adam, generator: torch.Generator) -> None:
        optimiser.zero_grad()
        layer(torch.randn(5, 3, generator=generator)).square().sum().backward()
        optimiser.step()

    layer, optimiser, generator = make()
    step(layer, optimiser, generator)
    save_state(
        tmp_path,
        {"model": layer.state_dict(), "optimiser": optimiser.state_dict(), "generator": generator.get_state()},
    )
    step(layer, optimiser, generator)
    other, other_optimiser, other_generator = make()
    state = load_state(tmp_path)
    other.load_state_dict(state["model"])
    other_optimiser.load_state_dict(state["optimiser"])
    other_generator.set_state(state["generator"])
    step(other, other_optimiser, other_generator)
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)


def test_what_cannot_be_saved_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^state\.a\.1: a set cannot be saved$"):
        save_state(tmp_path, {"a": [1, {2}]})
    with pytest.raises(TypeError, match=r"^state\.a: a key must be a str or an int, not 1\.5$"):
        save_state(tmp_path, {"a": {1.5: 2}})
    assert not (tmp_path / "state.safetensors").exists()


def test_a_state_that_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r": no state\.safetensors to resume from; start without --resume$"):
        load_state(tmp_path)
    (tmp_path / "state.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ModelFolderError, match=r"state\.safetensors: damaged; start anew with --overwrite$"):
        load_state(tmp_path)


# ------------------------------------------------------------------------------------------------ output folders


def test_an_output_folder_is_new_or_empty_or_what_to_do_with_it_is_said(tmp_path: Path) -> None:
    prepare_output(tmp_path / "a" / "b", resume=False, overwrite=False)
    prepare_output(tmp_path / "a" / "b", resume=False, overwrite=False)
    prepare_output(tmp_path / "c", resume=True, overwrite=False)
    write(tmp_path / "c")
    prepare_output(tmp_path / "c", resume=True, overwrite=False)
    with pytest.raises(InputError) as caught:
        prepare_output(tmp_path / "c", resume=False, overwrite=False)
    assert str(caught.value) == (
        f"--out {tmp_path}/c: not empty; continue with --resume, discard it with --overwrite, or name another"
    )
    with pytest.raises(InputError, match="give one of them"):
        prepare_output(tmp_path / "c", resume=True, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"/file: a file of that name exists; name a folder$"):
        prepare_output(tmp_path / "file", resume=False, overwrite=True)
    with pytest.raises(InputError, match=r"no run to resume \(no config\.toml\)"):
        prepare_output(tmp_path, resume=True, overwrite=False)


def test_overwriting_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path)
    save_state(tmp_path, {"epoch": 1})
    (tmp_path / "log.jsonl").touch()
    (tmp_path / "model.safetensors.new").touch()
    (tmp_path / "notes.txt").write_text("mine")
    prepare_output(tmp_path, resume=False, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_without_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("mine")
    with pytest.raises(InputError, match=r"holds files but no run to discard; name a run's folder, or another$"):
        prepare_output(tmp_path, resume=False, overwrite=True)
    assert (tmp_path / "config.toml").read_text() == "mine"
