"""Times one NES update shared by processes: CPU seconds of each, wall seconds, and a checksum of the gradient.

    OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 torchrun --nproc-per-node K benchmarks/nes_ranks.py --model runs/source \
        --target TARGET.conllu [--variants scores "all parameters, rank 1"]

The batch and the variants are those of ``nes_update.py``, N = 400 for noise on scores and ``--members`` else. CPU
seconds leave out waiting for the others, so on a machine that other people use too they say what a process had to do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

import torch
from nes_update import MEMBERS, VARIANTS, material

from parser_vae.methods import NaturalEvolution
from parser_vae.methods.ranks import everyone, joined_processes
from parser_vae.parsing.batches import Batch
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.structures import ProjectiveTrees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=4456)
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--variants", nargs="*", default=["scores"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, batch = material(options.model, options.target, options.tokens)
    problem = ParsingProblem(model, ProjectiveTrees(single_root=False))
    with joined_processes():
        for name in options.variants:
            members = MEMBERS if name == "scores" else options.members
            method: NaturalEvolution[Batch] = NaturalEvolution(population=members, **VARIANTS[name])
            times = []
            for seed in range(options.rounds + 1):  # the first compiles
                problem.module.zero_grad()
                wall, cpu = time.perf_counter(), time.process_time()
                method.backward(problem, batch, torch.Generator().manual_seed(seed))
                times.append((time.process_time() - cpu, time.perf_counter() - wall))
            gradients = [p.grad.numpy().tobytes() for p in problem.module.parameters() if p.grad is not None]
            result = {
                "variant": name,
                "members": members,
                "processes": everyone().count,
                "rank": everyone().rank,
                "cpu_seconds": min(cpu for cpu, _ in times[1:]),
                "wall_seconds": min(wall for _, wall in times[1:]),
                "gradient": hashlib.sha256(b"".join(gradients)).hexdigest()[:16],
                "load": os.getloadavg()[0],
            }
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
