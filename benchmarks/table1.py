"""Table 1 of Berliner et al. (2022): edges between moving points recovered by each method, on both latent spaces.

    python benchmarks/table1.py run --scale small
    python benchmarks/table1.py table --scale small
    python benchmarks/table1.py order --scale small
    python benchmarks/table1.py plot --scale small

A cell is one ``parser-vae graphs simulate`` (shared), ``train`` and ``evaluate`` with one thread, from the recipe
``configs/graphs-SCALE.toml``; a finished cell is not run again, a stopped one is resumed. Options choose methods,
latents, seeds and settings of teacher forcing, so that the work can be cut into pieces.

Two starts: where the bound of a run stays far from that of others, the same with ``--tag swap --set
training.swap_after=200`` begins on the other side (``docs/graphs.md``); tables and tests take the better bound of both.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import resource
import statistics
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from parser_vae import cli
from parser_vae.training.progress import read_log

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "table1"
PLOT = ROOT / "docs" / "images" / "table1.svg"
# samples of train, dev and test; points
DATA = {
    "smoke": (200, 50, 50, 4),
    "small": (5000, 1000, 1000, 6),
    "ten": (50_000, 10_000, 10_000, 10),
    "paper": (50_000, 10_000, 10_000, 10),
}


@dataclass(frozen=True)
class Row:
    """A method with its settings, and what the paper reports: (ELBO, F1) for trees and for n - 1 edges."""

    title: str
    method: str
    settings: tuple[str, ...] = ()
    paper: tuple[str, str, str, str] = ("", "", "", "")


PERTURBED = "score_function.distribution=perturbation"
ROWS = {
    "batch": Row(
        "REINFORCE (batch)",
        "score_function",
        (PERTURBED, "score_function.baseline=batch", "score_function.samples=1"),
        ("-2260 +- 0", "41 +- 1", "-2180 +- 0", "39 +- 1"),
    ),
    "ema": Row(
        "REINFORCE (EMA)",
        "score_function",
        (PERTURBED, "score_function.baseline=ema", "score_function.samples=1"),
        ("-2250 +- 20", "40 +- 7", "-2170 +- 10", "42 +- 1"),
    ),
    "multi": Row(
        "REINFORCE (multi-sample, 4)",
        "score_function",
        (PERTURBED, "score_function.baseline=leave_one_out", "score_function.samples=4"),
        ("-2230 +- 20", "42 +- 1", "-2150 +- 10", "40 +- 0"),
    ),
    "gibbs": Row(
        "REINFORCE (exact samples, 4)",
        "score_function",
        (
            "score_function.distribution=gibbs",
            "score_function.baseline=leave_one_out",
            "score_function.samples=4",
            "objective.divergence=exact_gibbs",
        ),
    ),
    "nvil": Row(
        "NVIL",
        "score_function",
        # The network and the running mean of NVIL, not its division by the signal's deviation: losses are in the
        # thousands, and the divergence, which is not divided, would keep all scores at 0.
        (PERTURBED, "score_function.baseline=learned", "score_function.samples=1"),
        ("-1570 +- 300", "83 +- 20", "-2110 +- 10", "42 +- 2"),
    ),
    "sst": Row("SST", "relaxed", (), ("-1080 +- 110", "91 +- 3", "-2100 +- 20", "41 +- 1")),
    "sst-hard": Row("SST, hard forward", "relaxed", ("relaxed.mode=hard_forward",)),
    "nes": Row("NES", "nes", (), ("-1117 +- 45", "92 +- 0.2", "-2150 +- 10", "44 +- 0.6")),
    "nes-scores": Row(
        "NES on the scores (8, sigma 1)",
        "nes",
        # raw, because the divergence's gradient is added as it is
        ("nes.perturb=scores", "nes.population=8", "nes.sigma=1.0", "nes.shaping=raw"),
    ),
    # Losses differ by hundreds: with an epsilon of 1 the second search would see nothing else, and the difference of
    # two trees is then too small beside the divergence.
    "direct": Row("direct optimisation", "direct", ("direct.epsilon=0.01", "direct.floor=0.001")),
    "sparsemap": Row("SparseMAP", "sparsemap"),
}
PAPER_ORDER = ("nes", "sst", "nvil", "multi", "batch", "ema")  # by the F1 of its trees
LATENTS = ("tree", "edges")
KINDS = {"tree": "trees", "edges": "n - 1 edges"}
CURVE = ("steps", "dev_elbo", "dev_f1", "dev_precision", "dev_switched")


def main() -> None:
    """Train cells, or print the table of those that are done or the tests of their order, or draw their curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["run", "table", "order", "plot"])
    parser.add_argument("--scale", choices=list(DATA), default="small")
    parser.add_argument("--work", type=Path, default=Path("runs/table1"))
    parser.add_argument("--methods", default=",".join(ROWS))
    parser.add_argument("--latents", default=",".join(LATENTS))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument(
        "--teacher-forcing", default="3", help="frames between two true ones; the paper has 9, and 3 for NES"
    )
    parser.add_argument("--set", action="append", default=[], help="a further setting of every run; name it with --tag")
    parser.add_argument("--tag", default="", help="a name for results under further settings")
    options = parser.parse_args()
    folder = RESULTS / (options.scale + (f"-{options.tag}" if options.tag else ""))
    if options.action != "run":
        print({"table": table, "order": order, "plot": plot}[options.action](folder))
        return
    if options.set and not options.tag:
        parser.error("--set changes what is measured: name the results with --tag")
    for seed in options.seeds.split(","):
        for every in options.teacher_forcing.split(","):
            for latent in options.latents.split(","):
                for name in options.methods.split(","):
                    cell = folder / f"{name}.{latent}.{every}.{seed}.json"
                    if not cell.exists():
                        run_cell(options, cell, name, latent, int(every), int(seed))


