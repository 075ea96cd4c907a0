"""Simulated points whose motion is steered by a hidden tree: the graph-layout data of Paulus et al. (2020).

A maximum spanning tree of random weights says which points attract one another. Every frame is one step of the
force-directed layout of Fruchterman and Reingold (1991), as networkx computes it: all points repel, neighbours in the
tree attract, and the picture is centred and scaled to fill [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from parser_vae.errors import ConfigError
from parser_vae.graphs.limits import require_memory
from parser_vae.graphs.trajectories import Trajectories
from parser_vae.structures.noise import gumbel
from parser_vae.structures.undirected import UndirectedTrees

SMALLEST = 0.01  # distances and displacements below this count as this long
SAMPLES_AT_ONCE = 2000  # what fits into a processor's cache; changes no number


def simulate(parts: Mapping[str, int], points: int, frames: int, seed: int) -> dict[str, Trajectories]:
    """Return simulated trajectories for each named part, say ``{"train": 50000, "dev": 10000}``, with their trees.

    The same arguments give the same numbers. The trees are not uniformly distributed: they are the maximum spanning
    trees of independent Gumbel weights.

    Raises:
        ConfigError: A part is empty, there are too few points or frames to learn anything from, or more of them than
            fit into memory.
    """
    if points < 3 or frames < 2:
        raise ConfigError(f"cannot simulate {points} points over {frames} frames; at least 3 points and 2 frames")
    if empty := [name for name, samples in parts.items() if samples < 1]:
        raise ConfigError(f"cannot simulate no samples for {empty[0]}; at least 1")
    generator = torch.Generator().manual_seed(seed)
    samples, edges = sum(parts.values()), points * (points - 1) // 2
    # Weights in double precision, edges once more and as bytes, positions in single precision and all of them twice.
    needed = samples * (18 * edges + 16 * (frames + 1) * points)
    at_once = min(samples, SAMPLES_AT_ONCE) * points**2 * 64
    require_memory(
        needed + at_once, f"{samples:,} samples of {points:,} points over {frames:,} frames", "simulate less"
    )
    weights = gumbel(torch.empty(samples, edges, dtype=torch.float64), generator)
    start = torch.randn(samples, points, 2, generator=generator, dtype=torch.float64)
    trees = torch.cat([UndirectedTrees().argmax(some).bool() for some in weights.split(SAMPLES_AT_ONCE)])
    positions = torch.cat(
        [
            layout_frames(tree, place, frames).float()
            for tree, place in zip(trees.split(SAMPLES_AT_ONCE), start.split(SAMPLES_AT_ONCE), strict=True)
        ]
    )
    recipe = {"simulator": "graph-layout", "points": points, "frames": frames, "seed": seed, "parts": dict(parts)}
    sizes = list(parts.values())
    return {
        name: Trajectories(part, tree, recipe | {"part": name})
        for name, part, tree in zip(parts, positions.split(sizes), trees.split(sizes), strict=True)
    }


def layout_frames(trees: Tensor, start: Tensor, frames: int) -> Tensor:
    """Return the layouts ``[samples, frames, points, 2]`` after 1, 2, ... steps; the start itself is not among them.

    Args:
        trees: 0/1 edges ``[samples, points (points - 1) / 2]``, ordered as ``torch.triu_indices(points, points, 1)``.
        start: Positions before the first step ``[samples, points, 2]``.
        frames: How many steps.
    """
    points = start.shape[1]
    first, second = torch.triu_indices(points, points, 1)
    adjacency = start.new_zeros(len(trees), points, points)
    adjacency[:, first, second] = adjacency[:, second, first] = trees.to(start.dtype)
    result = start.new_empty(frames, *start.shape)
    for frame in range(frames):
        start = result[frame] = layout_step(adjacency, start)
    return result.transpose(0, 1).contiguous()


def layout_step(adjacency: Tensor, positions: Tensor) -> Tensor:
    """Return positions ``[samples, points, 2]`` after one step, as networkx makes when asked for a single iteration.

    With ``k = points^-1/2``, point ``i`` is displaced along ``sum_j (p_i - p_j) (k^2 / d_ij^2 - a_ij d_ij / k)``, by
    a tenth of the larger side of the box around all points; then the points are centred and scaled to [-1, 1].

    Args:
        adjacency: Symmetric 0/1 matrices ``[samples, points, points]``.
        positions: Positions ``[samples, points, 2]``.
    """
    ideal = positions.shape[1] ** -0.5
    apart = positions.mT[..., :, None] - positions.mT[..., None, :]  # [samples, 2, points, points]
    distance = apart.square().sum(1).sqrt_().clamp_(min=SMALLEST)
    force = ideal**2 / distance.square() - adjacency * distance / ideal
    displacement = (apart * force[:, None]).sum(-1).mT
    length = displacement.square().sum(-1, keepdim=True).sqrt_().clamp_(min=SMALLEST)
    reach = 0.1 * (positions.amax(1) - positions.amin(1)).amax(1)
    moved = positions + displacement * reach[:, None, None] / length
    centred = moved - moved.mean(1, keepdim=True)
    return centred / centred.abs().amax((1, 2), keepdim=True)
