"""Model folders and training states: safetensors and JSON, no pickle, whole at every moment.

A model folder holds::

    model.safetensors   the weights
    manifest.json       format number, hashes, version, commit, time, and what the caller adds
    config.toml         the settings that made it
    MODEL_CARD.md       for people: what it is, what it was made from, how good it is
    log.jsonl           one line per event of its training
    state.safetensors   what --resume needs, until the run has ended

Replacing a model has one commit point, the rename of ``manifest.json``. The files it describes are first written whole
as ``NAME.new`` and get their final names after it. A crash before the commit leaves the old model; a crash after it
leaves the new one, some of whose files still have the suffix: readers accept a ``NAME.new`` whose hash is the one in
the manifest, and the next writer finishes the renaming first. A training state is a single file: its rename is enough.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors_torch
from torch import Tensor

import parser_vae
from parser_vae.errors import InputError, ModelFolderError
from parser_vae.files import replacing, sync_folder

MODEL_FORMAT = 1
STATE_FORMAT = 1
MODEL, MANIFEST, CONFIG, CARD = "model.safetensors", "manifest.json", "config.toml", "MODEL_CARD.md"
LOG, STATE = "log.jsonl", "state.safetensors"
PICTURES = ("result.json", "pictures.png")  # what a training on images leaves beside its model
ROUNDS = "rounds"  # the students of a self-training, a model folder each
# The card may be edited by its owner; weights and settings may not.
_VERIFIED = (MODEL, CONFIG)
_PENDING = ".new"


@dataclass(frozen=True)
class ModelFolder:
    """What ``read_model`` returns."""

    tensors: dict[str, Tensor]
    manifest: dict[str, Any]
    settings_toml: str


def write_model(
    folder: Path, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], settings_toml: str, card: str
) -> None:
    """Write or replace the model in ``folder``; at every moment the folder holds the old model or the new one.

    Args:
        folder: The model folder; made where it is missing.
        tensors: The weights by name, on any device.
        manifest: JSON values to record beside the package's own keys (which it may not redefine).
        settings_toml: The resolved settings.
        card: The text of the model card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        MODEL: safetensors_torch.save(_independent(tensors), {"format": "pt"}),
        CONFIG: settings_toml.encode("utf-8"),
        CARD: card.encode("utf-8"),
    }
    own = {
        "format": MODEL_FORMAT,
        "version": parser_vae.__version__,
        "commit": current_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    if clash := own.keys() & manifest.keys():
        raise ValueError(f"the manifest's own keys cannot be set: {sorted(clash)}")
    described = json.dumps(own | dict(manifest), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    _finish_pending(folder)
    for name, content in contents.items():
        with (folder / (name + _PENDING)).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)
    with replacing(folder / MANIFEST) as file:
        file.write(described.encode("utf-8"))
    for name in contents:
        (folder / (name + _PENDING)).replace(folder / name)
    sync_folder(folder)


def read_model(folder: Path) -> ModelFolder:
    """Return the model in ``folder``, its tensors on the CPU.

    Raises:
        ModelFolderError: There is no model, a file is missing or damaged, or a newer version wrote it.
    """
    manifest = read_manifest(folder)
    content = {name: _verified(folder, name, manifest) for name in _VERIFIED}
    try:
        tensors = safetensors_torch.load(content[MODEL])
    except SafetensorError as error:
        raise ModelFolderError(f"{folder / MODEL}: not a safetensors file ({error}); train the model again") from None
    return ModelFolder(tensors, manifest, content[CONFIG].decode("utf-8"))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the checked ``manifest.json`` of a model folder; ``ModelFolderError`` where there is none to read."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelFolderError(_why_no_model(folder)) from None
    except OSError as error:
        raise ModelFolderError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except ValueError:
        raise ModelFolderError(f"{path}: not JSON; copy the model folder again, or train the model again") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise ModelFolderError(f"{path}: not the manifest of a parser-vae model; name the folder that pretrain wrote")
    if manifest["format"] > MODEL_FORMAT:
        raise ModelFolderError(
            f"{folder}: model format {manifest['format']} (parser-vae {manifest.get('version')}), but this version, "
            f"{parser_vae.__version__}, reads up to {MODEL_FORMAT}; upgrade with pip install --upgrade parser-vae"
        )
    return manifest


def save_state(folder: Path, state: Mapping[str | int, Any]) -> None:
    """Write the training state to ``folder`` in one step.

    Args:
        folder: The run's folder.
        state: Nested mappings (keys: strings and integers), lists and tuples (come back as lists) of tensors, strings,
            integers, floats, booleans and None. Every value comes back equal and in its type, floats to the last bit.
    """
    tensors: dict[str, Tensor] = {}
    tree = {"format": STATE_FORMAT, "state": _plain(state, tensors, "state")}
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / STATE) as file:
        file.write(safetensors_torch.save(_independent(tensors), {"tree": json.dumps(tree)}))


