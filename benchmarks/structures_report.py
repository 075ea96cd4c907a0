"""Turns the JSON of ``structures.py`` into the tables and the plot of ``docs/structures.md``.

python benchmarks/structures_report.py benchmarks/results/structures.json --plot docs/images/structures.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

JOBS = {
    "eisner": "Best projective tree, one root",
    "eisner_multi": "Best projective tree, any number of roots",
    "arborescence": "Best spanning tree, one root",
    "projective_marginals": "Projective log-partition and marginals",
    "matrix_tree": "Spanning log-partition and marginals",
    "smoothed": "Smoothed argmax, forward and backward",
    "sparsemap": "SparseMAP over projective trees",
}


def table(job: str, kind: str, results: list[dict[str, Any]]) -> str:
    """Return a Markdown table of contestants by n: ours in microseconds a sentence, peers as multiples of that."""
    cases = {case["n"]: case["rows"] for case in results if case["job"] == job and case["kind"] == kind}
    if not cases:
        return ""
    sizes = sorted(cases)
    names = list(dict.fromkeys(row["name"] for rows in cases.values() for row in rows if "us" in row))
    sizes_shown = [("mixed lengths" if n == 0 else f"n = {n}") for n in sizes]
    lines = [
        f"| {kind} | " + " | ".join(sizes_shown) + " |",
        "| --- |" + " ---: |" * len(sizes),
    ]
    for name in names:
        cells = []
        for n in sizes:
            row = next((row for row in cases[n] if row["name"] == name and "us" in row), None)
            if row is None:
                cells.append("-")
            elif row["ours"]:
                cells.append(f"**{row['us']:.3g} µs**")
            else:
                cells.append(f"{row['ratio']:.3g}x" + ("" if row["agrees"] else " (disagrees)"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def slope(sizes: np.ndarray, times: np.ndarray) -> float:
    """Return the fitted exponent of time in n, over n >= 20 where there are two such sizes."""
    large = sizes >= 20
    if large.sum() >= 2:
        sizes, times = sizes[large], times[large]
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def plot(results: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "structures"
    import matplotlib.pyplot as plt

    jobs = [job for job in JOBS if job != "eisner_multi" and any(case["job"] == job for case in results)]
    figure, axes = plt.subplots(2, -(-len(jobs) // 2), figsize=(13, 8), squeeze=False)
    names = sorted({row["name"].split(",")[0] for case in results for row in case["rows"] if not row.get("ours")})
    colours = {name: plt.get_cmap("tab10")(index % 10) for index, name in enumerate(names)}
    for axis, job in zip(axes.flat, jobs, strict=False):
        points: dict[str, list[tuple[int, float]]] = {}
        for case in results:
            if case["job"] == job and case["kind"] == "gauss":
                for row in case["rows"]:
                    if "us" in row and "backward" not in row["name"]:
                        points.setdefault(row["name"], []).append((case["n"], row["us"]))
        for name, found in points.items():
            sizes, times = np.array(sorted(found)).T
            label = f"{name} (n^{slope(sizes, times):.1f})" if len(sizes) > 1 else name
            ours = name.startswith("parser_vae")
            axis.loglog(
                sizes,
                times,
                marker="o",
                markersize=4,
                label=label,
                color="black" if ours else colours[name.split(",")[0]],
                linewidth=2.5 if ours else 1.2,
            )
        axis.set_title(JOBS[job], fontsize=10)
        axis.set_xticks([10, 20, 40, 80, 160, 250], ["10", "20", "40", "80", "160", "250"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.set_ylim(top=axis.get_ylim()[1] * 100)  # room for the legend
        axis.legend(fontsize=7, loc="upper left")
    for axis in axes.flat[len(jobs) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("words in the sentence")
    for axis in axes[:, 0]:
        axis.set_ylabel("microseconds a sentence, one core")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    stored = json.loads(options.json.read_text())
    if options.plot:
        plot(stored["results"], options.plot)
    for job, title in JOBS.items():
        tables = [table(job, kind, stored["results"]) for kind in ("gauss", "peaked", "real")]
        if any(tables):
            print(f"### {title}\n")
            print("\n\n".join(found for found in tables if found), "\n")


if __name__ == "__main__":
    main()
