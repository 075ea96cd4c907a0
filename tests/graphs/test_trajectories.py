"""Files of trajectories: what is written is read back, and every mistake gets one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from parser_vae.errors import InputError
from parser_vae.graphs.simulate import simulate
from parser_vae.graphs.trajectories import read_trajectories, write_trajectories


def test_written_and_read_back(tmp_path: Path) -> None:
    data = simulate({"train": 6}, 4, 3, 1)["train"]
    write_trajectories(tmp_path / "new" / "a.npz", data)
    write_trajectories(tmp_path / "b.npz", data)
    assert (tmp_path / "new" / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = read_trajectories(tmp_path / "b.npz")
    assert torch.equal(again.positions, data.positions)
    assert again.edges is not None and data.edges is not None
    assert torch.equal(again.edges, data.edges)
    assert again.recipe == data.recipe
    assert len(again[:2]) == 2


def test_ones_own_trajectories_need_no_edges(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", trajectories=np.arange(60).reshape(2, 5, 3, 2))
    data = read_trajectories(tmp_path / "own.npz")
    assert data.edges is None
    assert data.recipe == {}
    assert data.positions.dtype == torch.float32
    assert data[1:].edges is None


GOOD = np.random.default_rng(0).normal(size=(2, 5, 3, 2))
GAP = np.where(np.arange(60).reshape(GOOD.shape) == 45, np.nan, GOOD)
STILL = np.where(np.arange(2)[:, None, None, None] == 1, GOOD[:, :1], GOOD)
ENOUGH = "to infer anything takes at least 1 sample, 2 frames, 3 points and 1 dimension"
AXES = "samples x time x points x dimensions"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"points": GOOD}, f"holds points; expected an array 'trajectories' of {AXES}"),
        ({"trajectories": GOOD[0]}, f"'trajectories' is float64 [5 x 3 x 2]; expected numbers, {AXES}"),
        ({"trajectories": GOOD > 0}, f"'trajectories' is bool [2 x 5 x 3 x 2]; expected numbers, {AXES}"),
        ({"trajectories": GOOD[:, :, :1]}, f"'trajectories' is [2 x 5 x 1 x 2], {AXES}; {ENOUGH}"),
        ({"trajectories": GOOD[:, :1]}, f"'trajectories' is [2 x 1 x 3 x 2], {AXES}; {ENOUGH}"),
        (
            {"trajectories": GAP},
            "sample 1, frame 2, point 1 of 'trajectories' is not a finite number; fill the gap, "
            "or leave the sample out",
        ),
        (
            {"trajectories": STILL},
            "in sample 1 of 'trajectories' no point ever moves (1 such of 2); leave such samples out, "
            "nothing can be inferred from them",
        ),
        (
            {"trajectories": GOOD, "edges": np.zeros((2, 9))},
            "'edges' is [2 x 9]; expected [2 x 3], a 0 or 1 for each pair of points in the order of "
            "numpy.triu_indices(3, 1)",
        ),
        ({"trajectories": GOOD, "edges": np.full((2, 3), 2)}, "'edges' has values other than 0 and 1"),
        (
            {"trajectories": GOOD, "recipe": np.array("not JSON")},
            "'recipe' is not JSON; leave it out, or store json.dumps of a mapping",
        ),
    ],
)
def test_mistakes(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError) as raised:
        read_trajectories(path)
    assert str(raised.value) == f"{path}: {message}"


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    text, single, objects = (tmp_path / name for name in ("a.txt", "a.npy", "o.npz"))
    text.write_text("1 2 3")
    np.save(single, GOOD)
    np.savez(objects, trajectories=np.array([None]))
    for path, message in [
        (tmp_path / "none.npz", "cannot be read (No such file or directory)"),
        (text, "not an npz file of plain arrays; write one with numpy.savez(FILE, trajectories=...)"),
        (single, "a single array; expected an npz file: numpy.savez(FILE, trajectories=...)"),
        (objects, "not an npz file of plain arrays; write one with numpy.savez(FILE, trajectories=...)"),
    ]:
        with pytest.raises(InputError) as raised:
            read_trajectories(path)
        assert str(raised.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"trajectories": np.arange(40.0).reshape(1, 5, 4, 2) * 1e300}, "is not a finite number"),
        (
            {"trajectories": 1e6 + 1e-6 * np.arange(40.0).reshape(1, 5, 4, 2)},
            "sample 0 of 'trajectories' moves less than single precision can tell where it is; subtract the mean",
        ),
        (
            {"trajectories": np.arange(40.0).reshape(1, 5, 4, 2), "recipe": np.array("[1]")},
            "'recipe' is not a JSON mapping",
        ),
    ],
)
def test_what_would_fail_later_is_refused(tmp_path: Path, arrays: dict[str, NDArray[Any]], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=re.escape(message)):
        read_trajectories(tmp_path / "bad.npz")