def load_state(folder: Path) -> dict[Any, Any]:
    """Return the state that ``save_state`` wrote; ``ModelFolderError`` where there is none or it cannot be read."""
    path = folder / STATE
    if not path.is_file():
        raise ModelFolderError(f"{folder}: no {STATE} to resume from; start without --resume")
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads(file.metadata()["tree"])
            # Copies, because what is mapped from a file may be aligned unlike the original, which can change roundings.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        raise ModelFolderError(f"{path}: damaged; start anew with --overwrite") from None
    if tree["format"] > STATE_FORMAT:
        raise ModelFolderError(f"{path}: written by a newer parser-vae; resume with that version")
    state = _restored(tree["state"], tensors)
    assert isinstance(state, dict)
    return state


def has_state(folder: Path) -> bool:
    """Return whether a run in ``folder`` got as far as its first checkpoint."""
    return (folder / STATE).is_file()


def remove_state(folder: Path) -> None:
    """Remove the state of a run that has written its model; it is several times the model's size."""
    (folder / STATE).unlink(missing_ok=True)


def check_output(folder: Path, resume: bool, overwrite: bool) -> None:
    """Raise ``InputError`` where a run in ``folder`` would mix with something else; nothing is changed.

    A missing or empty folder is always fine. With ``resume`` it may hold a run; one that was stopped before its first
    checkpoint starts from the beginning. With ``overwrite`` a former run in it is to be discarded, and nothing else.
    """
    if resume and overwrite:
        raise InputError("--resume continues a run and --overwrite discards it; give one of them")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: a file of that name exists; name a folder")
    present = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if resume and present and CONFIG not in present:
        raise InputError(f"--out {folder}: holds files but no run to resume (no {CONFIG}); name the run's folder")
    if present and not resume and not overwrite:
        raise InputError(
            f"--out {folder}: not empty; continue with --resume, discard it with --overwrite, or name another"
        )
    if overwrite and present and MANIFEST not in present and not {CONFIG, LOG} <= present:
        raise InputError(f"--out {folder}: holds files but no run to discard; name a run's folder, or another")


def prepare_output(folder: Path, resume: bool, overwrite: bool) -> None:
    """Make ``folder`` ready for a run that ``check_output`` allows: with ``overwrite`` the files of a former run go."""
    check_output(folder, resume, overwrite)
    if overwrite:
        # The manifest goes first, so that an interrupted removal leaves no half model that looks whole.
        for name in (MANIFEST, MODEL, CONFIG, CARD, LOG, STATE, *PICTURES):
            for path in (folder / name, folder / (name + _PENDING)):
                path.unlink(missing_ok=True)
        shutil.rmtree(folder / ROUNDS, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


# ------------------------------------------------------------------------------------------------ model folders


def _verified(folder: Path, name: str, manifest: Mapping[str, Any]) -> bytes:
    """Return the content of the file whose hash the manifest records, under its final or its pending name."""
    expected = manifest.get("sha256", {}).get(name)
    missing = True
    # The final name once more at the end: a writer may have renamed the pending file in between.
    for path in (folder / name, folder / (name + _PENDING), folder / name):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ModelFolderError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
        missing = False
        if hashlib.sha256(content).hexdigest() == expected:
            return content
    what = "is missing" if missing else f"is not the file that {MANIFEST} describes (its hash differs)"
    raise ModelFolderError(f"{folder / name}: {what}; copy the model folder again, or train the model again")


def _finish_pending(folder: Path) -> None:
    """Give the files of a committed model their final names, and remove those of one that was never committed."""
    try:
        recorded = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        recorded = {}
    for name in (MODEL, CONFIG, CARD):
        pending = folder / (name + _PENDING)
        if pending.exists() and hashlib.sha256(pending.read_bytes()).hexdigest() == recorded.get(name):
            pending.replace(folder / name)
        pending.unlink(missing_ok=True)


def _why_no_model(folder: Path) -> str:
    if not folder.exists():
        return (
            f"{folder}: no such model folder; check the path, or train a model with parser-vae pretrain --out {folder}"
        )
    if not folder.is_dir():
        return f"{folder}: a file, not a model folder; name the folder that --out named in training"
    if (folder / CONFIG).exists():
        return f"{folder}: its training has not written a model yet; continue it with --resume"
    return f"{folder}: not a model folder (no {MANIFEST}); name the folder that --out named in training"


@functools.cache
def current_commit() -> str | None:
    """Return the commit of the checkout the package runs from, or None where it is installed or git is missing."""
    checkout = Path(parser_vae.__file__).resolve().parents[1]
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _independent(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous CPU tensors of which no two share memory, as safetensors demands."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.untyped_storage().data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        result[name] = tensor
    return result


# ------------------------------------------------------------------------------------------------ training states


def _plain(value: Any, tensors: dict[str, Tensor], path: str) -> Any:
    """Return ``value`` as JSON, its tensors moved to ``tensors``; a mapping becomes pairs, to keep integer keys."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"{path}: a key must be a str or an int, not {key!r}")
        return {"pairs": [[key, _plain(item, tensors, f"{path}.{key}")] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(item, tensors, f"{path}.{index}") for index, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{path}: a {type(value).__name__} cannot be saved")


def _restored(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _restored(item, tensors) for key, item in value["pairs"]}
    if isinstance(value, list):
        return [_restored(item, tensors) for item in value]
    return value
