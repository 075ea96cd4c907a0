"""How good a model is: the bound on the trajectories' likelihood, and how many edges it recovers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from parser_vae.graphs.limits import samples_at_once
from parser_vae.graphs.model import GraphModel
from parser_vae.graphs.problem import LOG_DENSITY, Divergence, GraphProblem
from parser_vae.graphs.trajectories import Trajectories
from parser_vae.structures.base import Structure
from parser_vae.structures.noise import gumbel


@dataclass(frozen=True)
class Recovery:
    """How well inferred edges agree with the true ones, in percent; the mean over samples.

    A model that was never told what an edge is may use "edge" for "no edge". As Paulus et al. (2020) do, the inferred
    edges and their complement are both scored, over the whole data, and the ones with the higher precision count.

    Attributes:
        precision: Share of inferred edges that are true.
        recall: Share of true edges that are inferred.
        f1: The harmonic mean of a sample's two.
        switched: Whether the complement is what counts.
    """

    precision: float
    recall: float
    f1: float
    switched: bool


def recovery(inferred: Tensor, true: Tensor) -> Recovery:
    """Return how well boolean edges ``[samples, edges]`` agree with the true ones."""
    either = [_agreement(edges, true) for edges in (inferred.bool(), ~inferred.bool())]
    switched = either[1][0] > either[0][0]
    return Recovery(*either[switched], switched)


def _agreement(inferred: Tensor, true: Tensor) -> tuple[float, float, float]:
    common, found, wanted = (edges.sum(1).double() for edges in (inferred & true, inferred, true))
    shares = (common / found.clamp(min=1), common / wanted.clamp(min=1), 2 * common / (found + wanted).clamp(min=1))
    precision, recall, f1 = (100 * float(share.mean()) for share in shares)
    return precision, recall, f1


@dataclass(frozen=True)
class Inference:
    """What a model makes of samples.

    Attributes:
        scores: Edge scores ``[samples, edges]``.
        drawn: One latent per sample, drawn from the distribution that the divergence is about, boolean.
        best: The best latent of each sample, without noise, boolean.
        reconstruction: ``-log p`` ``[samples]`` given ``drawn``, in nats per sample, every frame predicted from the
            true one before it.
        divergence: Of the scores ``[samples]``, in nats, every edge counted once.
    """

    scores: Tensor
    drawn: Tensor
    best: Tensor
    reconstruction: Tensor
    divergence: Tensor


@torch.no_grad()
def infer(
    model: GraphModel, structure: Structure, positions: Tensor, seed: int = 0, divergence: Divergence = "gumbel"
) -> Inference:
    """Return what the model makes of positions ``[samples, time, points, dimensions]`` as they are in the file.

    Full teacher forcing, running statistics in batch normalisation, one draw per sample: as the papers evaluate. A
    model trained with ``exact_gibbs`` is judged by that divergence and exact samples of ``exp(scores) / Z``; every
    other one by the Gumbel divergence and perturb-and-MAP, for whose latents it is an upper bound.
    """
    kind: Divergence = "exact_gibbs" if divergence == "exact_gibbs" else "gumbel"
    problem = GraphProblem(model, structure, every=1, unit="sample", divergence=kind)
    generator = torch.Generator().manual_seed(seed)
    training = model.training
    model.eval()
    parts = [_infer(problem, batch, generator) for batch in _batches(model, positions)]
    model.train(training)
    return Inference(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


def _batches(model: GraphModel, positions: Tensor) -> Iterator[Tensor]:
    _, frames, points, _ = positions.shape
    for part in positions.split(samples_at_once(frames, points, model.settings.hidden)):
        yield model.normalised(part.to(model.extremes.device))


def _infer(problem: GraphProblem, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
    scores = problem.scores(batch)
    if problem.divergence_kind == "exact_gibbs":
        drawn = problem.structure.sample(scores, generator=generator)[0]
    else:
        drawn = problem.structure.argmax(scores + gumbel(scores, generator))
    divergence = problem.divergence(batch, scores)
    assert divergence is not None
    return (
        scores,
        drawn.bool(),
        problem.structure.argmax(scores).bool(),
        problem.reconstruction(batch, drawn),
        divergence,
    )


def measures(inference: Inference, data: Trajectories) -> dict[str, float]:
    """Return the numbers of a report; see ``docs/graphs.md`` for what each is.

    ``elbo`` is per point, as the papers' tables have it; ``elbo_sample`` in nats per sample. With true edges also
    ``precision``, ``recall`` and ``f1`` of one drawn latent per sample, ``best_f1`` of the most likely ones (percent),
    and whether labels were ``switched``.
    """
    points = data.positions.shape[2]
    coordinates = data.positions[0, 1:].numel()
    reconstruction, divergence = float(inference.reconstruction.mean()), float(inference.divergence.mean())
    values = {
        "elbo": -(reconstruction + LOG_DENSITY * coordinates + 2 * divergence) / points,
        "elbo_sample": -(reconstruction + divergence),
        "divergence": divergence,
    }
    if data.edges is not None:
        drawn = recovery(inference.drawn, data.edges)
        best = ~inference.best if drawn.switched else inference.best
        values |= {
            "precision": drawn.precision,
            "recall": drawn.recall,
            "f1": drawn.f1,
            "best_f1": _agreement(best, data.edges)[2],
            "switched": float(drawn.switched),
        }
    return values
