"""Networks between images and discrete latents: fully connected (Lorberbom et al., 2019) and convolutional ones.

An encoder gives a score to every part of the latent's structure; a decoder turns a latent, hard or soft, into the
logits of all pixels.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from parser_vae.images.dense import Dense
from parser_vae.structures import Binary, Categorical, PairwiseBinary, Structure
from parser_vae.structures.binary import Solver
from parser_vae.training.config import Settings

Latent = Literal["categorical", "binary", "pairwise", "supermodular"]
Network = Literal["fc", "cnn"]
Start = Literal["mean_image", "random"]
Shape = tuple[int, int, int]

_LEAST_SHARE = 1e-3  # of ink at a pixel that is always black, or of black at one that never is


class ModelSettings(Settings):
    """What the latent variable is, and how large the networks around it."""

    latent: Latent = Field("categorical", description="categorical, binary, pairwise or supermodular (bits in pairs)")
    size: int = Field(20, ge=2, le=10_000_000, description="classes, or bits")
    solver: Solver | None = Field(
        None, description="search for the best pairwise bits; default: exhaustive, max_flow for supermodular"
    )
    network: Network = Field("fc", description="fc: one hidden layer each way; cnn: convolutions")
    hidden: int = Field(300, ge=1, le=10_000_000, description="width of the fully connected hidden layers")
    continuous: int = Field(
        0, ge=0, le=10_000_000, description="Gaussian numbers for each class, or beside the bits; 0: discrete only"
    )
    start: Start = Field(
        "mean_image", description="the decoder's first output: mean_image, the train images' mean, or random"
    )


def structure_of(settings: ModelSettings) -> Structure:
    """Return the latent's structure; coupled bits search with the solver that fits their kind unless told otherwise."""
    if settings.latent == "categorical":
        return Categorical()
    if settings.latent == "binary":
        return Binary()
    return PairwiseBinary(settings.solver or ("max_flow" if settings.latent == "supermodular" else "exhaustive"))


class ImageModel(nn.Module):
    """An encoder and a decoder around a discrete latent.

    Attributes:
        settings: What it was made from.
        shape: Channels, height and width of an image.
        parts: How many scores an image gets.
        codes: How many of an object's parts the decoder reads: classes or bits, never the products of bits.
    """

    def __init__(self, settings: ModelSettings, shape: Shape) -> None:
        super().__init__()
        self.settings, self.shape = settings, shape
        self.codes = settings.size
        coupled = settings.latent in ("pairwise", "supermodular")
        self.parts = self.codes * (self.codes + 1) // 2 if coupled else self.codes
        make = _fc if settings.network == "fc" else _cnn
        self.encoder, self.decoder = make(shape, settings.hidden, self.parts, self.codes)

    def scores(self, images: Tensor) -> Tensor:
        """Return the scores of all parts ``[batch, parts]``; supermodular products weigh at least 0."""
        return self.constrained(self.encoder(images))

    def constrained(self, scores: Tensor) -> Tensor:
        """Return what the encoder gives ``[..., parts]`` with the weights of supermodular products made positive."""
        if self.settings.latent != "supermodular":
            return scores
        return torch.cat([scores[..., : self.codes], softplus(scores[..., self.codes :])], -1)

    def logits(self, latent: Tensor) -> Tensor:
        """Return the logits of all pixels ``[..., channels * height * width]`` given parts ``[..., parts]``."""
        codes = latent[..., : self.codes]
        return self.decoder(codes.reshape(-1, self.codes)).reshape(*latent.shape[:-1], -1)


@torch.no_grad()
def start_at_mean(decoder: nn.Module, pixels: Tensor) -> None:
    """Set the last bias of the decoder to the log-odds of the mean of ``pixels`` (uint8).

    From a random start the first latent that learns the mean image is ahead of the others by more nats than a uniform
    divergence costs, and within some twenty updates all images share it: an exact gradient never leaves that place.
    A convolution has one bias a channel, which gets the channel's mean.
    """
    *_, bias = (parameter for name, parameter in decoder.named_parameters() if name.endswith("bias"))
    mean = pixels.float().mean(0).view(len(bias), -1).mean(1) / 255
    bias.copy_(mean.clamp(_LEAST_SHARE, 1 - _LEAST_SHARE).logit())


def _fc(shape: Shape, hidden: int, parts: int, codes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the networks pixels-hidden-ReLU-parts and codes-hidden-ReLU-pixels."""
    pixels = shape[0] * shape[1] * shape[2]
    encoder = nn.Sequential(nn.Flatten(), Dense(pixels, hidden), nn.ReLU(), Dense(hidden, parts))
    return encoder, nn.Sequential(Dense(codes, hidden), nn.ReLU(), Dense(hidden, pixels))


def _cnn(shape: Shape, hidden: int, parts: int, codes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the convolutional networks of Bartler et al. (2019), table I.

    Three 3x3 convolutions of stride 2 (32, 64, 128 channels) down, four transposed ones (64, 64, 32, 1) up. The table
    leaves the padding open and its four steps up do not fit its three down; here each step halves or doubles the side,
    rounding up, and the decoder starts one step lower than the encoder ends.
    """
    channels, *side = shape
    sides = [side]
    for _ in range(4):
        sides.append([(length + 1) // 2 for length in sides[-1]])
    down: list[nn.Module] = []
    for into, out in ((channels, 32), (32, 64), (64, 128)):
        down += [nn.Conv2d(into, out, 3, stride=2, padding=1), nn.ReLU()]
    end, start = sides[3], sides[4]
    encoder = nn.Sequential(*down, nn.Flatten(), Dense(128 * end[0] * end[1], parts))
    up: list[nn.Module] = [Dense(codes, 128 * start[0] * start[1]), nn.ReLU(), nn.Unflatten(1, (128, *start))]
    for step, (into, out) in enumerate(((128, 64), (64, 64), (64, 32), (32, channels))):
        target = sides[3 - step]
        extra = (1 - target[0] % 2, 1 - target[1] % 2)
        up += [nn.ConvTranspose2d(into, out, 3, stride=2, padding=1, output_padding=extra), nn.ReLU()]
    return encoder, nn.Sequential(*up[:-1], nn.Flatten())
