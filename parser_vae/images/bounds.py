"""How good an image model is: its bound on the log-likelihood, and what its latents mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parser_vae.images.data import Images
from parser_vae.images.mixture import MixtureModel
from parser_vae.images.problem import ImageBatch, ImageProblem, MixtureProblem
from parser_vae.images.settings import Expectation
from parser_vae.structures import Structure

MAX_EXACT_OBJECTS = 1024
"""The most latents over which an expectation is exact; beyond, it is estimated from samples."""

_NUMBERS = 2**25  # held at once by one step of an evaluation
_SEED = 777


@dataclass(frozen=True)
class Bound:
    """The negative evidence bound of some images, in nats per image; lower is better.

    Attributes:
        reconstruction: ``-E log p(x | z)``, with the divergence of Gaussian latents where there are any.
        divergence: ``KL(q(z | x) || uniform)``.
        perplexity: How many values of the latent are in use on average over images; one-hot latents only.
        purity: The share of images whose class is the commonest one among images with the same best latent.
        accuracy: The share of images whose best latent is the one that their label names.
    """

    reconstruction: float
    divergence: float
    perplexity: float | None = None
    purity: float | None = None
    accuracy: float | None = None

    @property
    def bound(self) -> float:
        """Return ``-E log p(x | z) + KL(q(z | x) || uniform)``."""
        return self.reconstruction + self.divergence

    def values(self) -> dict[str, float]:
        """Return everything known by name."""
        named = {
            "bound": self.bound,
            "reconstruction": self.reconstruction,
            "divergence": self.divergence,
            "perplexity": self.perplexity,
            "purity": self.purity,
            "accuracy": self.accuracy,
        }
        return {name: value for name, value in named.items() if value is not None}


@torch.no_grad()
def measure(
    problem: ImageProblem | MixtureProblem,
    images: Images,
    latent: Expectation = "exact",
    samples: int = 10,
    gold: Tensor | None = None,
) -> Bound:
    """Return the bound of the images, the expectation over latents taken as told; the same every time.

    Args:
        problem: The model with its exact divergence (``as_measured``).
        images: The images.
        latent: ``exact`` sums over all latents up to 1024 and samples where there are more. ``sample`` draws from the
            distribution, ``perturb`` takes the best latent of noisy scores, and ``map`` that of the scores, which is no
            expectation and so no bound (the convention of Berliner et al., 2022).
        samples: Draws per image.
        gold: The latents that labels name ``[count, codes]``; gives ``accuracy``.
    """
    device = next(problem.module.parameters()).device
    generator = torch.Generator().manual_seed(_SEED)
    structure = problem.structure
    every = _objects(structure, problem.model.parts) if latent == "exact" else None
    codes = problem.model.codes
    totals = torch.zeros(2, dtype=torch.float64)
    usage = torch.zeros(codes, dtype=torch.float64)
    chosen: list[Tensor] = []
    pixels = images.pixels[0].numel()
    rows = len(every) if every is not None else samples
    per_image = rows * (pixels if isinstance(problem, MixtureProblem) or every is None else 1) + pixels
    for start in range(0, len(images), max(1, min(1000, _NUMBERS // per_image))):
        part = images.take(slice(start, start + max(1, min(1000, _NUMBERS // per_image))))
        batch = as_batch(part.pixels, problem, generator, device)
        scores = problem.scores(batch)
        if every is not None:
            weights = (scores @ every.to(scores).T).softmax(-1)
            losses = (weights * problem.table(batch, every)).sum(-1)
        else:
            drawn = _draw(structure, scores, latent, samples, generator)
            losses = problem.population_reconstruction(batch, list(drawn)).mean(0)
        divergence = problem.divergence(batch, scores)
        assert divergence is not None
        totals += torch.stack([losses.double().sum(), divergence.double().sum()]).cpu()
        chosen.append(structure.argmax(scores)[:, :codes].cpu())
        if structure.name == "categorical":
            usage += scores.softmax(-1).double().sum(0).cpu()
    best = torch.cat(chosen)
    reconstruction, divergence_mean = (totals / len(images)).tolist()
    one_of = structure.name == "categorical"
    return Bound(
        reconstruction,
        divergence_mean,
        perplexity=_perplexity(usage / len(images)) if one_of else None,
        purity=_purity(best.argmax(-1), images.labels) if one_of and int(images.labels.max()) else None,
        accuracy=None if gold is None else float((best == gold).all(-1).double().mean()),
    )


def as_batch(
    pixels: Tensor,
    problem: ImageProblem | MixtureProblem,
    generator: torch.Generator,
    device: torch.device | None = None,
    gold: Tensor | None = None,
) -> ImageBatch:
    """Return a batch of ``pixels [batch, channels, height, width]`` (uint8), with noise where the model asks for it."""
    images = pixels.to(device).float() / 255
    noise = None
    if isinstance(problem.model, MixtureModel):
        shape = (len(images), problem.model.rows, problem.model.settings.continuous)
        noise = torch.randn(shape, generator=generator).to(images.device)
    return ImageBatch(images, None if gold is None else gold.to(device), noise)


def _objects(structure: Structure, parts: int) -> Tensor | None:
    """Return every latent ``[objects, parts]`` where there are few enough, or None."""
    count = structure.log_count(torch.zeros(1, parts, dtype=torch.float64)).exp()
    return structure.enumerate((parts,)) if float(count) <= MAX_EXACT_OBJECTS + 0.5 else None


def _draw(
    structure: Structure, scores: Tensor, latent: Expectation, samples: int, generator: torch.Generator
) -> Tensor:
    """Return latents ``[draws, batch, parts]``."""
    if latent == "map":
        return structure.argmax(scores)[None]
    if latent == "perturb":
        return torch.stack([structure.argmax(scores + structure.noise(scores, generator)) for _ in range(samples)])
    return structure.sample(scores, generator=generator, count=samples)


def _perplexity(usage: Tensor) -> float:
    return float(torch.special.entr(usage).sum().exp())


def _purity(cluster: Tensor, labels: Tensor) -> float:
    """Return the share of images that have the commonest label of their cluster."""
    counts = torch.zeros(int(cluster.max()) + 1, int(labels.max()) + 1)
    counts.index_put_((cluster, labels), torch.ones(len(labels)), accumulate=True)
    return float(counts.max(-1).values.sum() / len(labels))
