"""The parsers that parsers.py compares, behind four commands; each runs in a process of its own.

    python parser_contestants.py train PEER SOURCE MODEL [--budget N]   train on SOURCE/train.conllu, select on dev
    python parser_contestants.py parse PEER MODEL IN OUT                load, read, parse, write; imports not counted
    python parser_contestants.py serve PEER MODEL IN                    parse IN in memory at each line on stdin
    python parser_contestants.py rate PEER SOURCE --seconds N           sentences a second in training

PEER is udpipe, spacy, supar or stanza (the last two only for `rate`), which are installed packages used through their
interfaces with their own defaults, in an environment of their own; or ours (only for `serve` and `rate`), in ours. Only
FORM is given to a parser; UDPipe and spaCy predict the tags they use. All times are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

Rows = list[list[str]]


def read_rows(path: Path) -> list[Rows]:
    """The ten columns of the words of each sentence; ranges, empty nodes and comments are left out."""
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    lines = ([line.split("\t") for line in block.split("\n") if not line.startswith("#")] for block in blocks)
    return [[columns for columns in rows if columns[0].isdigit()] for rows in lines]


class UDPipe:
    """UDPipe 1 (Straka and Straková): MorphoDiTa tagger and Parsito transition parser."""

    module, budget, unit = "ufal.udpipe", 8, "iterations of the parser"

    def __init__(self, model: Path) -> None:
        from ufal import udpipe

        self.api, self.model = udpipe, udpipe.Model.load(str(model))

    @staticmethod
    def sentences(text: str) -> list:
        from ufal import udpipe

        reader, error, found = udpipe.InputFormat.newConlluInputFormat(), udpipe.ProcessingError(), []
        reader.setText(text)
        while reader.nextSentence(sentence := udpipe.Sentence(), error):
            found.append(sentence)
        return found

    @classmethod
    def learn(cls, source: Path, tagger: str, parser: str) -> bytes:
        from ufal import udpipe

        corpora = []
        for part in ("train", "dev"):
            corpus = udpipe.Sentences()
            for sentence in cls.sentences((source / f"{part}.conllu").read_text(encoding="utf-8")):
                corpus.push_back(sentence)
            corpora.append(corpus)
        error = udpipe.ProcessingError()
        model = udpipe.Trainer.train("morphodita_parsito", *corpora, "none", tagger, parser, error)
        if error.occurred():
            raise RuntimeError(error.message)
        return model

    @classmethod
    def train(cls, source: Path, model: Path, budget: int) -> None:
        model.write_bytes(cls.learn(source, "iterations=10", f"iterations={budget}"))

    @classmethod
    def rate(cls, source: Path, seconds: float) -> tuple[float, str]:
        """From the difference between runs of one and of more parser iterations, so that set-up does not count."""

        def spent(iterations: int) -> float:
            start = time.process_time()
            cls.learn(source, "none", f"iterations={iterations}")
            return time.process_time() - start

        size, once = len(read_rows(source / "train.conllu")), spent(1)
        more = max(2, round(seconds / once))
        return size * (more - 1) / (spent(more) - once), f"parser iterations 2 to {more}, gold tags"

    def prepare(self, path: Path) -> list:
        return self.sentences(path.read_text(encoding="utf-8"))

    def parse(self, sentences: list) -> list:
        for sentence in sentences:
            self.model.tag(sentence, self.model.DEFAULT)
            self.model.parse(sentence, self.model.DEFAULT)
        return sentences

    def write(self, sentences: list, path: Path) -> None:
        writer = self.api.OutputFormat.newOutputFormat("conllu")
        path.write_text("".join(map(writer.writeSentence, sentences)), encoding="utf-8")


class SpaCy:
    """spaCy 3, the `efficiency` configuration of its own quickstart: tagger, morphologizer and transition parser."""

    module, budget, unit = "spacy", 1400, "steps"

    def __init__(self, model: Path) -> None:
        import spacy

        self.pipeline = spacy.load(model / "model-best")

    @staticmethod
    def corpus(source: Path, folder: Path) -> None:
        import spacy
        from spacy.tokens import Doc, DocBin

        vocabulary = spacy.blank("xx").vocab
        for part in ("train", "dev"):
            documents = DocBin()
            for rows in read_rows(source / f"{part}.conllu"):
                heads = [int(row[6]) - 1 if row[6] != "0" else index for index, row in enumerate(rows)]
                documents.add(
                    Doc(
                        vocabulary,
                        words=[row[1] for row in rows],
                        heads=heads,
                        deps=["ROOT" if row[6] == "0" else row[7] for row in rows],
                        pos=["X" if row[3] == "_" else row[3] for row in rows],
                        tags=[row[3] for row in rows],
                        morphs=["" if row[5] == "_" else row[5] for row in rows],
                        sent_starts=[index == 0 for index in range(len(rows))],
                    )
                )
            documents.to_disk(folder / f"{part}.spacy")

    @classmethod
    def configure(cls, source: Path, folder: Path) -> list[str]:
        """Write corpora and configuration; return overrides: sentences as given, selection by UAS and LAS."""
        cls.corpus(source, folder)
        cls.run("init", "config", folder / "base.cfg", "--lang", "xx", "--pipeline", "tagger,morphologizer,parser",
                "--optimize", "efficiency", "--force")  # fmt: skip
        weights = {"tag_acc": 0.0, "pos_acc": 0.0, "morph_acc": 0.0, "dep_uas": 0.5, "dep_las": 0.5}
        settings = {
            "paths.train": folder / "train.spacy",
            "paths.dev": folder / "dev.spacy",
            "training.patience": 0,
            "corpora.train.gold_preproc": "true",
            "corpora.dev.gold_preproc": "true",
            **{f"training.score_weights.{name}": weight for name, weight in weights.items()},
        }
        return [str(part) for name, value in settings.items() for part in (f"--{name}", value)]

    @staticmethod
    def run(*arguments: object) -> None:
        subprocess.run([sys.executable, "-m", "spacy", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)

    @classmethod
    def train(cls, source: Path, model: Path, budget: int) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            overrides = cls.configure(source, folder)
            steps = ("--training.max_steps", budget)
            cls.run("train", folder / "base.cfg", "--output", model, *overrides, *steps)

    @classmethod
    def rate(cls, source: Path, seconds: float) -> tuple[float, str]:
        """From updates alone, at batch sizes sampled evenly from the configuration's schedule over its steps.

        The schedule grows from 100 by a thousandth a step to at most 1000 words; ``seconds`` is not looked at.
        """
        from spacy.training import Corpus
        from spacy.training.batchers import minibatch_by_words
        from spacy.training.initialize import init_nlp
        from spacy.util import load_config

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            overrides = cls.configure(source, folder)
            values = {key[2:]: _typed(value) for key, value in zip(overrides[::2], overrides[1::2], strict=True)}
            pipeline = init_nlp(load_config(folder / "base.cfg", overrides=values, interpolate=True))
            examples = list(Corpus(folder / "train.spacy", gold_preproc=True)(pipeline))
        optimizer = pipeline.create_optimizer()

        def speed(sizes: list[int]) -> float:
            endless = itertools.chain(sizes, itertools.repeat(sizes[-1]))
            batches = minibatch_by_words(itertools.cycle(examples), size=endless, tolerance=0.2)
            pipeline.update(next(batches), drop=0.1, sgd=optimizer, losses={})
            done, start = 0, time.process_time()
            for batch in itertools.islice(batches, len(sizes)):
                pipeline.update(batch, drop=0.1, sgd=optimizer, losses={})
                done += len(batch)
            return done / (time.process_time() - start)

        schedule = [min(int(100 * 1.001**step), 1000) for step in range(cls.budget)]
        recipe, largest = speed(schedule[::7]), speed([1000] * 20)
        how = f"batches of 100 to {schedule[-1]} words as scheduled for {cls.budget} steps"
        return recipe, f"{how}; {largest:.0f}/s in its largest batches, 1000 words"

    def prepare(self, path: Path) -> list:
        from spacy.tokens import Doc

        vocabulary = self.pipeline.vocab
        forms = ([row[1] for row in rows] for rows in read_rows(path))
        return [Doc(vocabulary, words, sent_starts=[True] + [False] * (len(words) - 1)) for words in forms]

    def parse(self, documents: list) -> list:
        return list(self.pipeline.pipe(documents))

    def write(self, documents: list, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for document in documents:
                for word in document:
                    top = word.head.i == word.i
                    head, label = (0, "root") if top else (word.head.i + 1, word.dep_ or "dep")
                    tag = word.pos_ or "_"
                    file.write(f"{word.i + 1}\t{word.text}\t_\t{tag}\t_\t_\t{head}\t{label}\t_\t_\n")
                file.write("\n")


class TimeIsUpError(Exception):
    """Leaves another package's training loop."""