def simulated(work: Path, scale: str) -> Path:
    """Return the folder with the data of a scale, always of the same seed; simulate it where it is missing."""
    data = work / scale / "data"
    if not (data / "test.npz").exists():
        train, dev, test, points = DATA[scale]
        sizes = ["--points", points, "--train", train, "--dev", dev, "--test", test]
        command("graphs", "simulate", "--out", data, *sizes, "--seed", 42)
    return data


def run_cell(options: argparse.Namespace, cell: Path, name: str, latent: str, every: int, seed: int) -> None:
    """Train and evaluate one model, and write its JSON."""
    model, report = options.work / cell.parent.name / cell.stem, options.work / cell.parent.name / f"{cell.stem}.json"
    data = simulated(options.work, options.scale)
    settings = [*ROWS[name].settings, f"objective.teacher_forcing={every}", *options.set]
    before = resource.getrusage(resource.RUSAGE_SELF)
    command(
        "graphs", "train", "--config", ROOT / "configs" / f"graphs-{options.scale}.toml",
        "--train", data / "train.npz", "--dev", data / "dev.npz", "--method", ROWS[name].method, "--latent", latent,
        "--seed", seed, *(word for setting in settings for word in ("--set", setting)), "--threads", 1,
        "--out", model, "--resume", "--quiet",
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_SELF)
    command("graphs", "evaluate", model, "--data", data / "test.npz", "--json", report, "--threads", 1)
    manifest = json.loads((model / "manifest.json").read_text())
    history = [event for event in read_log(model / "log.jsonl") if event["event"] == "epoch"]
    (test,) = json.loads(report.read_text())["models"].values()
    result = {
        "method": name, "latent": latent, "teacher_forcing": every, "seed": seed, "scale": options.scale,
        "settings": settings, "recipe": recorded_settings(model),
        "commit": manifest["commit"], "date": time.strftime("%Y-%m-%d"),
        "trained_seconds": history[-1]["trained_seconds"],
        # of this process only: a resumed cell's earlier time is not in it
        "train_cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "updates": history[-1]["steps"], "evaluations_an_update": history[-1]["evaluations"],
        "kept_updates": history[manifest["epoch"] - 1]["steps"],
        "test": test,
        "curve": [{key: event[key] for key in CURVE if key in event} for event in history],
    }  # fmt: skip
    cell.parent.mkdir(parents=True, exist_ok=True)
    cell.write_text(json.dumps(result, indent=1) + "\n")
    print(cell.stem, f"elbo {test['elbo']:.0f}", f"precision {test['precision']:.1f}", flush=True)


def recorded_settings(model: Path) -> dict[str, Any]:
    """Return what the recipe and the options came to, but for the files."""
    recorded = tomllib.loads((model / "config.toml").read_text())
    begun = {"init": Path(recorded["data"]["init"]).name} if "init" in recorded["data"] else {}
    return begun | {section: recorded[section] for section in ("model", "objective", "training")}


