"""Times one NES gradient of a plain network here and in evotorch and evosax, and against a loop over members.

    OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 python benchmarks/nes_peers.py --json benchmarks/results/nes-peers.json

One process, one core, in turn, round by round; CPU time, the best round. The task is the same for all: an auto-encoder
of binary images with a categorical latent, 784 -> hidden -> K scores, argmax, K -> hidden -> 784 logits, all parameters
perturbed, N mirrored members, a batch of 128. evotorch (PGPE's symmetric gradient) gets the network as a vectorised
function under ``torch.func.vmap``; evosax (Open-ES) runs compiled under JAX with ``vmap``. A contestant that is not
installed is left out and said to be.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from parser_vae.methods import NaturalEvolution, Touched
from parser_vae.methods.population import Parameters, vmapped
from parser_vae.structures.categorical import Categorical

CLASSES = 10
PIXELS = 784
SIGMA = 0.1


class Images:
    """The problem, evaluated by a loop over members."""

    def __init__(self, module: nn.ModuleDict) -> None:
        self.module = module
        self.structure = Categorical()

    def touched(self, batch: Tensor) -> list[Touched]:
        return [Touched(name, parameter) for name, parameter in self.module.named_parameters()]

    def lengths(self, batch: Tensor) -> None:
        return None

    def scores(self, batch: Tensor) -> Tensor:
        return self.module["encoder"](batch)

    def reconstruction(self, batch: Tensor, latent: Tensor) -> Tensor:
        logits = self.module["decoder"](latent)
        return binary_cross_entropy_with_logits(logits, batch.expand_as(logits), reduction="none").sum(-1)

    def population_reconstruction(self, batch: Tensor, latents: Sequence[Tensor]) -> Tensor:
        raise NotImplementedError

    def reconstruction_is_shared(self, batch: Tensor) -> bool:
        return False

    def divergence(self, batch: Tensor, scores: Tensor) -> None:
        return None

    def replica(self) -> Images:
        return type(self)(copy.deepcopy(self.module))


class ImagesTogether(Images):
    """The same, all members at once."""

    def population_scores(self, batch: Tensor, parameters: Parameters) -> Tensor:
        return vmapped(self, lambda: self.scores(batch), parameters)

    def population_size(self, batch: Tensor, memory: int) -> int:
        values = sum(parameter.numel() for parameter in self.module.parameters()) + 4 * batch.numel()
        return max(2, memory // (4 * values))

    def population_losses(self, batch: Tensor, parameters: Parameters, latents: Tensor) -> Tensor:
        return vmapped(self, lambda latent: self.reconstruction(batch, latent), parameters, latents)


def network(hidden: int) -> nn.ModuleDict:
    torch.manual_seed(0)

    def layers(*sizes: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(*sizes[:2]), nn.ReLU(), nn.Linear(*sizes[1:]))

    return nn.ModuleDict({"encoder": layers(PIXELS, hidden, CLASSES), "decoder": layers(CLASSES, hidden, PIXELS)})


def ours(kind: type[Images], hidden: int, members: int, batch: Tensor, rank: int = 0) -> Callable[[], object]:
    problem = kind(network(hidden))
    method: NaturalEvolution[Tensor] = NaturalEvolution(population=members, sigma=SIGMA, rank=rank, memory=64)
    return lambda: method.backward(problem, batch, torch.Generator().manual_seed(0))


def evotorch(hidden: int, members: int, batch: Tensor) -> Callable[[], object]:
    from evotorch.distributions import SymmetricSeparableGaussian

    module = network(hidden)
    names, shapes = zip(*((name, p.shape) for name, p in module.named_parameters()), strict=True)
    sizes = [shape.numel() for shape in shapes]
    centre = torch.cat([p.detach().flatten() for p in module.parameters()])
    gumbel = -torch.rand(len(batch), CLASSES).log().neg().log()

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self) -> Tensor:
            best = (self.module["encoder"](batch) + gumbel).argmax(-1)
            logits = self.module["decoder"](one_hot(best, CLASSES).float())
            return binary_cross_entropy_with_logits(logits, batch, reduction="none").sum(-1).mean()

    whole = Whole()

    def fitness(vector: Tensor) -> Tensor:
        parts = (part.view(shape) for part, shape in zip(vector.split(sizes), shapes, strict=True))
        return torch.func.functional_call(whole, {f"module.{n}": p for n, p in zip(names, parts, strict=True)}, ())

    evaluate = torch.func.vmap(fitness, chunk_size=32)

    def update() -> object:
        with torch.no_grad():
            distribution = SymmetricSeparableGaussian({"mu": centre, "sigma": torch.full_like(centre, SIGMA)})
            samples = distribution.sample(members)
            return distribution.compute_gradients(
                samples, evaluate(samples), objective_sense="min", ranking_method="normalized"
            )

    return update


def evosax(hidden: int, members: int, batch: Tensor) -> Callable[[], object]:
    import jax
    import jax.numpy as jnp
    import optax
    from evosax.algorithms import Open_ES

    module = network(hidden)
    centre = {name: jnp.asarray(p.detach().numpy()) for name, p in module.named_parameters()}
    data = jnp.asarray(batch.numpy())
    gumbel = jax.random.gumbel(jax.random.key(1), (len(batch), CLASSES))

    def layers(values: dict[str, Any], name: str, inputs: Any) -> Any:
        inner = jax.nn.relu(inputs @ values[f"{name}.0.weight"].T + values[f"{name}.0.bias"])
        return inner @ values[f"{name}.2.weight"].T + values[f"{name}.2.bias"]

    def fitness(values: dict[str, Any]) -> Any:
        best = (layers(values, "encoder", data) + gumbel).argmax(-1)
        logits = layers(values, "decoder", jax.nn.one_hot(best, CLASSES))
        return optax.sigmoid_binary_cross_entropy(logits, data).sum(-1).mean()

    strategy = Open_ES(members, centre, optimizer=optax.sgd(0.0), std_schedule=optax.constant_schedule(SIGMA))
    settings = strategy.default_params
    state = strategy.init(jax.random.key(0), centre, settings)

    @jax.jit
    def step(key: Any, state: Any) -> Any:
        asking, telling = jax.random.split(key)
        population, state = strategy.ask(asking, state, settings)
        return strategy.tell(telling, population, jax.vmap(fitness)(population), state, settings)

    return lambda: jax.block_until_ready(step(jax.random.key(0), state))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--members", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    batch = (torch.rand(128, PIXELS, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    hidden, members = options.hidden, options.members
    contestants: dict[str, Callable[[], object]] = {
        "here": ours(ImagesTogether, hidden, members, batch),
        "here, rank 1": ours(ImagesTogether, hidden, members, batch, rank=1),
        "here, loop over members": ours(Images, hidden, members, batch),
    }
    missing = []
    for name, make in (("evotorch", evotorch), ("evosax", evosax)):
        if importlib.util.find_spec(name) is None:
            missing.append(name)
        else:
            contestants[name] = make(hidden, members, batch)
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(options.rounds + 1):  # the first round warms up
        for name, update in contestants.items():
            start = time.process_time()
            update()
            passed = time.process_time() - start
            best[name] = min(best[name], passed)
    result = {
        "command": shlex.join(["python", "benchmarks/nes_peers.py", *sys.argv[1:]]),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "load": os.getloadavg()[0],
        "parameters": sum(parameter.numel() for parameter in network(hidden).parameters()),
        "members": members,
        "cpu_seconds": best,
        "not_installed": missing,
    }
    text = json.dumps(result, indent=1) + "\n"
    if options.json:
        options.json.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
