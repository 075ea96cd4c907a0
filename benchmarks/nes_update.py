"""Times one NES update of parsing part by part, beside the per-sentence loop of the published code.

    OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 python benchmarks/nes_update.py --model runs/kg --target TARGET.conllu \
        --json benchmarks/results/nes-update.json --markdown docs/benchmark-nes-update.md

The batch is the one of 128 target sentences whose number of tokens is nearest to ``--tokens``. The clock is CPU time
(of all threads), which other work on the machine disturbs less than wall time; what it costs when caches are shared
shows in the measured limits, which are taken between the variants. A variant runs with ``--members`` members in three
rounds (noise on scores: with all 400); what it costs without any member is known from a run with two, and N = 400
follows by a straight line; the best round counts. The published code's loop is written anew from its description
(float64, one sentence at a time, the language model one word at a time, relations scored for all pairs) and timed on a
sample of sentences.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parser_vae.methods import NaturalEvolution, products
from parser_vae.methods import population as population_module
from parser_vae.methods.perturbation import Perturbation, matching
from parser_vae.methods.population import ParameterGroup
from parser_vae.parser import Parser
from parser_vae.parsing import contexts, decoder, kernels, population
from parser_vae.parsing import problem as parsing_problem
from parser_vae.parsing.batches import Batch, shuffled_batches
from parser_vae.parsing.model import ParserModel
from parser_vae.parsing.storage import extend_with_target
from parser_vae.structures import projective
from parser_vae.structures.noise import gumbel
from parser_vae.treebank.conllu import read_treebank

MEMBERS = 400
VARIANTS: dict[str, dict[str, Any]] = {
    "all parameters, full rank": {"sigma": 0.03},
    "all parameters, full rank, sigma 0.1": {"sigma": 0.1},
    "all parameters, rank 1": {"sigma": 0.03, "rank": 1},
    "arc scorer only": {"sigma": 0.03, "perturb": "pattern", "pattern": ["encoder.arcs.*"]},
    "scores": {"sigma": 0.5, "perturb": "scores"},
}


class Parts:
    """CPU seconds of the parts of a run: of each wrapped function without the wrapped ones it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.operations: dict[str, float] = {}
        self._within: list[float] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Wrap the functions of interest for the length of the block; members run on the caller's thread."""
        wrapped: list[tuple[Any, str, str, Callable[..., float] | None]] = [
            (products, "product", "products", _flops), (population, "product", "products", _flops),
            (decoder, "product", "language model", _flops), (torch.nn.functional, "linear", "products", None),
            (torch.nn.LSTM, "forward", "LSTM (oneDNN)", _lstm_flops),
            (kernels, "lstm_cell", "LSTM cell", None), (kernels, "_pairwise", "tanh of pairs", _terms),
            (kernels, "_pairwise_slopes", "tanh of pairs", _terms_of_slopes),
            (projective, "eisner_heads", "tree search", None), (Perturbation, "_draw", "noise", None),
            (population_module.ScoreDirections, "of", "noise", None),
            (decoder, "distinct_losses", "language model", None),
            (contexts, "_keys_of_senders", "left contexts", None),
            (contexts, "_number_distinct", "left contexts", None),
        ]  # fmt: skip
        former = [getattr(owner, name) for owner, name, _, _ in wrapped]
        executor = population_module.ThreadPoolExecutor
        for owner, name, label, count in wrapped:
            setattr(owner, name, self._wrapped(getattr(owner, name), label, count))
        population_module.ThreadPoolExecutor = _Inline  # type: ignore[assignment, misc]
        try:
            yield
        finally:
            for (owner, name, _, _), function in zip(wrapped, former, strict=True):
                setattr(owner, name, function)
            population_module.ThreadPoolExecutor = executor  # type: ignore[misc]

    def _wrapped(
        self, function: Callable[..., Any], label: str, count: Callable[..., float] | None
    ) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._within.append(0.0)
            start = time.process_time()
            result = function(*arguments, **options)
            passed = time.process_time() - start
            inside = self._within.pop()
            self.seconds[label] = self.seconds.get(label, 0.0) + passed - inside
            if count is not None:
                self.operations[label] = self.operations.get(label, 0.0) + count(*arguments)
            if self._within:
                self._within[-1] += passed
            return result

        return call


