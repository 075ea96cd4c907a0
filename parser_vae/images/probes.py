"""What is measured of gradients and objectives at fixed parameters; nothing here changes a model or a method."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from parser_vae.images.data import Images
from parser_vae.images.mixture import MixtureModel
from parser_vae.images.problem import ImageBatch, ImageProblem, MixtureProblem
from parser_vae.methods.base import Method
from parser_vae.methods.perturbation import Perturbation, assign


def encoder_gradients(
    problem: ImageProblem | MixtureProblem, method: Method[Any], batch: ImageBatch, draws: int, seed: int = 0
) -> Tensor:
    """Return repeated estimates ``[draws, parameters]`` of the gradient in the encoder's parameters (float64)."""
    twin = problem.replica()
    method = copy.deepcopy(method)
    generator = torch.Generator().manual_seed(seed)
    parameters = [item.parameter for item in twin.touched(batch) if not item.name.startswith("decoder.")]
    result = []
    for _ in range(draws):
        twin.module.zero_grad()
        method.backward(twin, batch, generator)
        result.append(
            torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten().cpu() for p in parameters])
        )
    return torch.stack(result).double()


def bias_and_variance(estimates: Tensor, exact: Tensor) -> dict[str, float]:
    """Return how far estimates ``[draws, parameters]`` are from the exact gradient, and how widely they scatter.

    ``bias`` is the distance of the mean from the exact gradient as a share of the latter's length, corrected for the
    part that the scatter of a finite number of draws adds; ``variance`` is the trace of the covariance as a share of
    the squared length; ``cosine`` is that between the mean and the exact gradient.
    """
    mean, length = estimates.mean(0), float(exact.norm())
    variance = float(estimates.var(0).sum())
    squared = float((mean - exact).square().sum()) - variance / len(estimates)
    return {
        "bias": max(squared, 0.0) ** 0.5 / length,
        "variance": variance / length**2,
        "cosine": float(torch.dot(mean, exact)) / max(float(mean.norm()) * length, 1e-30),
    }


def gradient_variance(
    problem: ImageProblem | MixtureProblem, method: Method[Any], batch: ImageBatch, draws: int
) -> float:
    """Return the trace of the covariance of the encoder's gradient over repeated draws on one batch."""
    return float(encoder_gradients(problem, method, batch, draws).var(0).sum())


@torch.no_grad()
def smoothing_gap(problem: ImageProblem, batch: ImageBatch, sigma: float, draws: int, seed: int = 0) -> float:
    """Return the mean over images of ``|k - g|`` in nats: the objective, and its mean under noise on all parameters.

    Berliner et al. (2022), Figure 3 (left); latents are the argmax without noise, as in their code.
    """
    twin = problem.replica()
    seeds = torch.randint(2**62, (max(1, draws // 2),), generator=torch.Generator().manual_seed(seed)).tolist()
    centre = _objective(twin, batch)
    touched = twin.touched(batch)
    perturbation = Perturbation(touched, sigma, "absolute", 0, None)
    smoothed = torch.zeros_like(centre)
    for one in seeds:
        # a mirrored pair for each seed
        members = [perturbed.members() for perturbed in perturbation.group([one]).values()]
        for member in range(2):
            for item, values in zip(touched, members, strict=True):
                assign(item, values[member])
            smoothed += _objective(twin, batch) / (2 * len(seeds))
    return float((centre - smoothed).abs().mean())


def _objective(problem: ImageProblem, batch: ImageBatch) -> Tensor:
    scores = problem.scores(batch)
    losses = problem.reconstruction(batch, problem.structure.argmax(scores))
    divergence = problem.divergence(batch, scores)
    return losses if divergence is None else losses + divergence


class AttributeReader(torch.nn.Module):
    """A small network that tells the attributes of an image, to judge generated ones by."""

    def __init__(self, pixels: int, attributes: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(pixels, 256), torch.nn.ReLU(), torch.nn.Linear(256, attributes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return whether each attribute is there ``[batch, attributes]`` (bool)."""
        return self.layers(images) > 0


def train_reader(images: Images, epochs: int = 15, seed: int = 5) -> AttributeReader:
    """Return a network trained on images and their attributes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = AttributeReader(images.pixels[0].numel(), images.attributes.shape[1])
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(reader.parameters(), lr=1e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(images), generator=generator).split(100):
            logits = reader.layers(images.pixels[index].float() / 255)
            wanted = images.attributes[index].float()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return reader


@torch.no_grad()
def flip_rates(problem: MixtureProblem, images: Images, reader: AttributeReader) -> dict[str, float]:
    """Return how often flipping a bit changes what it should in the image that is generated.

    For each bit in turn it is flipped in the best latent of every image, and the image is generated before and after.
    ``flip_right``: the reader sees the attribute of that bit, and no other, change. ``flip_changed``: it sees that
    attribute change. ``reader_accuracy``: how often the reader is right about an attribute of a real image.
    """
    model = problem.model
    assert isinstance(model, MixtureModel)
    pixels = images.pixels.float() / 255
    accuracy = float((reader(pixels) == images.attributes.bool()).double().mean())
    best = problem.structure.argmax(problem.scores(ImageBatch(pixels)))
    means = model.gaussians(pixels).mean

    def seen(latent: Tensor) -> Tensor:
        return reader(model.logits(model.selection(latent), means).sigmoid().reshape(pixels.shape))

    before = seen(best)
    right = changed = 0.0
    for bit in range(model.codes):
        flipped = best.clone()
        flipped[:, bit] = 1 - flipped[:, bit]
        differs = seen(flipped) != before
        wanted = torch.zeros_like(differs)
        wanted[:, bit] = True
        right += float((differs == wanted).all(-1).double().mean()) / model.codes
        changed += float(differs[:, bit].double().mean()) / model.codes
    return {"flip_right": right, "flip_changed": changed, "reader_accuracy": accuracy}
