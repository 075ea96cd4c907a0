"""Whole parsers on one core: parsing speed in memory and from file to file, training speed, accuracy on a new domain.

    taskset -c 0 env OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/parsers.py --data DATA \
        --peers-python VENV/bin/python --peer-models FOLDER --pair SOURCE:TARGET:MODEL [--training SOURCE:VECTORS]

DATA holds treebanks/; VENV has `pip install ufal.udpipe spacy supar stanza`, MODEL is made by `parser-vae pretrain`.
FOLDER holds udpipe-SOURCE and spacy-SOURCE, made by `VENV/bin/python benchmarks/parser_contestants.py train`; what is
missing there is left out. Every contestant parses the words of TARGET's test in the same run, in turns round by round;
with --training their speed in training is measured. Results are added to those already in the file of --json.
CPU seconds count, since machines are shared; the best round is compared, the median is kept beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from parser_vae.evaluation.report import evaluate
from parser_vae.treebank.conllu import read_treebank

HERE = Path(__file__).parent
CONTESTANTS = HERE / "parser_contestants.py"
TRAINING = ("ours", "spacy", "udpipe", "supar", "stanza")
TITLES = {"ours": "parser-vae", "udpipe": "UDPipe 1", "spacy": "spaCy", "supar": "supar", "stanza": "stanza"}
PACKAGES = {"udpipe": "ufal.udpipe", "spacy": "spacy", "supar": "supar", "stanza": "stanza"}

INTRODUCTION = """\
Each parser was trained on the source treebank alone and given the words of the target's test set. UDPipe and spaCy
(its `efficiency` configuration) predict the tags they use and have no word vectors; ours has those named in its model
folder. Speeds are sentences per CPU second on one core, best of interleaved rounds (median in brackets). *In memory*
leaves out loading, reading and writing; *file to file* loads the model, reads, parses and writes in a program that has
imported its libraries; *whole process* starts from the command line. The last two columns parse a single sentence so.
UAS and LAS leave out punctuation.

A process of ours takes about two CPU seconds to start, most of it the import of torch, and spaCy's as long, where
UDPipe's takes a third of one: for a few hundred sentences UDPipe's whole process is the fastest."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers-python", required=True)
    parser.add_argument("--peer-models", type=Path, required=True)
    parser.add_argument("--pair", action="append", default=[], metavar="SOURCE:TARGET:MODEL")
    parser.add_argument("--training", metavar="SOURCE:VECTORS", help="measure training, ours with these vectors")
    parser.add_argument("--seconds", type=float, default=60, help="of updates to measure a peer's training by")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, default=HERE / "results" / "parsers.json")
    parser.add_argument("--markdown", type=Path, default=HERE.parent / "docs" / "benchmarks-parsers.md")
    given = parser.parse_args()
    pythons = {name: sys.executable if name == "ours" else given.peers_python for name in TITLES}
    banks = given.data / "treebanks"
    pairs = [pair.split(":") for pair in given.pair]

    results: dict[str, Any] = json.loads(given.json.read_text()) if given.json.exists() else {"pairs": {}}
    results["machine"] = machine(given.peers_python)
    for source, target, folder in pairs:
        models = {"ours": Path(folder)}
        models |= {peer: given.peer_models / f"{peer}-{source}" for peer in ("udpipe", "spacy")}
        note(f"parsing {target} with models of {source}")
        compared = compare_parsing(pythons, models, banks / target / "test.conllu", given.rounds)
        results["pairs"][f"{source} -> {target}"] = {"commit": results["machine"]["commit"], **compared}
    if given.training:
        source, vectors = given.training.split(":")
        results["training"] = {"source": source, "commit": results["machine"]["commit"], "parsers": {}}
        for name in TRAINING:
            note(f"training speed of {name} on {source}")
            command = [pythons[name], CONTESTANTS, "rate", name, banks / source, "--seconds", str(given.seconds)]
            command += ["--vectors", vectors] if name == "ours" else []
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results["training"]["parsers"][name] = json.loads(answer.splitlines()[-1])
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    given.markdown.write_text(as_markdown(results), encoding="utf-8")


