"""Sheets of images as PNG files: what a model makes of images, and what its latents look like."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from parser_vae.files import replacing
from parser_vae.images.bounds import as_batch
from parser_vae.images.data import Images
from parser_vae.images.problem import ImageProblem, MixtureProblem

_TILE = 56  # least width of an image on a sheet
_GAP, _SECTION = 2, 14
_PAPER = 96

Grid = Tensor
"""Images in rows and columns ``[rows, columns, channels, height, width]`` in [0, 1]; NaN where there is none."""


@torch.no_grad()
def reconstructions(problem: ImageProblem | MixtureProblem, images: Images, columns: int = 16) -> Grid:
    """Return images and, under each, the mean of its reconstruction from its best latent."""
    part = images.take(slice(columns))
    batch = as_batch(part.pixels, problem, torch.Generator().manual_seed(0))
    return torch.stack([batch.images, _means(problem, batch.images, problem.structure.argmax(problem.scores(batch)))])


@torch.no_grad()
def templates(problem: ImageProblem | MixtureProblem, columns: int = 16, seed: int = 0) -> Grid:
    """Return what latents look like.

    The template of every class, in the order of the classes; for bits, latents drawn from the uniform prior. With
    Gaussian latents each row is one value of the discrete latent, each column one draw of the Gaussian ones.
    """
    generator = torch.Generator().manual_seed(seed)
    model, codes = problem.model, problem.model.codes
    shape = model.shape
    one_of = problem.structure.name == "categorical"
    if isinstance(problem, MixtureProblem):
        latents = torch.eye(codes) if one_of else _every_bits(codes)
        values = torch.randn(1, columns, problem.model.rows, problem.model.settings.continuous, generator=generator)
        selection = problem.model.selection(latents)[:, None].expand(-1, columns, -1)
        return problem.model.logits(selection, values).sigmoid().reshape(len(latents), columns, *shape)
    if one_of:
        latents = torch.eye(codes)
    else:
        latents = torch.randint(2, (3 * columns, codes), generator=generator).float()
    pictures = problem.model.logits(latents).sigmoid().reshape(-1, *shape)
    return in_rows(pictures, columns)


@torch.no_grad()
def flips(problem: MixtureProblem, images: Images, columns: int = 16) -> Grid:
    """Return images, their reconstructions, and one row for each bit of the latent in which that bit is flipped."""
    part = images.take(slice(columns))
    batch = as_batch(part.pixels, problem, torch.Generator().manual_seed(0))
    best = problem.structure.argmax(problem.scores(batch))
    rows = [batch.images, _means(problem, batch.images, best)]
    for bit in range(problem.model.codes):
        flipped = best.clone()
        flipped[:, bit] = 1 - flipped[:, bit]
        rows.append(_means(problem, batch.images, flipped))
    return torch.stack(rows)


def in_rows(pictures: Tensor, columns: int) -> Grid:
    """Return images ``[count, ...]`` as rows, the last one filled up with nothing (NaN)."""
    missing = -len(pictures) % columns
    filled = torch.cat([pictures, pictures.new_full((missing, *pictures.shape[1:]), torch.nan)])
    return filled.reshape(-1, columns, *pictures.shape[1:])


def write_sheet(path: Path, grids: Sequence[Grid]) -> None:
    """Write grids, one below the other, as a PNG file; small images are enlarged by a whole factor."""
    parts = [_assemble(grid) for grid in grids]
    width = max(part.shape[1] for part in parts)
    height = sum(part.shape[0] for part in parts) + _SECTION * (len(parts) - 1)
    sheet = torch.full((height, width, 3), _PAPER, dtype=torch.uint8)
    top = 0
    for part in parts:
        sheet[top : top + part.shape[0], : part.shape[1]] = part
        top += part.shape[0] + _SECTION
    with replacing(path) as file:
        file.write(_png(sheet))


def _means(problem: ImageProblem | MixtureProblem, images: Tensor, latent: Tensor) -> Tensor:
    """Return the probabilities of all pixels ``[batch, channels, height, width]``, Gaussian latents at their means."""
    if isinstance(problem, MixtureProblem):
        logits = problem.model.logits(problem.model.selection(latent), problem.model.gaussians(images).mean)
    else:
        logits = problem.model.logits(latent)
    return logits.sigmoid().reshape(images.shape)


def _assemble(grid: Grid) -> Tensor:
    """Return one picture ``[height, width, 3]`` (uint8)."""
    rows, columns, channels, height, width = grid.shape
    factor = max(1, -(-_TILE // width))
    tiles = (
        (grid.nan_to_num(_PAPER / 255).clamp(0, 1) * 255)
        .round()
        .to(torch.uint8)
        .repeat_interleave(factor, 3)
        .repeat_interleave(factor, 4)
    )
    tiles = tiles.expand(-1, -1, 3, -1, -1) if channels == 1 else tiles
    step_down, step_right = height * factor + _GAP, width * factor + _GAP
    sheet = torch.full((rows * step_down + _GAP, columns * step_right + _GAP, 3), _PAPER, dtype=torch.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * step_down + _GAP, column * step_right + _GAP
            tile = tiles[row, column].permute(1, 2, 0)
            sheet[top : top + height * factor, left : left + width * factor] = tile
    return sheet


def _every_bits(bits: int) -> Tensor:
    return ((torch.arange(2**bits)[:, None] >> torch.arange(bits)) & 1).float()


def _png(picture: Tensor) -> bytes:
    """Return a colour picture ``[height, width, 3]`` (uint8) as a PNG file (ISO/IEC 15948), rows unfiltered."""
    height, width, _ = picture.shape
    rows = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), picture.reshape(height, -1)], 1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.contiguous().numpy().tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