def command(*words: object) -> None:
    """Run one ``parser-vae`` command in this process; stop where it fails."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = cli.run([str(word) for word in words])
    if code:
        sys.exit(code)


def table(folder: Path) -> str:
    """Return the finished cells as Markdown: every seed's precision with its interval, and the paper's ELBO and F1."""
    first, kept = cells_in(folder), kept_cells(folder)
    titles = [
        f"{KINDS[latent]}: {what}" for latent in LATENTS for what in ("first start", "of two", "its ELBO", "paper")
    ]
    lines = [f"| method | true frame every | {' | '.join(titles)} |", "| --- | --- |" + " --- |" * len(titles)]
    for name, row in ROWS.items():
        for every in sorted({every for method, _, every, _ in kept if method == name}):
            columns = []
            for index, latent in enumerate(LATENTS):
                here, better = (
                    [c for k, c in some.items() if k[:3] == (name, latent, every)] for some in (first, kept)
                )
                # As many edges as are true: precision, recall and F1 are one number, unless labels are switched,
                # where precision is what the papers report.
                columns.append(seeds_and_interval([cell["test"]["precision"] for cell in here]))
                columns.append("" if better == here else seeds_and_interval([c["test"]["precision"] for c in better]))
                columns.append(mean_of([cell["test"]["elbo"] for cell in better]))
                columns.append("; ".join(row.paper[2 * index : 2 * index + 2]).strip("; "))
            lines.append(f"| {row.title} | {every} | {' | '.join(columns)} |")
    return "\n".join(lines)


def order(folder: Path) -> str:
    """Return tests of the order of methods, as Markdown: differences of mean precision with Welch's 95% intervals.

    Trees of each method against the method that the paper puts next, and trees against n - 1 edges of one method.
    """
    found: dict[tuple[str, str, int], list[float]] = {}
    for (*key, _), cell in kept_cells(folder).items():
        found.setdefault(tuple(key), []).append(cell["test"]["precision"])
    lines = ["| true frame every | precision of | minus that of | difference | paper |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for every in sorted({every for _, _, every in found}):
        pairs = [((upper, "tree"), (lower, "tree")) for upper, lower in itertools.pairwise(PAPER_ORDER)]
        pairs += [((name, "tree"), (name, "edges")) for name in ROWS]
        for upper, lower in pairs:
            first, second = (found.get((*each, every), []) for each in (upper, lower))
            if min(len(first), len(second)) < 2:
                continue
            low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
            shown = f"{statistics.fmean(first) - statistics.fmean(second):+.1f} [{low:+.1f}, {high:+.1f}]"
            printed = [paper_f1(*each) for each in (upper, lower)]
            paper = "" if None in printed else f"{printed[0] - printed[1]:+.0f}"
            names = [f"{ROWS[name].title}, {KINDS[latent]}" for name, latent in (upper, lower)]
            lines.append(f"| {every} | {names[0]} | {names[1]} | {shown} | {paper} |")
    return "\n".join(lines)


def plot(folder: Path) -> str:
    """Draw F1 of trees on the dev samples against the trajectories decoded, a panel a method; return the file."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "table1"
    import matplotlib.pyplot as plt

    cells = [cell for cell in kept_cells(folder).values() if cell["latent"] == "tree"]
    names = [name for name in ROWS if any(cell["method"] == name for cell in cells)]
    figure, axes = plt.subplots(2, -(-len(names) // 2), figsize=(12, 5), sharex=True, sharey=True, layout="constrained")
    for axis, name in zip(axes.flat, names, strict=False):
        for cell in (cell for cell in cells if cell["method"] == name):
            axis.plot(
                [point["steps"] * cell["evaluations_an_update"] for point in cell["curve"]],
                [point["dev_f1"] for point in cell["curve"]],
                color=f"C{cell['seed'] - 1}",
                linestyle="-" if cell["teacher_forcing"] == 3 else ":",
            )
        axis.set_title(ROWS[name].title, fontsize=9)
        axis.set(xscale="log", ylim=(25, 100))
        axis.grid(alpha=0.3)
    figure.supxlabel("trajectories decoded", fontsize=9)
    figure.supylabel("F1 of one draw, dev samples", fontsize=9)
    figure.savefig(PLOT, metadata={"Date": None})
    return str(PLOT.relative_to(ROOT))


def paper_f1(name: str, latent: str) -> float | None:
    """Return the mean F1 that the paper prints for a row; None where it prints none."""
    printed = ROWS[name].paper[2 * LATENTS.index(latent) + 1]
    return float(printed.split()[0]) if printed else None


def cells_in(folder: Path) -> dict[tuple[str, str, int, int], dict[str, Any]]:
    """Return the finished cells by method, latent, teacher forcing and seed."""
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {(c["method"], c["latent"], c["teacher_forcing"], c["seed"]): c for c in cells}


def kept_cells(folder: Path) -> dict[tuple[str, str, int, int], dict[str, Any]]:
    """Return the cells, each the better by its bound of its two starts, where there are two."""
    first, again = cells_in(folder), cells_in(folder.with_name(f"{folder.name}-swap"))
    return {key: best_bound([cells[key] for cells in (first, again) if key in cells]) for key in sorted(first | again)}


def best_bound(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the cell with the best bound on dev samples."""
    return max(cells, key=lambda cell: max(event["dev_elbo"] for event in cell["curve"]))


def mean_of(values: list[float]) -> str:
    """Return the mean and, of several values, the standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.0f}" if values else ""
    return f"{statistics.fmean(values):.0f} +- {statistics.stdev(values):.0f}"


def seeds_and_interval(values: list[float]) -> str:
    """Return every seed's value and, of several, Student's 95% interval of the mean."""
    shown = ", ".join(f"{value:.1f}" for value in values)
    if len(values) < 2:
        return shown
    middle = statistics.fmean(values)
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{shown}: {middle:.1f} [{max(0.0, middle - half):.1f}, {min(100.0, middle + half):.1f}]"


if __name__ == "__main__":
    main()
