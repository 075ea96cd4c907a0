"""Speed of image models: a training step of each method beside the same step written straight in torch, and solvers.

    python benchmarks/images.py steps [--rounds 7]
    python benchmarks/images.py solvers [--items 20]

Both in one process and one thread; contestants take turns, and the least processor time of all rounds counts, so that
other programs on the machine matter little. The model is that of Lorberbom et al. (2019): 784-300-ReLU-10 and back,
batches of 100 (128 for NES) random binary images.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot, softplus

from parser_vae.images.problem import ImageBatch, ImageProblem
from parser_vae.images.settings import ImageSettings
from parser_vae.images.train import new_problem
from parser_vae.methods import METHODS
from parser_vae.structures import PairwiseBinary
from parser_vae.structures.binary import bit_count
from parser_vae.training.method_settings import build_method

CLASSES = 10
STEPS = 10


class Straight(nn.Module):
    """The model as anyone would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, CLASSES))
        self.decoder = nn.Sequential(nn.Linear(CLASSES, 300), nn.ReLU(), nn.Linear(300, 784))

    def kl(self, scores: Tensor) -> Tensor:
        logs = scores.log_softmax(-1)
        return (logs.exp() * (logs + math.log(CLASSES))).sum(-1)

    def table(self, x: Tensor) -> Tensor:
        logits = self.decoder(torch.eye(CLASSES))
        return softplus(logits).sum(-1) - x @ logits.T

    def loss_at(self, x: Tensor, z: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(-1)


def gumbel(like: Tensor) -> Tensor:
    return -(-torch.rand_like(like).clamp_min(1e-12).log()).log()


def enumeration(model: Straight, x: Tensor) -> None:
    scores = model.encoder(x)
    ((scores.softmax(-1) * model.table(x)).sum(-1) + model.kl(scores)).mean().backward()


def gumbel_softmax(model: Straight, x: Tensor) -> None:
    scores = model.encoder(x)
    (model.loss_at(x, (scores + gumbel(scores)).softmax(-1)) + model.kl(scores)).mean().backward()


def direct(model: Straight, x: Tensor, epsilon: float = 1.0) -> None:
    scores = model.encoder(x)
    with torch.no_grad():
        noisy = scores + gumbel(scores)
        best = one_hot(noisy.argmax(-1), CLASSES).float()
        ahead = one_hot((noisy - epsilon * model.table(x)).argmax(-1), CLASSES).float()
    surrogate = ((best - ahead) * scores).sum(-1) / epsilon
    (model.loss_at(x, best) + model.kl(scores) + surrogate).mean().backward()


def reinforce(model: Straight, x: Tensor, samples: int = 4) -> None:
    scores = model.encoder(x)
    logs = scores.log_softmax(-1)
    index = torch.multinomial(logs.detach().exp(), samples, replacement=True)
    losses = torch.stack([model.loss_at(x, one_hot(i, CLASSES).float()) for i in index.T])
    signal = (losses - (losses.sum(0) - losses) / (samples - 1)).detach()
    (losses.mean(0) + (signal * logs.gather(1, index).T).mean(0) + model.kl(scores)).mean().backward()


def nes_loop(model: Straight, x: Tensor, population: int = 300, sigma: float = 0.1) -> None:
    """Member after member, as the published code does."""
    parameters = list(model.parameters())
    centres = [p.detach().clone() for p in parameters]
    noise = gumbel(torch.zeros(len(x), CLASSES))
    seeds, fitness = [], []
    with torch.no_grad():
        for _ in range(population // 2):
            seed = int(torch.randint(2**31, ()))
            seeds.append(seed)
            for sign in (sigma, -sigma):
                generator = torch.Generator().manual_seed(seed)
                for p, centre in zip(parameters, centres, strict=True):
                    p.copy_(centre + sign * torch.randn(p.shape, generator=generator))
                scores = model.encoder(x)
                z = one_hot((scores + noise).argmax(-1), CLASSES).float()
                fitness.append(float((model.loss_at(x, z) + model.kl(scores)).mean()))
        values = torch.tensor(fitness)
        utility = ((values - values.mean()) / values.std()).view(-1, 2)
        for p, centre in zip(parameters, centres, strict=True):
            p.copy_(centre)
            p.grad = torch.zeros_like(p)
        for seed, (plus, minus) in zip(seeds, utility.tolist(), strict=True):
            generator = torch.Generator().manual_seed(seed)
            for p in parameters:
                p.grad.add_(torch.randn(p.shape, generator=generator), alpha=(plus - minus) / (population * sigma))


STRAIGHT: dict[str, Callable[[Straight, Tensor], None]] = {
    "enumeration": enumeration,
    "relaxed": gumbel_softmax,
    "direct": direct,
    "score_function": reinforce,
}
NES = {
    "nes, full noise": {"population": 300, "sigma": 0.1},
    "nes, rank 1": {"population": 300, "sigma": 0.1, "rank": 1},
}


def steps(rounds: int) -> None:
    """Print a table of milliseconds of a step (gradient and Adam) and of ratios."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = (torch.rand(128, 784) < 0.3).float()
    rows: dict[str, tuple[float, float | None]] = {}
    for name in METHODS:
        if name in ("nes", "dpp", "entropy"):
            continue
        ours = our_step(name, {}, x[:100])
        theirs = None if name not in STRAIGHT else straight_step(STRAIGHT[name], x[:100])
        rows[name] = fastest(ours, theirs, rounds, STEPS)
    loop = straight_step(nes_loop, x)
    for name, settings in NES.items():
        rows[name] = fastest(our_step("nes", settings, x), loop, max(2, rounds // 3), 1)
    print("| method | ms a step | straight torch, ms | ratio |\n| --- | --- | --- | --- |")
    for name, (mine, other) in rows.items():
        ratio = "" if other is None else f"{mine / other:.2f}"
        print(f"| {name} | {mine:.2f} | {'' if other is None else f'{other:.2f}'} | {ratio} |")


def our_step(name: str, section: dict[str, object], x: Tensor) -> Callable[[], None]:
    latent = "binary" if name in ("arm",) else "categorical"
    values: dict[str, object] = {"model": {"size": CLASSES, "latent": latent}, "method": name}
    settings = ImageSettings.model_validate(values | ({name: section} if section else {}))
    problem = new_problem(settings, (1, 28, 28))
    assert isinstance(problem, ImageProblem)
    method = build_method(name, settings)
    state = [] if method.state is None else list(method.state.parameters())
    optimiser = torch.optim.Adam([*problem.module.parameters(), *state], lr=1e-3, fused=True)
    batch = ImageBatch(x.view(-1, 1, 28, 28))
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        optimiser.zero_grad()
        method.backward(problem, batch, generator)
        optimiser.step()

    return step


def straight_step(backward: Callable[[Straight, Tensor], None], x: Tensor) -> Callable[[], None]:
    model = Straight()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        backward(model, x)
        optimiser.step()

    return step


def fastest(
    ours: Callable[[], None], theirs: Callable[[], None] | None, rounds: int, repeats: int
) -> tuple[float, float | None]:
    """Return the least milliseconds of processor time of either, taking turns after a warm-up."""
    best = [math.inf, math.inf]
    for number in range(rounds + 1):
        for place, step in enumerate((ours, theirs)):
            if step is None:
                continue
            start = time.process_time()
            for _ in range(repeats):
                step()
            spent = 1000 * (time.process_time() - start) / repeats
            if number:
                best[place] = min(best[place], spent)
    return best[0], None if theirs is None else best[1]


def solvers(items: int) -> None:
    """Print milliseconds of a search by number of bits, weights supermodular, one item at a time and in a batch."""
    torch.set_num_threads(1)
    names = ("exhaustive", "max_flow", "mixed_integer", "coordinate")
    shown = [*(f"{name}, 1 item" for name in names), "exhaustive, each of 100", "max_flow, each of 100"]
    print("| bits | " + " | ".join(shown) + " | mixed_integer / max_flow |")
    print("|" + " --- |" * (len(shown) + 2))
    generator = torch.Generator().manual_seed(0)
    warm = torch.randn(2, 3, generator=generator).abs()
    for name in names:
        PairwiseBinary(name).argmax(warm)
    for bits in range(5, 16):
        parts = bits * (bits + 1) // 2
        assert bit_count(parts) == bits
        scores = torch.randn(100, parts, generator=generator, dtype=torch.float64)
        scores[:, bits:] = softplus(scores[:, bits:])
        scores[:, :bits] -= 0.3 * (bits - 1)  # so that neither all nor no bits are on
        values = [per_item(PairwiseBinary(name), scores[:items].split(1)) for name in names]
        values += [per_item(PairwiseBinary(name), [scores]) / 100 for name in ("exhaustive", "max_flow")]
        print(f"| {bits} | " + " | ".join(f"{v:.3f}" for v in values) + f" | {values[2] / values[1]:.0f} |", flush=True)


def per_item(structure: PairwiseBinary, batches: list[Tensor] | tuple[Tensor, ...]) -> float:
    """Return the mean milliseconds of processor time of a search in each batch."""
    start = time.process_time()
    for batch in batches:
        structure.argmax(batch)
    return 1000 * (time.process_time() - start) / len(batches)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("steps", "solvers"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--items", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.what == "steps":
        steps(arguments.rounds)
    else:
        solvers(arguments.items)
