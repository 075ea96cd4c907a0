"""Write the recipes in configs/: every setting of pretrain, adapt and graphs train with its value and its description.

    python benchmarks/write_recipes.py

Run it after a setting was added or changed; tests/training/test_recipes.py fails until then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from parser_vae.graphs.settings import GraphsSettings
from parser_vae.training.settings import AdaptSettings, PretrainSettings

CONFIGS = Path(__file__).parents[1] / "configs"
PRETRAIN = {"data": {"train": "source/train.conllu"}}
ADAPT = {"data": {"model": "runs/source", "target": ["target/unlabeled.conllu"]}}
KG = {
    "encoder": {"preset": "kg"},
    "decoder": {"alignment": "previous", "predict_end": False},
    "training": {"batch_size": 16},
}
GRAPHS = {"data": {"train": "data/train.npz"}, "method": "relaxed"}
SMOKE: dict[str, Any] = {
    "model": {"hidden": 8},
    "objective": {"teacher_forcing": 3},
    "training": {"updates": 20, "evaluate_every": 10, "batch_size": 8, "learning_rate": 3e-3},
    "nes": {"population": 20, "sigma": 0.01},
}
SMALL: dict[str, Any] = {
    "model": {"hidden": 64},
    "objective": {"teacher_forcing": 3},
    "training": {"updates": 2000, "evaluate_every": 100, "batch_size": 32, "learning_rate": 1e-3},
    "relaxed": {"temperature": 0.5},
    "nes": {"population": 600, "sigma": 0.01},
}
TEN = SMALL | {"training": SMALL["training"] | {"updates": 20_000, "dev_samples": 500}}
PAPER: dict[str, Any] = {
    "objective": {"max_range": 15.0},
    "relaxed": {"temperature": 5.0},
    "nes": {"population": 600, "sigma": 0.01},
}
RECIPES: dict[str, tuple[str, type[BaseModel], dict[str, Any]]] = {
    "pretrain.toml": ("Every setting with its default.", PretrainSettings, PRETRAIN),
    "pretrain-kg.toml": (
        "The parser of Berliner et al. (2022): Kiperwasser and Goldberg's encoder, the language model as their code "
        "runs it.",
        PretrainSettings,
        PRETRAIN | KG,
    ),
    "adapt.toml": ("Every setting with its default.", AdaptSettings, ADAPT),
    "adapt-paper.toml": (
        "NES as Berliner et al. (2022) describe it: both terms of the bound are optimised.",
        AdaptSettings,
        ADAPT | {"preset": "paper"},
    ),
    "adapt-paper-official.toml": (
        "NES as the code published with Berliner et al. (2022) runs: no divergence, all parameters perturbed.",
        AdaptSettings,
        ADAPT | {"preset": "paper-official"},
    ),
    "graphs-smoke.toml": ("Moving points, seconds: does it run?", GraphsSettings, GRAPHS | SMOKE),
    "graphs-small.toml": ("Moving points, minutes: 6 points, 5000 samples.", GraphsSettings, GRAPHS | SMALL),
    "graphs-ten.toml": ("Moving points, some twenty minutes: 10 points, 50,000 samples.", GraphsSettings, GRAPHS | TEN),
    "graphs-paper.toml": (
        "Moving points as Paulus et al. (2020) and Berliner et al. (2022): 10 points, 50,000 samples and updates.",
        GraphsSettings,
        GRAPHS | PAPER,
    ),
}
USE = {
    PretrainSettings: "parser-vae pretrain --config configs/{} --train FILE --dev FILE --vectors FILE --out DIR",
    AdaptSettings: "parser-vae adapt --config configs/{} --from DIR --target FILE --out DIR",
    GraphsSettings: "parser-vae graphs train --config configs/{} --train FILE --dev FILE --out DIR",
}


def main() -> None:
    """Write every recipe."""
    for name, (title, model, values) in RECIPES.items():
        settings = model.model_validate(values)
        lines = [f"# {title}", f"# {USE[model].format(name)}", "", *section(settings, "")]
        (CONFIGS / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def section(settings: BaseModel, prefix: str) -> list[str]:
    """Return the lines of one section: its keys, then the sections below it."""
    lines, below = [], []
    fields = type(settings).model_fields
    for key in sorted(fields, key=lambda name: name != "data"):  # the files first
        field = fields[key]
        value = getattr(settings, key)
        if isinstance(value, BaseModel):
            path = f"{prefix}{key}"
            below += ["", f"[{path}]", *section(value, f"{path}.")]
        else:
            plain = settings.model_dump(mode="json", include={key})[key]
            setting = f"# {key} =" if plain is None else f"{key} = {json.dumps(plain)}"  # TOML writes these like JSON
            lines.append(f"{setting}  # {field.description}")
    return lines + below


if __name__ == "__main__":
    main()
