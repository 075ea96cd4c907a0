"""The report on one or several models: the bound on the likelihood and the edges they recover."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from parser_vae.graphs.measure import infer, measures
from parser_vae.graphs.problem import structure_of
from parser_vae.graphs.train import load_graph_model, require_fitting
from parser_vae.graphs.trajectories import Trajectories, read_trajectories

COLUMNS = {
    "elbo": "ELBO per point",
    "elbo_sample": "ELBO per sample",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "best_f1": "F1 of the best",
}


@dataclass(frozen=True)
class GraphReport:
    """Numbers of several models on the same samples.

    Attributes:
        data: The name of the file.
        samples: How many samples it has.
        models: For each model folder its measures; see ``measures``.
        inferred: The samples with the edges that the first model finds best in place of the true ones.
    """

    data: str
    samples: int
    models: dict[str, dict[str, float]]
    inferred: Trajectories

    def to_json(self) -> str:
        """Return the numbers as JSON."""
        content = {"data": self.data, "samples": self.samples, "models": self.models, "summary": self.summary()}
        return json.dumps(content, indent=2) + "\n"

    def summary(self) -> dict[str, dict[str, float]]:
        """Return mean and standard deviation over models of each number; of a single one the deviation is missing."""
        rows = list(self.models.values())
        result = {}
        for name in rows[0]:
            values = [row[name] for row in rows]
            result[name] = {"mean": mean(values)} | ({"deviation": stdev(values)} if len(values) > 1 else {})
        return result

    def to_text(self) -> str:
        """Return a table, one line for each model, and what its numbers mean."""
        names = [name for name in COLUMNS if name in next(iter(self.models.values()))]
        lines = [["model", *(COLUMNS[name] for name in names)]]
        for folder, row in self.models.items():
            label = folder + (" (switched)" if row.get("switched") else "")
            lines.append([label, *(f"{row[name]:.1f}" for name in names)])
        if len(self.models) > 1:
            summary = self.summary()
            lines.append(
                ["mean and deviation", *(f"{summary[n]['mean']:.1f} +- {summary[n]['deviation']:.1f}" for n in names)]
            )
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        table = [
            "  ".join(
                [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
            )
            for line in lines
        ]
        notes = [f"{self.samples:,} samples of {self.data}; every frame predicted from the true one before it."]
        if "f1" in names:
            notes.append("Edges of one draw a sample, and of the best latent, against the true ones, in percent.")
            if any(row["switched"] for row in self.models.values()):
                notes.append("switched: this model's edges are the true ones' complement, and were scored as that.")
        return "\n".join([*table, "", *notes])


def evaluate(folders: Sequence[Path], path: Path, seed: int = 0) -> GraphReport:
    """Return the report on the models in ``folders`` on the trajectories in ``path``.

    Raises:
        ModelFolderError: A folder holds no such model.
        InputError: The trajectories are malformed, or do not fit a model.
    """
    data = read_trajectories(path)
    rows: dict[str, dict[str, float]] = {}
    inferred = data
    for folder in folders:
        model, manifest = load_graph_model(folder)
        require_fitting(model, data, path)
        structure = structure_of(manifest["structure"], data.positions.shape[2], manifest.get("max_range"))
        inference = infer(model, structure, data.positions, seed, manifest.get("divergence", "gumbel"))
        rows[str(folder)] = measures(inference, data)
        if len(rows) == 1:
            edges = ~inference.best if rows[str(folder)].get("switched") else inference.best
            inferred = Trajectories(data.positions, edges, dict(data.recipe) | {"edges": f"inferred by {folder}"})
    return GraphReport(str(path), len(data), rows, inferred)
