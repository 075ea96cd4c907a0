"""Image problems: losses equal their formulas however they are computed, and enumeration is the exact gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from parser_vae.errors import ConfigError
from parser_vae.images.bounds import as_batch
from parser_vae.images.problem import ImageBatch, ImageProblem, LabelProblem, MixtureProblem, gold_codes
from parser_vae.images.settings import ImageSettings
from parser_vae.images.train import new_problem
from parser_vae.methods import Direct, Enumeration, Relaxed
from parser_vae.methods.perturbation import Perturbation
from parser_vae.methods.population import ParameterGroup, PopulationLosses, PopulationScores

LATENTS = [("categorical", 5), ("binary", 4), ("pairwise", 4), ("supermodular", 4)]


def problem_of(latent: str, size: int, **more: dict[str, object]) -> ImageProblem | MixtureProblem:
    torch.manual_seed(3)
    model = {"latent": latent, "size": size, "hidden": 6} | more.pop("model", {})
    return new_problem(ImageSettings.model_validate({"model": model, **more}), (1, 8, 8))


def batch_of(problem: ImageProblem | MixtureProblem, count: int = 3) -> ImageBatch:
    generator = torch.Generator().manual_seed(1)
    pixels = (torch.rand(count, 1, 8, 8, generator=generator) < 0.4).to(torch.uint8) * 255
    return as_batch(pixels, problem, generator)


def exact_objective(problem: ImageProblem | MixtureProblem, batch: ImageBatch) -> Tensor:
    """Return the mean objective, written out over all latents, one after the other."""
    scores = problem.scores(batch)
    objects = problem.structure.enumerate((scores.shape[1],)).to(scores)
    probabilities = (scores @ objects.T).softmax(-1)
    total = torch.zeros(len(scores))
    for weight, latent in zip(probabilities.T, objects, strict=True):
        total = total + weight * problem.reconstruction(batch, latent.expand(len(scores), -1))
    divergence = (probabilities * (probabilities.log() + math.log(len(objects)))).sum(-1)
    return (total + divergence).mean()


@pytest.mark.parametrize(("latent", "size"), LATENTS)
def test_the_enumerated_gradient_is_that_of_the_objective_written_out(latent: str, size: int) -> None:
    problem = problem_of(latent, size)
    batch = batch_of(problem)
    exact_objective(problem, batch).backward()
    wanted = [parameter.grad.clone() for parameter in problem.module.parameters() if parameter.grad is not None]
    problem.module.zero_grad()
    estimate = Enumeration[ImageBatch]().backward(problem, batch, torch.Generator())
    assert estimate.objective == pytest.approx(float(exact_objective(problem, batch).detach()), rel=1e-5)
    for parameter, gradient in zip(problem.module.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("latent", "size"), LATENTS)
def test_shared_and_single_losses_agree(latent: str, size: int) -> None:
    problem = problem_of(latent, size, objective={"pixel_bound": 0.6})
    assert isinstance(problem, ImageProblem)
    batch = batch_of(problem)
    objects = problem.structure.enumerate((problem.model.parts,)).float()
    members = [latent.expand(3, -1) for latent in objects]
    single = torch.stack([problem.reconstruction(batch, member) for member in members])
    torch.testing.assert_close(problem.population_reconstruction(batch, members), single)
    torch.testing.assert_close(problem.population_reconstruction(batch, members[:1]), single[:1])
    torch.testing.assert_close(problem.table(batch, objects), single.T)


@torch.no_grad()
def test_bounded_pixels_cost_no_more_than_the_bound() -> None:
    problem = problem_of("categorical", 5, objective={"pixel_bound": 0.8})
    assert isinstance(problem, ImageProblem)
    problem.model.decoder[-1].bias += 30.0
    batch = ImageBatch(torch.zeros(1, 1, 8, 8))
    latent = torch.eye(5)[:1]
    assert float(problem.reconstruction(batch, latent)) == pytest.approx(64 * 0.8, rel=1e-5)
    ones = ImageBatch(torch.ones(1, 1, 8, 8))
    assert float(problem.reconstruction(ones, latent)) == pytest.approx(-64 * math.log(1 - math.exp(-0.8)), rel=1e-4)
    assert float(problem.as_measured().reconstruction(batch, latent)) > 64 * 25


def test_divergences() -> None:
    problem = problem_of("pairwise", 4)
    assert isinstance(problem, ImageProblem)
    batch = batch_of(problem)
    scores = problem.scores(batch)
    without = ImageProblem(problem.model, problem.structure, "none")
    assert without.divergence(batch, scores) is None
    unary = ImageProblem(problem.model, problem.structure, "unary").divergence(batch, scores)
    on = scores[:, :4].sigmoid()
    wanted = (on * (2 * on).log() + (1 - on) * (2 * (1 - on)).log()).sum(-1)
    torch.testing.assert_close(unary, wanted, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(without.as_measured().divergence(batch, scores), problem.divergence(batch, scores))


def test_supermodular_products_never_weigh_less_than_nothing() -> None:
    problem = problem_of("supermodular", 4)
    assert float(problem.scores(batch_of(problem))[:, 4:].detach().min()) >= 0


@pytest.mark.parametrize("network", ["fc", "cnn"])
@pytest.mark.parametrize("latent", ["categorical", "binary"])
def test_a_mixture_pays_for_the_rows_it_selects(latent: str, network: str) -> None:
    torch.manual_seed(4)
    pixels = (torch.rand(3, 1, 16, 16) < 0.4).to(torch.uint8) * 255
    problem = new_problem(
        ImageSettings.model_validate({"model": {"latent": latent, "size": 3, "continuous": 2, "network": network}}),
        (1, 16, 16),
    )
    assert isinstance(problem, MixtureProblem)
    batch = as_batch(pixels, problem, torch.Generator().manual_seed(1))
    latents = torch.eye(3)
    rows = problem.model.gaussians(batch.images)
    chosen = torch.eye(3) if latent == "categorical" else torch.cat([torch.eye(3), 1 - torch.eye(3)], -1)
    normal = torch.distributions.Normal(rows.mean, (rows.log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(
        normal, torch.distributions.Normal(torch.zeros_like(rows.mean), torch.ones_like(rows.mean))
    ).sum(-1)
    values = (rows.mean + batch.noise * (rows.log_variance / 2).exp()) * chosen[:, :, None]
    logits = problem.model.decoder(values.flatten(1))
    wanted = binary_cross_entropy_with_logits(logits, batch.images.flatten(1), reduction="none").sum(-1)
    wanted = wanted + (divergence * chosen).sum(-1)
    torch.testing.assert_close(problem.reconstruction(batch, latents), wanted)
    objects = problem.structure.enumerate((3,)).float()
    single = torch.stack([problem.reconstruction(batch, one.expand(3, -1)) for one in objects])
    torch.testing.assert_close(problem.table(batch, objects), single.T)
    estimate = Enumeration[ImageBatch]().backward(problem, batch, torch.Generator())
    assert estimate.objective == pytest.approx(float(exact_objective(problem, batch).detach()), rel=1e-5)


@pytest.mark.parametrize(("latent", "size"), [("categorical", 5), ("binary", 4), ("supermodular", 4)])
@pytest.mark.parametrize("network", ["fc", "cnn"])
@pytest.mark.parametrize("rank", [0, 2])
def test_members_judged_together_and_one_by_one_agree(latent: str, size: int, network: str, rank: int) -> None:
    problem = problem_of(latent, size, model={"network": network})
    batch = batch_of(problem)
    perturbation = Perturbation(problem.touched(batch), 0.1, "absolute", rank, None)
    group = ParameterGroup[ImageBatch](perturbation, [5, 6])
    assert isinstance(problem, PopulationScores)
    assert isinstance(problem, PopulationLosses)
    with torch.no_grad():
        scores = group.scores(problem, batch)
        latents = torch.stack([problem.structure.argmax(one) for one in scores])
        together = group.losses(problem, batch, latents[None])[0]
        values = perturbation.group(group.seeds)
        for member in range(4):
            twin = problem.replica()
            for item in twin.touched(batch):
                item.parameter.copy_(values[item.name].members()[member])
            torch.testing.assert_close(scores[member], twin.scores(batch), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(together[member], twin.reconstruction(batch, latents[member]))


def test_small_images_are_refused_where_convolutions_would_leave_nothing() -> None:
    with pytest.raises(ConfigError) as raised:
        problem_of("binary", 3, model={"continuous": 2, "network": "cnn"})
    assert str(raised.value) == (
        "model.network is cnn and model.continuous above 0, which needs images of at least 16 pixels a side; these "
        "have 8. Choose fc"
    )


def test_labels_judge_latents_by_agreement() -> None:
    problem = problem_of("categorical", 3)
    labels = LabelProblem(problem)
    gold = gold_codes(torch.tensor([0, 2]), torch.zeros(2, 0), "categorical", 3)
    batch = ImageBatch(torch.zeros(2, 1, 8, 8), gold)
    wrong = -math.log(1e-9)
    latent = torch.eye(3)[[0, 0]]
    torch.testing.assert_close(labels.reconstruction(batch, latent), torch.tensor([0.0, wrong]))
    soft = torch.tensor([[0.5, 0.25, 0.25]] * 2)
    torch.testing.assert_close(labels.reconstruction(batch, soft), torch.tensor([math.log(2), math.log(4)]))
    bits = LabelProblem(problem_of("binary", 2))
    attributes = gold_codes(torch.zeros(1), torch.tensor([[1, 0]]), "binary", 2)
    one = ImageBatch(torch.zeros(1, 1, 8, 8), attributes)
    torch.testing.assert_close(bits.reconstruction(one, torch.tensor([[1.0, 1.0]])), torch.tensor([wrong]))


@pytest.mark.parametrize("latent", ["categorical", "binary"])
def test_direct_and_relaxed_learn_from_labels(latent: str) -> None:
    size = 3
    for method in (Direct[ImageBatch](epsilon=0.5), Relaxed[ImageBatch]()):
        problem = problem_of(latent, size)
        about = LabelProblem(problem)
        generator = torch.Generator().manual_seed(0)
        pixels = batch_of(problem, 8).images
        gold = torch.eye(3)[torch.arange(8) % 3]
        batch = ImageBatch(pixels, gold)
        optimiser = torch.optim.Adam(problem.module.parameters(), lr=0.02)
        for _ in range(40):
            optimiser.zero_grad()
            method.backward(about, batch, generator)
            optimiser.step()
        best = problem.structure.argmax(problem.scores(batch))
        assert float((best == gold).all(-1).float().mean()) > 0.8, method.name
        decoder = problem.model.decoder[0].weight
        assert decoder.grad is None or not decoder.grad.any()
