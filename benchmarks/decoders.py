"""What every decoder makes of right trees, a parser's trees and random ones, at home and on a target.

    PARSER_VAE_DATA=DIR python benchmarks/decoders.py --model DIR [--source gl_treegal --target gl_ctg --seed 1]

A decoder of each kind is trained on the source's gold trees, beside the frozen encoder of ``--model`` and with its
words and vectors, and kept from the pass that explains the source's dev file best, as in pretraining. It then judges
the trees of the source's and the target's dev files: nats a word, lower is better, where the right tree should cost
least. Writes ``results/decoders.json``.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from parser_vae.parser import Parser
from parser_vae.parsing.arc_decoder import ArcDecoder
from parser_vae.parsing.batches import Batch, Encoded, shuffled_batches, token_batches
from parser_vae.parsing.model import ParserModel, encode_raw
from parser_vae.parsing.storage import model_manifest, model_tensors
from parser_vae.parsing.tree_decoder import DecoderSettings
from parser_vae.parsing.word_classes import word_classes
from parser_vae.structures.trees import heads_to_arcs
from parser_vae.training.checkpoint import write_model
from parser_vae.training.heldout import encode
from parser_vae.treebank.conllu import read_treebank
from parser_vae.treebank.sentence import Sentence

RESULT = Path(__file__).parent / "results" / "decoders.json"
DECODERS = {
    "lm": DecoderSettings(),
    "arcs, forms": DecoderSettings(kind="arcs"),
    "arcs, 100 classes": DecoderSettings(kind="arcs", generates="classes"),
    "arcs, tags": DecoderSettings(kind="arcs", generates="tags"),
}


def model_with(parser: ParserModel, settings: DecoderSettings, seed: int) -> ParserModel:
    """Return a model with the parser's encoder, frozen, and a new decoder."""
    torch.manual_seed(seed)
    vectors = parser.encoder.embedding.vectors
    model = ParserModel(
        parser.encoder.settings, settings, parser.vocabulary, parser.vector_words, vectors, parser.family
    )
    model.encoder = parser.encoder.requires_grad_(False).eval()
    if isinstance(model.decoder, ArcDecoder) and model.decoder.classes is not None and vectors is not None:
        model.decoder.classes.copy_(word_classes(vectors, settings.classes, seed))
    return model


def train(model: ParserModel, gold: Sequence[Encoded], dev: Sequence[Encoded], passes: int, seed: int) -> int:
    """Return the pass after which the decoder explains dev best, and leave it with its weights of then."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.decoder.parameters(), lr=2e-3)
    best = (float("inf"), 0, copy.deepcopy(model.decoder.state_dict()))
    for number in range(1, passes + 1):
        for rows in shuffled_batches([sentence.length for sentence in gold], 8, generator):
            batch = model.indexer.batch([gold[row] for row in rows])
            optimiser.zero_grad()
            losses(model, batch, gold_trees(batch)).mean().backward()
            optimiser.step()
        value = sum(float(values.sum()) for values in judged(model, dev)["gold"]) / len(dev)
        if value < best[0]:
            best = (value, number, copy.deepcopy(model.decoder.state_dict()))
    model.decoder.load_state_dict(best[2])
    return best[1]


def gold_trees(batch: Batch) -> Tensor:
    """Return the gold trees ``[batch, head, dependent]``."""
    assert batch.heads is not None
    return heads_to_arcs(batch.heads, batch.lengths)


def losses(model: ParserModel, batch: Batch, trees: Tensor) -> Tensor:
    """Return the reconstruction ``[batch]`` of trees in nats a word."""
    return model.decoder.reconstruction(model.decoder.context(batch), trees)


@torch.no_grad()
def judged(model: ParserModel, sentences: Sequence[Encoded]) -> dict[str, list[Tensor]]:
    """Return the reconstruction of every sentence given its gold, predicted and a random tree, batch by batch."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[Tensor]] = {"gold": [], "predicted": [], "random": []}
    for group in token_batches([sentence.length for sentence in sentences], 2000, 64):
        batch = model.indexer.batch([sentences[row] for row in group])
        heads, _, scores = model.predict(batch)
        random = model.structure.sample(torch.zeros_like(scores), batch.lengths, generator=generator)[0]
        trees = {"gold": gold_trees(batch), "predicted": heads_to_arcs(heads, batch.lengths), "random": random}
        for name, tree in trees.items():
            found[name].append(losses(model, batch, tree))
    return found


def summary(values: dict[str, list[Tensor]]) -> dict[str, float]:
    """Return mean losses, what the gold tree costs more than the predicted one with its standard error, and a share.

    ``gold_preferred`` is the percentage of sentences with a wrong arc (as far as the decoder can tell) in which the
    gold tree costs less.
    """
    gold, predicted, random = (torch.cat(values[name]).double() for name in ("gold", "predicted", "random"))
    more = gold - predicted
    differ = more != 0
    return {
        "gold": float(gold.mean()),
        "random_minus_gold": float((random - gold).mean()),
        "gold_minus_predicted": float(more.mean()),
        "standard_error": float(more.std()) / len(more) ** 0.5,
        "gold_preferred": 100 * float((more[differ] < 0).double().mean()),
    }


def as_read(model: ParserModel, sentences: Sequence[Sentence]) -> list[Encoded]:
    """Return sentences with gold trees, and the tags that the model reads in raw text."""
    raw = encode_raw(model.indexer, [sentence.forms for sentence in sentences], model)
    heads = [[0, *(head or 0 for head in sentence.heads)] for sentence in sentences]
    return [replace(encoded, heads=own) for encoded, own in zip(raw, heads, strict=True)]


def main() -> None:
    """Train and judge all, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--source", default="gl_treegal")
    parser.add_argument("--target", default="gl_ctg")
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder to write the parsers with their new decoders to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(os.environ["PARSER_VAE_DATA"], "treebanks")
    files = ((options.source, "train"), (options.source, "dev"), (options.target, "dev"))
    source, home, away = (read_treebank(folder / name / f"{part}.conllu").sentences for name, part in files)
    loaded = Parser.load(options.model)
    before = loaded.model
    rows = {}
    for name, settings in DECODERS.items():
        start = time.process_time()
        model = model_with(before, settings, options.seed)
        gold, dev = ([encode(model.indexer, sentence) for sentence in some] for some in (source, home))
        kept = train(model, gold, dev, options.passes, options.seed)
        rows[name] = {
            "pass": kept,
            "cpu_seconds": round(time.process_time() - start, 1),
            options.source: summary(judged(model, as_read(model, home))),
            options.target: summary(judged(model, as_read(model, away))),
        }
        if options.keep is not None:
            kept_at = options.keep / name.replace(",", "").replace(" ", "-")
            kept_at.mkdir(parents=True, exist_ok=True)
            manifest = model_manifest(model) | {"source": loaded.manifest.get("source")}
            write_model(kept_at, model_tensors(model), manifest, "", f"# {options.model.name}, decoder {name}\n")
        print(name, json.dumps(rows[name]), flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {"commit": commit, "seed": options.seed, "passes": options.passes, "decoders": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
