"""The simulation against networkx, step by step."""

from __future__ import annotations

import os

import networkx
import numpy as np
import pytest
import torch

from parser_vae.errors import ConfigError
from parser_vae.graphs.simulate import layout_frames, simulate


@pytest.mark.parametrize("points", [3, 10])
def test_every_frame_is_a_step_of_networkx(points: int) -> None:
    data = simulate({"train": 4}, points, 5, 0)["train"]
    assert data.edges is not None
    start = torch.randn(4, points, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    start[0, 1] = start[0, 0]  # two points in one place
    frames = layout_frames(data.edges, start, 5)
    first, second = np.triu_indices(points, 1)
    for edges, place, sample in zip(data.edges.numpy(), start.numpy(), frames.numpy(), strict=True):
        graph = networkx.empty_graph(points)
        graph.add_edges_from(zip(first[edges], second[edges], strict=True))
        assert networkx.is_tree(graph)
        layout = dict(enumerate(place))
        for frame in sample:
            layout = networkx.spring_layout(graph, pos=layout, iterations=1, seed=0)
            np.testing.assert_allclose(frame, np.stack([layout[point] for point in range(points)]), atol=1e-6)


def test_the_seed_decides_and_parts_differ() -> None:
    one, two, other = (simulate({"train": 2100, "dev": 3}, 5, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(one["dev"].positions, two["dev"].positions)
    assert not torch.equal(one["dev"].positions, other["dev"].positions)
    assert one["train"].positions.shape == (2100, 4, 5, 2)
    assert one["dev"].recipe == {
        "simulator": "graph-layout",
        "points": 5,
        "frames": 4,
        "seed": 1,
        "parts": {"train": 2100, "dev": 3},
        "part": "dev",
    }
    largest = one["train"].positions.abs().amax((2, 3))
    torch.testing.assert_close(largest, torch.ones_like(largest))
    assert not torch.equal(one["train"].positions[:3], one["dev"].positions)


@pytest.mark.parametrize(
    ("parts", "points", "message"),
    [
        ({"train": 1}, 2, "cannot simulate 2 points over 4 frames; at least 3 points and 2 frames"),
        (
            {"train": 1},
            10**9,
            "1 samples of 1,000,000,000 points over 4 frames would take about 67,986,548,013 GiB of memory, and this "
            "machine has 8 GiB; simulate less",
        ),
        ({"train": 1, "dev": 0}, 3, "cannot simulate no samples for dev; at least 1"),
    ],
)
def test_impossible_wishes(parts: dict[str, int], points: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2**21, "SC_PAGE_SIZE": 2**12}.__getitem__)
    with pytest.raises(ConfigError) as raised:
        simulate(parts, points, 4, 1)
    assert str(raised.value) == message
