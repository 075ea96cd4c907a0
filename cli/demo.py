"""``parser-vae demo``: pretrain, adapt, parse and evaluate on the bundled treebanks."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .adapt import adapt
from .evaluate import evaluate
from .options import Common
from .parse import parse
from .pretrain import pretrain

_LEARN = ("training.epochs=20",)


def demo(
    common: Common,
    out: Annotated[Path, typer.Option(help="The folder for everything it writes.", metavar="DIR")] = Path("demo-run"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard a former demonstration in --out.")] = False,
) -> None:
    """Show the whole way on two tiny treebanks that come with the package: news to learn from, recipes to adapt to."""
    from parser_vae.training.checkpoint import check_output
    from parser_vae.treebank.catalog import bundled

    source, target = bundled("tiny-source"), bundled("tiny-target")
    assert source.train and source.dev and target.unlabeled and target.test
    models = {"source": out / "source", "target": out / "target"}
    before, after, page = out / "before.conllu", out / "after.conllu", out / "report.html"
    for folder in models.values():
        check_output(folder, resume=False, overwrite=overwrite)
    progress = common.progress()

    def announce(step: int, *command: object) -> None:
        progress.event("note", text=f"[{step}/4] parser-vae {shlex.join(map(str, command))}")

    # the demonstration's own settings: those of --config are for --out and --overwrite
    learn, improve = (replace(common, config=None, overrides=list(given)) for given in (_LEARN, ()))
    files = ("--train", source.train, "--dev", source.dev)
    announce(1, "pretrain", *files, "--out", models["source"], *_sets(learn))
    pretrain(learn, models["source"], source.train, source.dev, overwrite=overwrite)
    files = ("--target", target.unlabeled, "--test", target.test)
    announce(2, "adapt", "--from", models["source"], *files, "--out", models["target"], *_sets(improve))
    adapt(improve, models["target"], models["source"], [target.unlabeled], test=target.test, overwrite=overwrite)
    for model, output in ((models["source"], before), (models["target"], after)):
        announce(3, "parse", model, target.test, "--output", output)
        parse(common, model, str(target.test), output=str(output))
    announce(4, "evaluate", "--gold", target.test, "--predicted", after, "--baseline", before, "--html", page)
    evaluate(str(target.test), str(after), str(before), source=str(source.train), html_file=page)
    print(f"\nThe models are in {models['source']} and {models['target']}. The report as a page with plots and trees:")
    print(page.resolve().as_uri())


def _sets(common: Common) -> list[str]:
    return [word for override in common.overrides or () for word in ("--set", override)]
