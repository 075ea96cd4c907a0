r"""Times our structures against the installed peers, checks that they agree, and prints ratios.

    taskset -c 0 python benchmarks/structures.py --jobs eisner,arborescence --n 10,20,40,80,160,250 \
        --peer DSVAE-NES=PATH/parsing/src --peer lp-sparsemap=PATH --json benchmarks/results/structures.json

All contestants run in one process on one core, in turn, round by round, on the same sentences. The clock is the
process's CPU time, which other processes on the machine disturb little; the best round counts. ``gauss`` scores are
standard normal (the hard case), ``peaked`` ones have 6 added on the arcs of a random projective tree (like a trained
scorer's), and ``--scores FILE.npz`` takes a scorer's own: ``scores``, one float32 vector that holds the
``(length + 1)^2`` numbers ``[head, dependent]`` of each sentence in turn, and ``lengths``, their words.

``--report threads|compile|memory`` measures two cores against one, compile times, and peak memory instead.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Before numpy, torch and jax are imported, which read these once.
for _name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from structure_contestants import CONTESTANTS, Chunk, Contestant, Peers, versions  # noqa: E402

TOKENS = {"projective_marginals": 2500, "matrix_tree": 2500, "smoothed": 1200}
ARGMAX = {"eisner": (True, True), "eisner_multi": (False, True), "arborescence": (True, False)}
"""For each argmax job, whether one root is asked, and projectivity."""


def random_projective(words: int, generator: np.random.Generator) -> np.ndarray:
    """Return the heads of a random projective tree with one root: random splits of spans."""
    heads = np.zeros(words + 1, np.int64)
    spans = [(1, words, 0)]
    while spans:
        first, last, head = spans.pop()
        if first <= last:
            top = int(generator.integers(first, last + 1))
            heads[top] = head
            spans += [(first, top - 1, top), (top + 1, last, top)]
    return heads


def synthetic(kind: str, words: int, tokens: int) -> Chunk:
    generator = np.random.default_rng(0)
    count = max(16, tokens // words)
    scores = generator.standard_normal((count, words + 1, words + 1)).astype(np.float32)
    if kind == "peaked":
        for item in scores:
            item[random_projective(words, generator)[1:], np.arange(1, words + 1)] += 6
    return Chunk(scores, np.full(count, words, np.int64))


def real(path: Path, sentences: int) -> list[Chunk]:
    """Return evenly chosen sentences of a scorer's file, up to 80 words, sorted by length, in padded chunks of 32."""
    with np.load(path, allow_pickle=False) as stored:
        flat, lengths = stored["scores"], stored["lengths"].astype(np.int64)
    ends = np.cumsum((lengths + 1) ** 2)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= 80]
    order = order[np.linspace(0, len(order) - 1, min(sentences, len(order))).astype(int)]
    chunks = []
    for begin in range(0, len(order), 32):
        part = order[begin : begin + 32]
        nodes = lengths[part].max() + 1
        scores = np.zeros((len(part), nodes, nodes), np.float32)
        for row, index in zip(scores, part, strict=True):
            size = lengths[index] + 1
            row[:size, :size] = flat[ends[index] - size * size : ends[index]].reshape(size, size)
        chunks.append(Chunk(scores, lengths[part]))
    return chunks


def tree_scores(chunk: Chunk, heads: np.ndarray) -> np.ndarray:
    return np.array(
        [
            scores[found[1 : length + 1], np.arange(1, length + 1)].astype(np.float64).sum()
            for scores, found, length in zip(chunk.scores, heads, chunk.lengths, strict=True)
        ]
    )


def are_trees(chunk: Chunk, heads: np.ndarray, single_root: bool, projective: bool) -> bool:
    for found, length in zip(heads[:8], chunk.lengths, strict=False):
        words = range(1, length + 1)
        if single_root and sum(found[word] == 0 for word in words) != 1:
            return False
        for word in words:
            node, steps = word, 0
            while node > 0 and steps <= length:
                node, steps = found[node], steps + 1
            if node != 0:
                return False
        arcs = [(min(word, found[word]), max(word, found[word])) for word in words]
        if projective and any(a < c < b < d for a, b in arcs for c, d in arcs):
            return False
    return True