class Limited:
    """A loader that counts the sentences that went through it after the first batch, and stops when the time is up."""

    def __init__(self, batches: object, seconds: float) -> None:
        self.batches, self.seconds, self.done, self.clock = batches, seconds, 0, 0.0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        start, pending = 0.0, 0
        for batch in itertools.chain.from_iterable(self.batches for _ in itertools.count()):
            now = time.process_time()
            if start:
                self.done, self.clock = self.done + pending, now - start
            else:
                start = now if pending else 0.0
            pending = len(batch.sentences)
            if start and self.clock >= self.seconds:
                raise TimeIsUpError
            yield batch


class Supar:
    """supar's biaffine parser (Dozat and Manning) as published: words and a character LSTM, no vectors."""

    @staticmethod
    def rate(source: Path, seconds: float) -> tuple[float, str]:
        from supar import BiaffineDependencyParser

        measured = []

        class Timed(BiaffineDependencyParser):
            def _train(self, loader: object) -> None:
                measured.append(Limited(loader, seconds))
                super()._train(measured[0])

        with tempfile.TemporaryDirectory() as folder:
            settings = {
                "path": f"{folder}/model", "build": True, "encoder": "lstm", "feat": ["char"], "embed": None,
                "checkpoint": False, "tree": False, "proj": False, "partial": False, "punct": False, "verbose": False,
                "train": str(source / "train.conllu"), "dev": str(source / "dev.conllu"),
                "test": str(source / "dev.conllu"), "batch_size": 1000, "lr": 2e-3, "mu": 0.9, "nu": 0.9,
                "eps": 1e-12, "weight_decay": 0, "decay": 0.75, "decay_steps": 5000,
            }  # fmt: skip
            parser = Timed.build(**settings)
            with contextlib.suppress(TimeIsUpError):
                parser.train(**settings)
        return measured[0].done / measured[0].clock, f"updates for {measured[0].clock:.0f} s, batches of 1000 words"


