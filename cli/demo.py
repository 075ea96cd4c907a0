"""``parser-vae demo``: pretrain, adapt, parse and evaluate on the bundled treebanks."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from .evaluate import evaluate
from .options import Common
from .parse import parse


def demo(
    common: Common,
    out: Annotated[Path, typer.Option(help="The folder for everything it writes.", metavar="DIR")] = Path("demo-run"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard a former demonstration in --out.")] = False,
) -> None:
    """Show the whole way on two tiny treebanks that come with the package: news to learn from, recipes and chat."""
    from importlib.resources import as_file, files

    from parser_vae.files import write_text_atomically
    from parser_vae.training.adapt import adapt
    from parser_vae.training.checkpoint import CONFIG, prepare_output, remove_state
    from parser_vae.training.config import dump_settings, load_settings
    from parser_vae.training.pretrain import pretrain
    from parser_vae.training.settings import AdaptSettings, PretrainSettings
    from parser_vae.treebank.catalog import bundled

    source, target = bundled("tiny-source"), bundled("tiny-target")
    before, after, page = out / "before.conllu", out / "after.conllu", out / "report.html"
    models = {"source": out / "source", "target": out / "target"}
    progress = common.progress()
    for folder in models.values():
        prepare_output(folder, resume=False, overwrite=overwrite)
    common.prepare_training()

    def announce(step: int, *command: object) -> None:
        progress.event("note", text=f"[{step}/4] parser-vae {shlex.join(map(str, command))}")

    with as_file(files("parser_vae.configs")) as configs:
        recipes = {name: configs / f"demo-{name}.toml" for name in ("pretrain", "adapt")}
        files_of = {"data.train": source.train, "data.dev": source.dev}
        learning = load_settings(PretrainSettings, recipes["pretrain"], flags=files_of)
        files_to = {"data.model": models["source"], "data.target": [target.unlabeled], "data.test": target.test}
        adapting = load_settings(AdaptSettings, recipes["adapt"], flags=files_to)
    announce(1, "pretrain", "--train", source.train, "--dev", source.dev, "--out", models["source"])
    write_text_atomically(models["source"] / CONFIG, dump_settings(learning))
    pretrain(learning, models["source"], resume=False, progress=progress)
    announce(2, "adapt", "--from", models["source"], "--target", target.unlabeled, "--out", models["target"])
    write_text_atomically(models["target"] / CONFIG, dump_settings(adapting))
    adapt(adapting, models["target"], resume=False, progress=progress)
    for model, output in ((models["source"], before), (models["target"], after)):
        remove_state(model)
        announce(3, "parse", model, target.test, "--output", output)
        parse(common, model, str(target.test), output=str(output))
    announce(4, "evaluate", "--gold", target.test, "--predicted", after, "--baseline", before, "--html", page)
    evaluate(str(target.test), str(after), str(before), source=str(source.train), html_file=page)
    print(f"\nThe models are in {models['source']} and {models['target']}. To read the report, open this page:")
    print(page.resolve().as_uri())
