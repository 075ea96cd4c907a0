"""Trajectories of points, and the files that hold them: npz, without pickle."""

from __future__ import annotations

import json
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parser_vae.errors import InputError
from parser_vae.files import replacing

AXES = "samples x time x points x dimensions"


@dataclass(frozen=True)
class Trajectories:
    """Where points are over time, and which pairs of them are coupled, where that is known.

    Attributes:
        positions: ``[samples, time, points, dimensions]``, float32.
        edges: Coupled pairs ``[samples, points (points - 1) / 2]``, boolean, ordered as
            ``torch.triu_indices(points, points, 1)``; None where they are not known.
        recipe: How the data were made, as JSON values; empty where nobody said.
    """

    positions: Tensor
    edges: Tensor | None
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, chosen: slice) -> Trajectories:
        """Return some of the samples."""
        edges = None if self.edges is None else self.edges[chosen]
        return Trajectories(self.positions[chosen], edges, self.recipe)


def write_trajectories(path: Path, data: Trajectories) -> None:
    """Write an npz file of ``trajectories``, ``edges`` where known, and ``recipe`` (JSON) where there is one."""
    arrays: dict[str, NDArray[Any]] = {"trajectories": data.positions.numpy()}
    if data.edges is not None:
        arrays["edges"] = data.edges.numpy().astype(np.uint8)
    if data.recipe:
        arrays["recipe"] = np.array(json.dumps(data.recipe))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_trajectories(path: Path) -> Trajectories:
    """Return what an npz file holds: ``trajectories``, and ``edges`` and ``recipe`` if they are there.

    Raises:
        InputError: The file cannot be read, or its arrays cannot be learnt from; says what was expected.
    """
    arrays = _arrays(path)
    if "trajectories" not in arrays:
        found = ", ".join(arrays) or "nothing"
        raise InputError(f"{path}: holds {found}; expected an array 'trajectories' of {AXES}")
    positions = arrays["trajectories"]
    _check_positions(path, positions)
    edges = arrays.get("edges")
    if edges is not None:
        _check_edges(path, edges, positions)
    try:
        recipe = json.loads(str(arrays["recipe"])) if "recipe" in arrays else {}
    except ValueError:
        raise InputError(f"{path}: 'recipe' is not JSON; leave it out, or store json.dumps of a mapping") from None
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: 'recipe' is not a JSON mapping; leave it out, or store json.dumps of a mapping")
    return Trajectories(
        torch.from_numpy(positions.astype(np.float32)),
        None if edges is None else torch.from_numpy(edges.astype(np.bool_)),
        recipe,
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise InputError(f"{path}: a single array; expected an npz file: numpy.savez(FILE, trajectories=...)")
        with file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error):
        raise InputError(
            f"{path}: not an npz file of plain arrays; write one with numpy.savez(FILE, trajectories=...)"
        ) from None


def _check_positions(path: Path, positions: NDArray[Any]) -> None:
    shape = " x ".join(map(str, positions.shape))
    if positions.ndim != 4 or positions.dtype.kind not in "fiu":
        raise InputError(f"{path}: 'trajectories' is {positions.dtype} [{shape}]; expected numbers, {AXES}")
    samples, frames, points, dimensions = positions.shape
    if samples < 1 or frames < 2 or points < 3 or dimensions < 1:
        raise InputError(
            f"{path}: 'trajectories' is [{shape}], {AXES}; "
            "to infer anything takes at least 1 sample, 2 frames, 3 points and 1 dimension"
        )
    with np.errstate(over="ignore"):  # what single precision cannot hold is caught as infinite
        single = positions.astype(np.float32)
    bad = ~np.isfinite(single)
    if bad.any():
        sample, frame, point, _ = (int(index) for index in np.argwhere(bad)[0])
        raise InputError(
            f"{path}: sample {sample}, frame {frame}, point {point} of 'trajectories' is not a finite number; "
            "fill the gap, or leave the sample out"
        )
    still = (positions == positions[:, :1]).all((1, 2, 3))
    if still.any():
        raise InputError(
            f"{path}: in sample {int(np.argmax(still))} of 'trajectories' no point ever moves "
            f"({int(still.sum())} such of {samples}); leave such samples out, nothing can be inferred from them"
        )
    lost = (single == single[:, :1]).all((1, 2, 3))
    if lost.any():
        raise InputError(
            f"{path}: sample {int(np.argmax(lost))} of 'trajectories' moves less than single precision can tell where "
            "it is; subtract the mean position, and multiply if need be"
        )


def _check_edges(path: Path, edges: NDArray[Any], positions: NDArray[Any]) -> None:
    samples, _, points, _ = positions.shape
    expected = (samples, points * (points - 1) // 2)
    if edges.shape != expected:
        shape = " x ".join(map(str, edges.shape))
        raise InputError(
            f"{path}: 'edges' is [{shape}]; expected [{expected[0]} x {expected[1]}], a 0 or 1 for each pair of points "
            f"in the order of numpy.triu_indices({points}, 1)"
        )
    if not np.isin(edges, (0, 1)).all():
        raise InputError(f"{path}: 'edges' has values other than 0 and 1")