class Stanza:
    """stanza's graph parser (Qi et al.) at default size without pretrained vectors or character models, gold tags."""

    @staticmethod
    def rate(source: Path, seconds: float) -> tuple[float, str]:
        from stanza.models import parser
        from stanza.models.depparse import trainer

        sizes, marks = [0], [0.0]
        update = trainer.GraphTrainer.update

        def timed(self: object, batch: tuple, eval: bool = False) -> object:
            result = update(self, batch, eval=eval)
            sizes.append(batch[0].shape[0])
            marks.append(time.process_time())
            if len(marks) > 2 and marks[-1] - marks[1] >= seconds:
                raise TimeIsUpError
            return result

        trainer.GraphTrainer.update = timed
        with tempfile.TemporaryDirectory() as folder:
            arguments = {
                "train_file": source / "train.conllu", "eval_file": source / "dev.conllu", "save_dir": folder,
                "lang": "xx", "shorthand": "xx_source", "mode": "train",
            }  # fmt: skip
            flags = [str(part) for name, value in arguments.items() for part in (f"--{name}", value)]
            with contextlib.suppress(TimeIsUpError):
                parser.main([*flags, "--no_pretrain", "--cpu"])
        clock = marks[-1] - marks[1]
        return sum(sizes[2:]) / clock, f"{len(sizes) - 2} updates in {clock:.0f} s, batches of 5000 words"


