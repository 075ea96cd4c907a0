"""Train parsers on a source treebank and score them on another domain's test file, without adapting.

    python benchmarks/source_only.py train --work runs/source-only --seeds 1,2,3
    python benchmarks/source_only.py table

Needs PARSER_VAE_DATA (a folder with treebanks/ and text/). Each cell is one run of ``parser-vae pretrain``, ``parse``
and ``evaluate`` with one thread; a finished cell is not run again. Word vectors are trained by ``parser-vae vectors``:
on the language's raw text where the data has one, else on the words of source train and unlabelled target.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "source-only"
# pair: language, epochs. Longer treebanks see fewer epochs, so that a run stays within ten minutes of one core.
PAIRS = {
    "gl_treegal__gl_ctg": ("gl", 30),
    "id_csui__id_gsd": ("id", 30),
    "ru_taiga__ru_gsd": ("ru", 20),
    "it_partut__it_twittiro": ("it", 20),
    "en_lines__en_atis": ("en", 12),
}

# Passes over the text for the vectors behind the kept results; the command's own choice has since become lower.
VECTOR_EPOCHS = {"gl": 15, "id": 15, "ru": 15, "it": 59, "en": 47}


def main() -> None:
    """Train cells or print the table of those that are done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["train", "table"])
    parser.add_argument("--work", type=Path, default=Path("runs/source-only"))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--encoders", default="default")
    options = parser.parse_args()
    if options.action == "table":
        print(table())
        return
    data = Path(os.environ["PARSER_VAE_DATA"])
    for seed in options.seeds.split(","):
        for pair in options.pairs.split(","):
            for encoder in options.encoders.split(","):
                cell = RESULTS / f"{pair}.{encoder}.{seed}.json"
                if not cell.exists():
                    run_cell(data, options.work, cell, pair, encoder, int(seed))


def vectors_for(data: Path, work: Path, pair: str) -> Path:
    """Return the vectors of a pair's language, trained on first use."""
    language = PAIRS[pair][0]
    out = work / f"{language}.bin"
    if not out.exists():
        source, target = pair.split("__")
        text = data / "text" / f"{language}.txt.gz"
        banks = data / "treebanks"
        texts = [text] if text.exists() else [banks / source / "train.conllu", banks / target / "unlabeled.conllu"]
        command("vectors", "--text", *texts, "--epochs", VECTOR_EPOCHS[language], "--threads", 1, "--out", out)
    return out


def run_cell(data: Path, work: Path, cell: Path, pair: str, encoder: str, seed: int) -> None:
    """Train, parse and evaluate one pair with one seed, and write its JSON."""
    source, target = (data / "treebanks" / name for name in pair.split("__"))
    work.mkdir(parents=True, exist_ok=True)
    vectors = vectors_for(data, work, pair)
    model, predicted, report = (work / f"{cell.stem}{suffix}" for suffix in ("", ".conllu", ".json"))
    epochs = PAIRS[pair][1]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command(
        "pretrain", "--train", source / "train.conllu", "--dev", source / "dev.conllu", "--vectors", vectors,
        "--encoder", encoder, "--epochs", epochs, "--seed", seed, "--threads", 1, "--out", model, "--overwrite",
        "--quiet",
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    command("parse", model, target / "test.conllu", "--output", predicted, "--threads", 1)
    command("evaluate", "--gold", target / "test.conllu", "--predicted", predicted, "--json", report)
    scores = json.loads(report.read_text())
    manifest = json.loads((model / "manifest.json").read_text())
    cell.parent.mkdir(parents=True, exist_ok=True)
    cell.write_text(
        json.dumps(
            {
                "pair": pair, "encoder": encoder, "seed": seed, "epochs": epochs, "commit": manifest["commit"],
                "train_cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
                "source_dev": manifest["scores"],
                "target_test": {s: {k: scores[s][k] for k in ("uas", "interval", "las")} for s in ("nltk", "conll18")},
            },
            indent=1,
        )
        + "\n"
    )  # fmt: skip
    print(cell.stem, scores["nltk"]["uas"], scores["nltk"]["las"], flush=True)


def command(*words: object) -> None:
    """Run one ``parser-vae`` command; stop where it fails."""
    program = Path(sys.executable).with_name("parser-vae")
    subprocess.run([program, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def table() -> str:
    """Return the finished cells as a Markdown table: mean and range over seeds."""
    cells = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    lines = [
        "| source -> target | encoder | seeds | UAS / LAS without punctuation | range of UAS | UAS / LAS, all words |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for pair in PAIRS:
        for encoder in ("default", "kg"):
            these = [cell for cell in cells if cell["pair"] == pair and cell["encoder"] == encoder]
            if not these:
                continue
            tests = [cell["target_test"] for cell in these]
            mean = {
                (scorer, key): statistics.fmean(test[scorer][key] for test in tests)
                for scorer in ("nltk", "conll18")
                for key in ("uas", "las")
            }
            uas = [test["nltk"]["uas"] for test in tests]
            lines.append(
                f"| {pair.replace('__', ' -> ')} | {encoder} | {len(these)} "
                f"| {mean['nltk', 'uas']:.2f} / {mean['nltk', 'las']:.2f} | {min(uas):.2f} to {max(uas):.2f} "
                f"| {mean['conll18', 'uas']:.2f} / {mean['conll18', 'las']:.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