def compare_parsing(pythons: dict[str, str], models: dict[str, Path], gold: Path, rounds: int) -> dict[str, Any]:
    """Speeds and accuracies of all contestants on the words of one treebank."""
    sentences = read_treebank(gold).sentences
    models = {name: model for name, model in models.items() if model.exists()}
    found: dict[str, Any] = {
        "sentences": len(sentences), "words": sum(map(len, sentences)), "rounds": rounds, "parsers": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        blank = Path(folder, "words.conllu")
        blank.write_text("".join(map(words_only, (s.forms for s in sentences))), encoding="utf-8")
        memory = in_memory(pythons, models, blank, rounds)
        runs = {name: [] for name in models}
        outputs = {name: Path(folder, f"{name}.conllu") for name in models}
        for _ in range(rounds):
            for name in models:
                runs[name].append(file_to_file(name, pythons[name], models[name], blank, outputs[name]))
        single = Path(folder, "one.conllu")
        single.write_text(words_only(sentences[0].forms), encoding="utf-8")
        for name in models:
            cold = [
                file_to_file(name, pythons[name], models[name], single, Path(folder, "out.conllu")) for _ in range(3)
            ]
            predicted = read_treebank(outputs[name], trees="ignore").sentences
            trees = [g.with_tree(p.heads, p.deprels) for g, p in zip(sentences, predicted, strict=True)]
            # spaCy may leave several roots in a sentence
            scores = evaluate(sentences, trees, resamples=200, trees="ignore").to_dict()["nltk"]
            budget = models[name].with_name(f"{models[name].name}.json")
            found["parsers"][name] = {
                "trained": None if name == "ours" else json.loads(budget.read_text()),
                "uas": scores["uas"],
                "las": scores["las"],
                "in_memory": memory[name],
                "file_to_file": [run["loaded"] for run in runs[name]],
                "fresh_process": [run["cpu"] for run in runs[name]],
                "one_sentence_cpu": min(run["cpu"] for run in cold),
                "one_sentence_wall": min(run["wall"] for run in cold),
            }
    return found


def in_memory(pythons: dict[str, str], models: dict[str, Path], words: Path, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each round; one unmeasured round goes first, so that caches and compilers are warm."""
    servers = {
        name: subprocess.Popen(
            [pythons[name], CONTESTANTS, "serve", name, models[name], words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )
        for name in models
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, server in servers.items():
            print(file=server.stdin, flush=True)
            seconds[name].append(float(server.stdout.readline()))
    for server in servers.values():
        server.communicate()
    return {name: spent[1:] for name, spent in seconds.items()}


def file_to_file(name: str, python: str, model: Path, words: Path, out: Path) -> dict[str, float]:
    """CPU seconds from loading a model to the file written, and CPU and wall seconds of the whole process."""
    command = [python, CONTESTANTS, "parse", name, model, words, out]
    cpu, wall, loaded = spent(command)
    if name == "ours":
        program = Path(sys.executable).with_name("parser-vae")
        cpu, wall, _ = spent([program, "parse", model, words, "--output", out, "--quiet"])
    return {"loaded": float(loaded), "cpu": cpu, "wall": wall}


def spent(command: list[Any]) -> tuple[float, float, str]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, said


def words_only(forms: tuple[str, ...]) -> str:
    return "".join(f"{number}\t{form}" + "\t_" * 8 + "\n" for number, form in enumerate(forms, start=1)) + "\n"


def machine(peers_python: str) -> dict[str, Any]:
    ask = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    peers = subprocess.run(
        [peers_python, "-c", ask, *PACKAGES.values(), "torch"], check=True, capture_output=True, text=True
    ).stdout
    commit = subprocess.run(
        ["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout
    processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "commit": commit.strip(),
        "processor": processors[0].split(":")[1].strip() if processors else platform.processor(),
        "cores used": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "python": platform.python_version(),
        "parser-vae": version("parser-vae"),
        "torch": version("torch"),
        "peers": json.loads(peers),
        "date": time.strftime("%Y-%m-%d"),
    }


def as_markdown(results: dict[str, Any]) -> str:
    return "\n".join(markdown_lines(results)) + "\n"


def markdown_lines(results: dict[str, Any]) -> Iterator[str]:
    about = results["machine"]
    peers = ", ".join(f"{name} {number}" for name, number in about["peers"].items())
    yield "# Speed and accuracy beside other parsers"
    yield ""
    yield from INTRODUCTION.splitlines()
    yield ""
    for pair, found in results["pairs"].items():
        yield f"## {pair}: {found['sentences']} sentences, {found['words']} words"
        yield ""
        trained = {name: row["trained"] for name, row in found["parsers"].items() if row["trained"]}
        yield "Trained: " + ", ".join(f"{TITLES[n]} {t['budget']} {t['unit']}" for n, t in trained.items()) + "."
        yield ""
        yield "| parser | UAS | LAS | in memory | file to file | whole process | one sentence: CPU s | wall s |"
        yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
        for name, row in found["parsers"].items():
            speeds = " | ".join(
                f"{found['sentences'] / min(row[kind]):.0f} ({found['sentences'] / statistics.median(row[kind]):.0f})"
                for kind in ("in_memory", "file_to_file", "fresh_process")
            )
            cold = f"{row['one_sentence_cpu']:.2f} | {row['one_sentence_wall']:.2f}"
            yield f"| {TITLES[name]} | {row['uas']:.2f} | {row['las']:.2f} | {speeds} | {cold} |"
        yield ""
    if "training" in results:
        yield f"## Training on {results['training']['source']}"
        yield ""
        yield "| parser | sentences per CPU second | measured on |"
        yield "| --- | --- | --- |"
        for name, row in results["training"]["parsers"].items():
            yield f"| {TITLES[name]} | {row['rate']:.1f} | {row['how']} |"
        yield ""
    yield "## How this was measured"
    yield ""
    commits = {found["commit"] for found in [*results["pairs"].values(), results.get("training", about)]}
    yield f"Commit {', '.join(sorted(commits))}, {about['date']}; {about['processor']}, {about['cores used']} core,"
    yield f"Python {about['python']}, torch {about['torch']}; {peers}. One pair, and the training, is one run:"
    yield ""
    yield "    taskset -c 0 env OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/parsers.py --data DATA \\"
    yield "        --peers-python VENV/bin/python --peer-models FOLDER --pair SOURCE:TARGET:MODEL"
    yield "    (--training SOURCE:VECTORS in place of --pair for the speed of training)"


def note(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