class Ours:
    """parser-vae, the `default` encoder."""

    module = "parser_vae.parser"

    def __init__(self, model: Path) -> None:
        import parser_vae

        self.model = parser_vae.load(model)

    def prepare(self, path: Path) -> tuple:
        from parser_vae import read_treebank

        return read_treebank(path, trees="ignore").sentences

    def parse(self, sentences: tuple) -> list:
        return self.model.parse(sentences)

    def write(self, sentences: list, path: Path) -> None:
        from parser_vae import write_treebank

        write_treebank(path, sentences)

    @staticmethod
    def rate(source: Path, seconds: float, vectors: Path | None = None) -> tuple[float, str]:
        """Of the whole recipe, from epochs with and without the language model; the first, which compiles, left out."""
        from parser_vae.training.pretrain import pretrain
        from parser_vae.training.settings import PretrainSettings

        data = {"train": source / "train.conllu", "dev": source / "dev.conllu", "vectors": vectors}
        recipe = PretrainSettings.model_validate({"data": data}).training
        both, alone = recipe.decoder_epochs, recipe.epochs - recipe.decoder_epochs
        training = {"epochs": 5, "decoder_epochs": 3}
        settings = PretrainSettings.model_validate({"data": data, "training": training})
        clock = EpochClock()
        with tempfile.TemporaryDirectory() as folder:
            pretrain(settings, Path(folder), resume=False, progress=clock)
        size = len(read_rows(source / "train.conllu"))
        with_model, without = sum(clock.epochs[1:3]) / 2, sum(clock.epochs[3:]) / 2
        rate = size * recipe.epochs / (both * with_model + alone * without)
        return rate, (
            f"{both} epochs with the language model ({size / with_model:.0f}/s) and {alone} without "
            f"({size / without:.0f}/s), batches of {recipe.batch_size} sentences, {'with' if vectors else 'no'} vectors"
        )


class EpochClock:
    """A display of progress that keeps the CPU seconds of each epoch's updates."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def event(self, kind: str, **fields: object) -> None:
        pass

    @contextlib.contextmanager
    def track(self, total: int | None, description: str):
        start = time.process_time()
        yield lambda count: None
        self.epochs.append(time.process_time() - start)


def _typed(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return value


CONTESTANTS = {"udpipe": UDPipe, "spacy": SpaCy, "supar": Supar, "stanza": Stanza, "ours": Ours}


def serve(peer: str, model: Path, path: Path) -> None:
    """Answer each line on stdin with the CPU seconds of parsing ``path`` in memory; reading it is not counted."""
    parser = CONTESTANTS[peer](model)
    for _ in sys.stdin:
        prepared = parser.prepare(path)
        start = time.process_time()
        parser.parse(prepared)
        print(time.process_time() - start, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "parse", "serve", "rate"])
    parser.add_argument("peer", choices=list(CONTESTANTS))
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--budget", type=int, help="UDPipe: parser iterations (8); spaCy: steps (1400)")
    parser.add_argument("--seconds", type=float, default=60, help="of updates to measure, for peers")
    parser.add_argument("--vectors", type=Path, help="word vectors, for ours")
    given = parser.parse_args()
    peer = CONTESTANTS[given.peer]
    if given.command == "train":
        source, model = given.paths
        model.parent.mkdir(parents=True, exist_ok=True)
        budget = given.budget or peer.budget
        peer.train(source, model, budget)
        model.with_name(f"{model.name}.json").write_text(json.dumps({"budget": budget, "unit": peer.unit}) + "\n")
    elif given.command == "parse":
        model, path, out = given.paths
        importlib.import_module(peer.module)
        start = time.process_time()
        loaded = peer(model)
        loaded.write(loaded.parse(loaded.prepare(path)), out)
        print(time.process_time() - start)
    elif given.command == "serve":
        serve(given.peer, *given.paths)
    else:
        options = {"vectors": given.vectors} if given.vectors else {}
        rate, how = peer.rate(given.paths[0], given.seconds, **options)
        print(json.dumps({"rate": rate, "how": how}))


if __name__ == "__main__":
    main()