class _Inline:
    """An executor that runs each job when it is submitted."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> _Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        value = function(*arguments)
        return type("Done", (), {"result": staticmethod(lambda: value)})


def _flops(inputs: Tensor, weight: Tensor) -> float:
    return 2.0 * inputs.shape[0] * weight.shape[0] * weight.shape[1]


def _lstm_flops(lstm: torch.nn.LSTM, inputs: Tensor, *_: Any) -> float:
    return 8.0 * inputs.shape[0] * inputs.shape[1] * lstm.hidden_size * (lstm.input_size + lstm.hidden_size)


def _terms(head: np.ndarray, *_: Any) -> float:
    return float(head.shape[0] * head.shape[1] ** 2 * head.shape[2])


def _terms_of_slopes(gradient: np.ndarray, head: np.ndarray, *_: Any) -> float:
    return float(gradient.shape[1] * len(head))


def limits() -> dict[str, float]:
    """Return what one core does at best here and now: products in the cache, normal numbers, exponentials, copies."""

    def rate(action: Callable[[], object], amount: float) -> float:
        action()
        best = np.inf
        for _ in range(7):
            start = time.process_time()
            for _ in range(5):
                action()
            best = min(best, (time.process_time() - start) / 5)
        return amount / best / 1e9

    one, other, many = torch.randn(1024, 384), torch.randn(512, 384), torch.randn(1 << 20)
    large, target = torch.randn(1 << 24), torch.empty(1 << 24)
    return {
        "product_gflops": rate(lambda: products.product(one, other), 2 * 1024 * 384 * 512),
        "normal_g": rate(lambda: torch.randn(1 << 20), 1 << 20),
        "exp_g": rate(lambda: torch.exp(many), 1 << 20),
        "copy_gbytes": rate(lambda: target.copy_(large), 8 * (1 << 24)),
    }


def material(model_folder: Path, target: Path, tokens: int) -> tuple[ParserModel, Batch]:
    """Return the model, its decoder frozen, and a batch of 128 sentences."""
    sentences = read_treebank(target, trees="ignore").sentences
    torch.manual_seed(1)
    model = extend_with_target(Parser.load(model_folder).model, [s.forms for s in sentences]).eval()
    for parameter in model.decoder.parameters():
        parameter.requires_grad = False
    encoded = [model.indexer.encode(sentence.forms) for sentence in sentences]
    groups = shuffled_batches([s.length for s in encoded], 128, torch.Generator().manual_seed(1))
    groups = [group for group in groups if len(group) == 128]
    group = min(groups, key=lambda group: abs(sum(encoded[i].length + 1 for i in group) - tokens))
    return model, model.indexer.batch([encoded[i] for i in group])


def clock(problem: Any, batch: Batch, settings: dict[str, Any], members: int, threads: int) -> tuple[float, float]:
    """Return CPU and wall seconds of one update."""
    method: NaturalEvolution[Batch] = NaturalEvolution(population=members, workers=threads, **settings)
    problem.model.zero_grad()
    cpu, wall = time.process_time(), time.perf_counter()
    method.backward(problem, batch, torch.Generator().manual_seed(1))
    return time.process_time() - cpu, time.perf_counter() - wall


def variant(problem: Any, batch: Batch, settings: dict[str, Any], members: int, threads: int) -> dict[str, Any]:
    clock(problem, batch, settings, 2, threads)
    rounds = [(clock(problem, batch, settings, 2, threads), clock(problem, batch, settings, members, threads))
              for _ in range(3)]  # fmt: skip
    (few_cpu, few_wall), (cpu, wall) = (tuple(min(times) for times in zip(*column, strict=True)) for column in
                                        zip(*rounds, strict=True))  # fmt: skip
    factor = (MEMBERS - 2) / (members - 2)
    parts = Parts()
    with parts.watching():
        method: NaturalEvolution[Batch] = NaturalEvolution(population=members, **settings)
        start = time.process_time()
        method.backward(problem, batch, torch.Generator().manual_seed(1))
        whole = time.process_time() - start
    parts.seconds["the rest"] = whole - sum(parts.seconds.values())
    return {
        "settings": settings,
        "cpu_seconds": few_cpu + (cpu - few_cpu) * factor,
        "wall_seconds": few_wall + (wall - few_wall) * factor,
        "measured": {"members": members, "threads": threads, "cpu": cpu, "wall": wall, "cpu_of_two_members": few_cpu},
        "share_of_cpu": {label: value / whole for label, value in sorted(parts.seconds.items())},
        "giga_a_second": {
            label: count / parts.seconds[label] / 1e9 for label, count in parts.operations.items() if count
        },
    }


def agreement(problem: Any, batch: Batch, settings: dict[str, Any], members: int) -> dict[str, float]:
    """Return how the fast and the plain path agree on one population, in float32."""

    class Plain:
        def __getattr__(self, name: str) -> Any:
            if name in ("population_scores", "population_size"):
                raise AttributeError(name)
            return getattr(problem, name)

    method: NaturalEvolution[Batch] = NaturalEvolution(population=members, sigma=0.03, **settings)
    gradients, objectives, trees, found = [], [], [], []
    for one in (problem, Plain()):
        problem.model.zero_grad()
        objectives.append(method.backward(one, batch, torch.Generator().manual_seed(1)).objective)
        gradients.append(
            torch.cat([p.grad.double().flatten() for p in problem.model.parameters() if p.grad is not None])
        )
        seeds = torch.randint(2**62, (members // 2,), generator=torch.Generator().manual_seed(1)).tolist()
        perturbed = matching(problem.touched(batch), method.pattern or ["*"])
        group = ParameterGroup[Batch](Perturbation(perturbed, 0.03, "absolute", method.rank, None), seeds)
        with torch.no_grad():
            scores = group.scores(one, batch)
            found.append(scores)
            noise = gumbel(scores[0], torch.Generator().manual_seed(2))
            lengths = batch.lengths.repeat(members)
            trees.append(problem.structure.argmax_heads((scores + noise).flatten(0, 1), lengths))
    position = torch.arange(batch.words.shape[1])
    readable = (position <= batch.lengths[:, None])[:, :, None] & batch.word_mask[:, None]
    return {
        "score_difference": float(((found[0] - found[1]) * readable).abs().max()),
        "identical_trees": float((trees[0] == trees[1]).all(1).double().mean()),
        "fitness_difference": abs(objectives[0] - objectives[1]),
        "gradient_cosine": float(torch.nn.functional.cosine_similarity(*gradients, dim=0)),
    }


def eisner_by_rows(scores: np.ndarray) -> np.ndarray:
    """Return the heads of the best tree, several roots allowed: loops over spans, numpy over splits."""
    size = len(scores)
    complete, open_ = np.zeros((2, size, size)), np.zeros((2, size, size))
    split_complete, split_open = np.zeros((2, size, size), int), np.zeros((2, size, size), int)
    for width in range(1, size):
        for first in range(size - width):
            last = first + width
            values = complete[1, first, first:last] + complete[0, first + 1 : last + 1, last]
            best = int(values.argmax())
            split_open[:, first, last] = first + best
            open_[0, first, last] = values[best] + (scores[last, first] if first else -np.inf)
            open_[1, first, last] = values[best] + scores[first, last]
            values = complete[0, first, first:last] + open_[0, first:last, last]
            split_complete[0, first, last] = first + int(values.argmax())
            complete[0, first, last] = values.max()
            values = open_[1, first, first + 1 : last + 1] + complete[1, first + 1 : last + 1, last]
            split_complete[1, first, last] = first + 1 + int(values.argmax())
            complete[1, first, last] = values.max()
    heads = np.zeros(size, int)
    waiting = [(0, size - 1, 1, True)]
    while waiting:
        first, last, right, whole = waiting.pop()
        if first == last:
            continue
        middle = int((split_complete if whole else split_open)[right, first, last])
        if not whole:
            heads[last if right else first] = first if right else last
            waiting += [(first, middle, 1, True), (middle + 1, last, 0, True)]
        elif right:
            waiting += [(first, middle, 1, False), (middle, last, 1, True)]
        else:
            waiting += [(first, middle, 0, True), (middle, last, 0, False)]
    return heads


@torch.no_grad()
def published_loop(model: ParserModel, batch: Batch, sentences: list[int], generator: torch.Generator) -> float:
    """Return CPU seconds of one member on some sentences, done as the published code does."""
    encoder, language = model.encoder, model.decoder
    start = time.process_time()
    for index in sentences:
        words = int(batch.lengths[index])
        alone = Batch(
            words=batch.words[index : index + 1, : words + 1], vectors=batch.vectors[index : index + 1, : words + 1],
            spellings=batch.spellings[index : index + 1, : words + 1], characters=batch.characters,
            decoder_words=batch.decoder_words[index : index + 1, : words + 1],
            lengths=batch.lengths[index : index + 1],
        )  # fmt: skip
        states = encoder.states(alone)[-1][0]
        scores = encoder.arc_scores(states[None])[0]
        labels = encoder.labels  # relations of all pairs, though no tree needs them
        labels.output(torch.tanh(labels.head(states)[:, None] + labels.dependent(states)[None]))
        heads = eisner_by_rows((scores + gumbel(scores, generator)).numpy())
        table = model.decoder.vectors
        assert table is not None
        rows = alone.vectors[0]
        inputs = torch.where(
            (rows < 2)[:, None], language.special_vectors[rows.clamp(max=1)], table[(rows - 2).clamp(min=0)]
        )
        memory, outputs = None, []
        for step in range(words):
            state, memory = language.lstm(inputs[step][None, None], memory)
            outputs.append(state[0, 0])
            mixed = language.own(outputs[step])
            for left in range(step):
                if heads[step] == left:
                    mixed = mixed + language.from_head(outputs[left])
                if heads[left] == step and left:
                    mixed = mixed + language.from_dependent(outputs[left])
            logits = language.output(torch.tanh(mixed))
            torch.log_softmax(logits, -1)[alone.decoder_words[0, step + 1]]
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=4456)
    parser.add_argument("--members", type=int, default=66)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--published", type=int, default=16, help="sentences of the sample; 0: leave the loop out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, batch = material(options.model, options.target, options.tokens)
    structure = projective.ProjectiveTrees(single_root=False)
    problem = parsing_problem.ParsingProblem(model, structure)
    result: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/nes_update.py", *sys.argv[1:]]),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "load_before": os.getloadavg()[0],
        "preset": model.encoder.settings.preset,
        "sentences": len(batch),
        "tokens": int((batch.lengths + 1).sum()),
        "arcs": int(((batch.lengths + 1) ** 2).sum()),
        "language_model_words": len(model.decoder.output.weight),
        "variants": {},
    }
    measured = [limits()]
    for name in options.variants:
        members = MEMBERS if name == "scores" else options.members
        result["variants"][name] = variant(problem, batch, VARIANTS[name], members, options.threads)
        measured.append(limits())
        print(name, json.dumps(result["variants"][name]["cpu_seconds"]), file=sys.stderr, flush=True)
    result["limits_of_one_core"] = {key: max(one[key] for one in measured) for key in measured[0]}
    result["limits_between_variants"] = measured
    result["agreement"] = {
        "rank 1": agreement(problem, batch, {"rank": 1}, 16),
        "arcs": agreement(problem, batch, {"perturb": "pattern", "pattern": ["encoder.arcs.*"]}, 16),
    }
    if options.published:
        order = batch.lengths.argsort().tolist()
        sample = order[len(order) // (2 * options.published) :: len(order) // options.published]
        double = model.double()
        published_loop(double, batch, sample[:1], torch.Generator().manual_seed(0))
        seconds = min(published_loop(double, batch, sample, torch.Generator().manual_seed(seed)) for seed in range(2))
        share = float((batch.lengths[sample] + 1).sum()) / result["tokens"]
        total = seconds / share * MEMBERS
        result["published"] = {
            "sample": len(sample),
            "share_of_tokens": share,
            "seconds": seconds,
            "core_seconds": total,
        }
        for values in result["variants"].values():
            values["times_the_published_loop"] = total / values["cpu_seconds"]
    result["load_after"] = os.getloadavg()[0]
    text = json.dumps(result, indent=1) + "\n"
    if options.json:
        options.json.write_text(text)
    if options.markdown:
        options.markdown.write_text(page(result))
    print(text if not options.json else page(result))


def page(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    one = result["limits_of_one_core"]
    lines = [
        "# One NES update",
        "",
        f"`{result['command']}` at `{result['commit'][:9]}`: N = {MEMBERS}, {result['sentences']} sentences, "
        f"{result['tokens']} tokens with the roots, {result['arcs']} arcs, encoder `{result['preset']}`, a frozen "
        f"language model of {result['language_model_words']} words. CPU seconds of all threads; the machine's load "
        f"was {result['load_before']:.1f} before and {result['load_after']:.1f} after (other people's work).",
        "",
        "| what is perturbed | CPU s | wall s | times the published loop |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, values in result["variants"].items():
        ratio = values.get("times_the_published_loop")
        lines.append(
            f"| {name} | {values['cpu_seconds']:.2f} | {values['wall_seconds']:.2f} | "
            f"{'-' if ratio is None else f'{ratio:.0f}'} |"
        )
    if "published" in result:
        loop = result["published"]
        lines += [
            "",
            f"The published code's loop, scaled up from {loop['sample']} sentences: "
            f"{loop['core_seconds']:.0f} core-seconds.",
        ]
    labels = sorted({label for values in result["variants"].values() for label in values["share_of_cpu"]})
    lines += ["", "Shares of the CPU time, and in brackets the rate in billions a second (products: GFLOP/s).", ""]
    lines += ["| what is perturbed | " + " | ".join(labels) + " |", "| --- |" + " ---: |" * len(labels)]
    for name, values in result["variants"].items():
        cells = []
        for label in labels:
            share, rate = values["share_of_cpu"].get(label), values["giga_a_second"].get(label)
            cells.append("" if share is None else f"{share:.0%}" + ("" if rate is None else f" ({rate:.1f})"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"One core at its best between the variants: {one['product_gflops']:.0f} GFLOP/s in products, "
        f"{one['normal_g']:.2f} G normal numbers, {one['exp_g']:.1f} G exponentials, "
        f"{one['copy_gbytes']:.1f} GB/s copied.",
        "",
        "Fast and plain path on the same 16 members, float32 (with full-rank noise in the lowest layer the plain path "
        "is the fast one; `arcs` perturbs the arc scorer alone, at full rank):",
        "",
        "| noise | largest difference of a score | identical trees | of the mean objective | cosine of the gradients |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, values in result["agreement"].items():
        lines.append(
            f"| {name} | {values['score_difference']:.1e} | {values['identical_trees']:.4%} | "
            f"{values['fitness_difference']:.1e} | "
            f"{values['gradient_cosine']:.6f} |"
        )
    lines += ["", "Several processes, precision, memory and whole runs: [the NES engine](nes-engine.md)."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
