"""A model with a discrete and a continuous latent: a class or bits, and Gaussian numbers.

For classes as in the code of Lorberbom et al. (2019, section 4.2): the class selects, among rows of Gaussian numbers
that come out of one shared network, the one that the decoder reads; all other rows are 0. For bits, which their code
does not cover, one row is always read and the bits beside it, so that a bit can be flipped with everything else kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parser_vae.errors import ConfigError
from parser_vae.images.dense import Dense
from parser_vae.images.models import ModelSettings, Shape

_ROW = 100  # numbers that the encoder gives to each row, before the network that the rows share
_ATTRIBUTE_CHANNELS = (32, 64, 128, 256)
_LEAST_SIDE = 16  # four halvings leave one pixel


@dataclass(frozen=True)
class Rows:
    """The Gaussians of each row: means and logarithms of variances ``[batch, rows, continuous]``."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Return one draw of every row, from standard normal noise of the same shape."""
        return self.mean + noise * (self.log_variance / 2).exp()

    def divergence(self) -> Tensor:
        """Return the divergence of each row from the standard normal ``[batch, rows]`` in nats."""
        return (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).sum(-1) / 2


class MixtureModel(nn.Module):
    """Encoder, row network and decoder around a discrete latent that selects Gaussian rows.

    A class selects its row out of ``size``; bits have one row in common, and are read by the decoder themselves.

    Attributes:
        settings: What it was made from; ``continuous`` is at least 1.
        shape: Channels, height and width of an image.
        codes: Classes or bits.
        rows: How many rows of Gaussians there are.
    """

    def __init__(self, settings: ModelSettings, shape: Shape) -> None:
        super().__init__()
        self.settings, self.shape = settings, shape
        self.codes = self.parts = settings.size
        one_of = settings.latent == "categorical"
        self.rows = settings.size if one_of else 1
        read = self.rows * settings.continuous + (0 if one_of else settings.size)
        features, self.trunk, self.decoder = (_fc if settings.network == "fc" else _cnn)(shape, read)
        self.discrete = nn.Sequential(Dense(features, 100), nn.LeakyReLU(0.2), Dense(100, settings.size))
        self.to_rows = nn.Sequential(Dense(features, self.rows * _ROW), nn.Unflatten(1, (self.rows, _ROW)))
        self.row = nn.Sequential(Dense(_ROW, 66), nn.LeakyReLU(0.5), Dense(66, 2 * settings.continuous))

    def scores(self, images: Tensor) -> Tensor:
        """Return the scores of the discrete latent's parts ``[batch, parts]``."""
        return self.discrete(self.trunk(images))

    def gaussians(self, images: Tensor) -> Rows:
        """Return the Gaussians of every row."""
        mean, log_variance = self.row(self.to_rows(self.trunk(images))).chunk(2, dim=-1)
        # e^8 is a standard deviation of 55; beyond it an untrained network would overflow
        return Rows(mean, log_variance.clamp(-8, 8))

    def selection(self, latent: Tensor) -> Tensor:
        """Return how much of each row is read ``[..., rows]`` given the discrete parts ``[..., parts]``."""
        return latent if self.settings.latent == "categorical" else torch.ones_like(latent[..., :1])

    def logits(self, latent: Tensor, values: Tensor) -> Tensor:
        """Return pixel logits ``[..., pixels]`` from parts ``[..., parts]`` and values ``[..., rows, numbers]``."""
        chosen = (self.selection(latent)[..., None] * values).flatten(-2)
        if self.settings.latent != "categorical":
            chosen = torch.cat([latent, chosen], -1)
        return self.decoder(chosen.reshape(-1, chosen.shape[-1])).reshape(*chosen.shape[:-1], -1)


def _fc(shape: Shape, latent: int) -> tuple[int, nn.Module, nn.Module]:
    """Return the width of the features, pixels-400-LeakyReLU-200, and latent-400-ReLU-pixels."""
    pixels = shape[0] * shape[1] * shape[2]
    trunk = nn.Sequential(nn.Flatten(), Dense(pixels, 400), nn.LeakyReLU(0.2), Dense(400, 200))
    return 200, trunk, nn.Sequential(Dense(latent, 400), nn.ReLU(), Dense(400, pixels))


def _cnn(shape: Shape, latent: int) -> tuple[int, nn.Module, nn.Module]:
    """Return the width of the features, four 4x4 convolutions of stride 2 down to 256 numbers, and their mirror.

    The paper does not say more than that both are convolutional; sizes are ours.

    Raises:
        ConfigError: The images are too small.
    """
    channels, *side = shape
    if min(side) < _LEAST_SIDE:
        raise ConfigError(
            f"model.network is cnn and model.continuous above 0, which needs images of at least {_LEAST_SIDE} pixels a "
            f"side; these have {min(side)}. Choose fc"
        )
    sides = [side]
    down: list[nn.Module] = []
    before = channels
    for out in _ATTRIBUTE_CHANNELS:
        sides.append([length // 2 for length in sides[-1]])
        down += [nn.Conv2d(before, out, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        before = out
    area = before * sides[-1][0] * sides[-1][1]
    trunk = nn.Sequential(*down, nn.Flatten(), Dense(area, 256), nn.LeakyReLU(0.2))
    up: list[nn.Module] = [Dense(latent, area), nn.ReLU(), nn.Unflatten(1, (before, *sides[-1]))]
    for step, out in enumerate((*_ATTRIBUTE_CHANNELS[-2::-1], channels)):
        height, width = sides[-2 - step]
        extra = (height % 2, width % 2)
        up += [nn.ConvTranspose2d(before, out, 4, stride=2, padding=1, output_padding=extra), nn.ReLU()]
        before = out
    return 256, trunk, nn.Sequential(*up[:-1], nn.Flatten())