class Entry:
    """A contestant on the chunks it can take, prepared, checked, and timed round by round."""

    def __init__(self, job: str, contestant: Contestant, chunks: list[Chunk]) -> None:
        self.contestant = contestant
        # Of a scorer's sentences, sorted by length, the first few would be the shortest: all or none.
        limit = contestant.sentences if len(chunks) == 1 else None
        self.chunks = [chunk.first(limit) for chunk in chunks]
        self.sentences = sum(len(chunk.lengths) for chunk in self.chunks)
        self.values: list[np.ndarray] = []
        self.valid = True
        self.runs = []
        start = time.process_time()
        for chunk in self.chunks:
            run, read = contestant.prepare(chunk)
            start = time.process_time()
            found = read(run())
            if job in ARGMAX:
                self.valid &= are_trees(chunk, found, *ARGMAX[job])
                found = tree_scores(chunk, found)
            self.values.append(found)
            self.runs.append(run)
        self.estimate = (time.process_time() - start) * len(self.chunks)
        self.spent = 0.0
        self.cpu: list[float] = []
        self.wall: list[float] = []

    def round(self) -> None:
        repeats = max(1, min(50, int(0.02 / max(self.estimate, 1e-6))))
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            for run in self.runs:
                run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        self.estimate = cpu / repeats
        self.spent += wall
        self.cpu.append(cpu / repeats / self.sentences * 1e6)
        self.wall.append(wall / repeats / self.sentences * 1e6)

    def agrees_with(self, other: Entry) -> bool:
        for mine, theirs in zip(self.values, other.values, strict=True):
            count = min(len(mine), len(theirs))
            scale = 1 + np.abs(theirs[:count]).max()
            if not np.abs(mine[:count] - theirs[:count]).max() <= 2e-4 * scale:
                return False
        return True


def contest(job: str, chunks: list[Chunk], rounds: int, patience: float) -> list[dict[str, Any]]:
    """Return one row for each contestant: microseconds of CPU and wall time a sentence, ratio to ours, agreement."""
    longest = max(int(chunk.lengths.max()) for chunk in chunks)
    mixed = any(len(set(chunk.lengths.tolist())) > 1 for chunk in chunks)
    rows: list[dict[str, Any]] = []
    entries = []
    for contestant in CONTESTANTS[job]:
        reason = ""
        if longest > contestant.words:
            reason = f"not run beyond {contestant.words} words"
        elif mixed and not contestant.mixed:
            reason = "takes one length at a time"
        else:
            try:
                entries.append(Entry(job, contestant, chunks))
            except ImportError as error:
                reason = f"not installed ({error.name})"
        if reason:
            rows.append({"name": contestant.name, "skipped": reason})
    for _ in range(rounds):
        for entry in entries:
            if entry.spent < patience:
                entry.round()
    ours = next(entry for entry in entries if entry.contestant.ours)
    twin = {entry.contestant.name: min(entry.cpu) for entry in entries if entry.contestant.ours}
    for entry in entries:
        name = entry.contestant.name
        # Forward-and-backward peers are measured against our forward and backward.
        base = next((time for ours_name, time in twin.items() if "," in ours_name and "," in name), min(ours.cpu))
        rows.append(
            {
                "name": name,
                "ours": entry.contestant.ours,
                "us": min(entry.cpu),
                "us_median": float(np.median(entry.cpu)),
                "us_wall": min(entry.wall),
                "ratio": min(entry.cpu) / base,
                "sentences": entry.sentences,
                "rounds": len(entry.cpu),
                "agrees": bool(entry.valid and entry.agrees_with(ours)),
            }
        )
    return rows


