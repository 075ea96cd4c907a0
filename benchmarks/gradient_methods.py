"""Time and memory of one gradient of every method on real sentences.

    PARSER_VAE_DATA=DIR python benchmarks/gradient_methods.py --model DIR [--treebank gl_ctg] [--sentences 128]
        [--methods nes,dpp,...] [--structures projective,spanning] [--set section.key=value ...] [--repeat 3] [--seed 1]

Sentences are drawn from ``unlabeled.conllu`` of the treebank by the seed, as a shuffled batch would be: of all lengths.
Latent trees have any number of roots, the language model is frozen and there is no divergence, as in the papers. Each
row is a process of its own with one thread: compiled code is warmed up on two sentences, the median CPU seconds of
``--repeat`` gradients count, and the peak is that of the process, less what it held before the first gradient.
Enumeration is for short sentences only, and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from parser_vae.methods import METHODS, Method
from parser_vae.parser import Parser
from parser_vae.parsing.batches import Batch
from parser_vae.parsing.model import TREE_FAMILIES
from parser_vae.parsing.problem import ParsingProblem
from parser_vae.parsing.storage import extend_with_target
from parser_vae.training.config import load_settings
from parser_vae.training.method_settings import MethodSections, build_method
from parser_vae.treebank.conllu import read_treebank


def real_problem(model: Path, file: Path, family: str, sentences: int, seed: int) -> tuple[ParsingProblem, Batch]:
    """Return the problem of a pretrained model with a frozen language model, and a batch of sentences of ``file``."""
    chosen = list(read_treebank(file, trees="ignore").sentences)
    random.Random(seed).shuffle(chosen)
    chosen = chosen[:sentences]
    parser = extend_with_target(Parser.load(model).model, [sentence.forms for sentence in chosen]).eval()
    for parameter in parser.decoder.parameters():
        parameter.requires_grad = False
    batch = parser.indexer.batch([parser.indexer.encode(sentence.forms) for sentence in chosen])
    return ParsingProblem(parser, TREE_FAMILIES[family](single_root=False)), batch


def gradient(method: Method[Batch], problem: ParsingProblem, batch: Batch, seed: int) -> tuple[float, dict[str, float]]:
    """Return the CPU seconds of one gradient, and what it reports."""
    problem.module.zero_grad()
    start = time.process_time()
    estimate = method.backward(problem, batch, torch.Generator().manual_seed(seed))
    seconds = time.process_time() - start
    norms = torch.stack([p.grad.norm() for p in problem.module.parameters() if p.grad is not None])
    values = {"objective": estimate.objective, "evaluations": estimate.evaluations, "norm": float(norms.norm())}
    return seconds, values | estimate.metrics


def measure(arguments: argparse.Namespace, name: str, family: str) -> dict[str, object]:
    """Return one row of the table."""
    torch.set_num_threads(1)
    problem, batch = real_problem(arguments.model, arguments.file, family, arguments.sentences, arguments.seed)
    method = build_method(name, load_settings(MethodSections, overrides=arguments.set))
    two = real_problem(arguments.model, arguments.file, family, 2, arguments.seed)
    gradient(method, *two, seed=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    runs = [gradient(method, problem, batch, arguments.seed + number) for number in range(arguments.repeat)]
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    seconds = statistics.median(seconds for seconds, _ in runs)
    return {
        "method": name,
        "structure": family,
        "seconds": seconds,
        "peak_mib": peak,
        "words": int(batch.lengths.sum()),
        "longest": int(batch.lengths.max()),
    } | runs[0][1]


def show(rows: list[dict[str, object]]) -> None:
    """Print the rows as a Markdown table."""
    fixed = ("method", "structure", "seconds", "peak_mib", "evaluations", "objective", "norm")
    print("| method | trees | CPU s | peak MiB | evaluations | objective | norm of the gradient | reports |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for row in rows:
        other = ", ".join(f"{k} {v:.3g}" for k, v in row.items() if k not in (*fixed, "words", "longest"))
        print(
            f"| {row['method']} | {row['structure']} | {row['seconds']:.2f} | {row['peak_mib']:.0f} | "
            f"{row['evaluations']} | {row['objective']:.4f} | {row['norm']:.3g} | {other} |"
        )


def main() -> None:
    """Measure every method in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--treebank", default="gl_ctg")
    parser.add_argument("--sentences", type=int, default=128)
    parser.add_argument("--methods", default=",".join(name for name in METHODS if name != "enumeration"))
    parser.add_argument("--structures", default="projective,spanning")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "PARSER_VAE_DATA" not in os.environ:
        parser.error("PARSER_VAE_DATA must name the folder with treebanks/")
    arguments.file = Path(os.environ["PARSER_VAE_DATA"], "treebanks", arguments.treebank, "unlabeled.conllu")
    if arguments.row:
        print(json.dumps(measure(arguments, *arguments.row.split(":"))))
        return
    rows = []
    for name in arguments.methods.split(","):
        for family in arguments.structures.split(","):
            missing = METHODS[name].requires - TREE_FAMILIES[family]().capabilities
            if missing:
                print(f"{name} is not for {family} trees: {', '.join(sorted(missing))}", file=sys.stderr)
                continue
            command = [sys.executable, *sys.argv, "--row", f"{name}:{family}"]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(done.stdout))
            print(done.stdout, end="", file=sys.stderr)
    print(f"{arguments.sentences} sentences of {arguments.treebank}, {rows[0]['words']} words, the longest ", end="")
    print(f"{rows[0]['longest']}; median of {arguments.repeat}, seed {arguments.seed}; model {arguments.model.name}\n")
    show(rows)


if __name__ == "__main__":
    main()