def show(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n## {title}")
    for row in sorted(rows, key=lambda row: row.get("us", float("inf"))):
        if "skipped" in row:
            print(f"{row['name']:36s} {row['skipped']}")
        else:
            note = "" if row["agrees"] else "   DISAGREES"
            print(f"{row['name']:36s} {row['us']:12.2f} us/sentence   x{row['ratio']:<8.1f}{note}")
    sys.stdout.flush()


# ---------------------------------------------------------------- reports on ours alone


def mixed_batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(5, 46, (count,), generator=generator)
    return torch.randn(count, 46, 46, generator=generator), lengths


def ours_by_name() -> dict[str, Any]:
    from structure_contestants import PROJECTIVE, PROJECTIVE_MULTI, SPANNING

    def backward(method: Any) -> Any:
        def run(scores: torch.Tensor, lengths: torch.Tensor) -> Any:
            leaf = scores.clone().requires_grad_()
            return torch.autograd.grad(method(leaf, lengths).sum(), leaf)

        return run

    return {
        "projective argmax": PROJECTIVE.argmax_heads,
        "spanning argmax": SPANNING.argmax_heads,
        "projective log-partition and gradient": backward(PROJECTIVE.log_partition),
        "spanning log-partition and gradient": backward(SPANNING.log_partition),
        "smoothed argmax and gradient": backward(lambda s, n: PROJECTIVE_MULTI.smoothed_argmax(s, n) ** 2),
    }


def report_threads(rounds: int) -> dict[str, Any]:
    """Wall time of 1,000 sentences of 5 to 45 words on one thread and on two (leave two cores free for it)."""
    scores, lengths = mixed_batch(1000)
    found = {}
    for name, run in ours_by_name().items():
        best = {}
        for threads in (1, 2) * rounds:
            torch.set_num_threads(threads)
            run(scores, lengths)
            start = time.perf_counter()
            run(scores, lengths)
            best[threads] = min(best.get(threads, np.inf), time.perf_counter() - start)
        found[name] = {"one_ms": best[1] * 1e3, "two_ms": best[2] * 1e3, "speed_up": best[1] / best[2]}
        print(f"{name:40s} {best[1] * 1e3:8.2f} ms   {best[2] * 1e3:8.2f} ms   x{best[1] / best[2]:.2f}")
    torch.set_num_threads(1)
    return found


_COMPILE = """
import time, torch
from structures import ours_by_name, mixed_batch
from parser_vae.structures import ProjectiveTrees, SpanningTrees, sparsemap
runs = ours_by_name()
runs["projective sparsemap"] = lambda s, n: sparsemap(ProjectiveTrees(), s, n)
runs["spanning sparsemap"] = lambda s, n: sparsemap(SpanningTrees(), s, n)
scores, lengths = mixed_batch(2)
for name, run in runs.items():
    cpu = time.process_time()
    run(scores, lengths)
    print(name, "|", time.process_time() - cpu)
"""

_MEMORY = """
import resource, sys, torch
from structures import Chunk
from structure_contestants import CONTESTANTS
import numpy as np
words, count = int(sys.argv[1]), int(sys.argv[2])
entry = next(c for c in CONTESTANTS["smoothed"] if c.ours)
def peak(sentences, n):
    chunk = Chunk(np.random.default_rng(0).standard_normal((sentences, n + 1, n + 1)).astype(np.float32),
                  np.full(sentences, n))
    entry.prepare(chunk)[0]()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak(1, 4)
print(peak(count, words) - before)
"""


def child(code: str, *arguments: str, **environment: str) -> str:
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, str(Path(here).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code, *arguments]
    settings = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout


def report_compile() -> dict[str, float]:
    """CPU seconds of the first call of each with an empty cache, and of all of them with a full one."""
    import tempfile

    with tempfile.TemporaryDirectory() as cache:
        found = {}
        for label in ("cold", "cached"):
            for line in child(_COMPILE, NUMBA_CACHE_DIR=cache).splitlines():
                name, seconds = line.rsplit("|", 1)
                found[f"{name.strip()}, {label}"] = float(seconds)
    for name, seconds in found.items():
        print(f"{name:50s} {seconds:6.2f} s")
    return found


def report_memory() -> dict[str, float]:
    """Growth of the peak resident size, in MiB, over one smoothed argmax with gradient of 16 sentences."""
    found = {str(words): float(child(_MEMORY, str(words), "16")) for words in (20, 40, 80, 160)}
    for words, size in found.items():
        print(f"smoothed argmax and gradient, 16 sentences of {words:>3s} words: {size:8.1f} MiB")
    return found


def machine() -> dict[str, str]:
    model = "unknown"
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        lines = [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {"cpu": model, "cores": str(os.cpu_count()), "system": platform.system(), "commit": commit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default=",".join(CONTESTANTS), help="which of: " + ", ".join(CONTESTANTS))
    parser.add_argument("--n", default="10,20,40,80,160,250", help="words in a sentence")
    parser.add_argument("--kinds", default="gauss,peaked")
    parser.add_argument("--scores", type=Path, help="a trained scorer's matrices, in place of --n and --kinds")
    parser.add_argument("--sentences", type=int, default=256, help="how many of --scores")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--patience", type=float, default=2.0, help="seconds after which a contestant rests")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help="a peer without a package")
    parser.add_argument("--report", choices=["threads", "compile", "memory"], action="append", default=[])
    parser.add_argument("--json", type=Path, help="add the results to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stored: dict[str, Any] = {"results": [], "reports": {}}
    if options.json and options.json.exists():
        stored = json.loads(options.json.read_text())
    peers = Peers()
    commits = {}
    for given in options.peer:
        name, _, path = given.partition("=")
        commits[name] = peers.add(name, Path(path))
        print(f"{name}: commit {commits[name]}")
    stored["versions"] = {**stored.get("versions", {}), **versions(), **commits}
    stored["machine"] = machine()
    print(stored["machine"], stored["versions"])

    def keep() -> None:
        if options.json:
            options.json.write_text(json.dumps(stored, indent=1) + "\n")

    reports = {"threads": lambda: report_threads(options.rounds), "compile": report_compile, "memory": report_memory}
    for name in options.report:
        stored["reports"][name] = reports[name]()
        keep()
    if options.report:
        return
    for job in options.jobs.split(","):
        cases: list[tuple[str, int, list[Chunk]]] = []
        if options.scores:
            cases.append(("real", 0, real(options.scores, options.sentences)))
        else:
            cases += [
                (kind, words, [synthetic(kind, words, TOKENS.get(job, 4000))])
                for kind in options.kinds.split(",")
                for words in map(int, options.n.split(","))
            ]
        for kind, words, chunks in cases:
            rows = contest(job, chunks, options.rounds, options.patience)
            title = f"{job} {kind}" + (f" n={words}" if words else "")
            show(title, rows)
            stored["results"] = [
                old for old in stored["results"] if (old["job"], old["kind"], old["n"]) != (job, kind, words)
            ]
            case = {"job": job, "kind": kind, "n": words, "commit": stored["machine"]["commit"], "rows": rows}
            stored["results"].append(case)
            keep()


if __name__ == "__main__":
    main()
