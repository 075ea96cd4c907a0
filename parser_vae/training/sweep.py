"""Methods x treebank pairs x seeds: every cell in a folder of its own, any of them resumable, all to one table.

A sweep's folder holds::

    config.toml                      the recipe
    sources/SOURCE.SEED/             source models, unless the recipe keeps them elsewhere
    cells/PAIR/ROW/SEED/             settings.json, cpu.json, run/ while it runs; cell.json and trees.gz after
    table.md  table.json  table.html
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import parser_vae
from parser_vae.errors import ConfigError, InputError
from parser_vae.evaluation.attachment import SCORERS, Words
from parser_vae.evaluation.measures import Key, Ratios
from parser_vae.evaluation.seeds import PairedRuns, attachment
from parser_vae.evaluation.sweep_page import sweep_page
from parser_vae.evaluation.sweep_table import Run, SweepTable, build_table
from parser_vae.files import write_text_atomically
from parser_vae.parser import Parser
from parser_vae.parsing.vector_training import train_vectors
from parser_vae.training.adapt import adapt
from parser_vae.training.checkpoint import CONFIG, MANIFEST, current_commit, has_state, remove_state
from parser_vae.training.config import leaves, read_toml, shown
from parser_vae.training.continued import continue_on_source
from parser_vae.training.loop import Outcome
from parser_vae.training.meter import Meter
from parser_vae.training.pretrain import pretrain
from parser_vae.training.progress import Progress
from parser_vae.training.sweep_settings import (
    CONTROL,
    SOURCE,
    Cell,
    PairSettings,
    SweepSettings,
    adaptation,
    cells_of,
    check_rows,
    pairs_of,
    pretraining,
    rows_of,
)
from parser_vae.treebank.conllu import read_treebank
from parser_vae.treebank.sentence import Sentence
from parser_vae.treebank.trees import read_trees, write_trees

FORMAT = 1
RESULT, TREES, SETTINGS, CPU, RUN = "cell.json", "trees.gz", "settings.json", "cpu.json", "run"


@dataclass(frozen=True)
class Adapted:
    """What a cell did before it was scored."""

    parser: Parser
    outcome: Outcome | None
    chosen_epoch: int | None
    warning: str | None = None


def check_sweep(settings: SweepSettings, out: Path) -> None:
    """Raise an error where the sweep cannot be as told, before anything has run.

    Raises:
        InputError: A file is missing.
        ConfigError: A setting is wrong, or a cell or a source model was made with other settings.
    """
    cells = cells_of(settings, out)
    check_rows(settings, cells)
    for cell in cells:
        _require_same_row(cell)
    needed = {(cell.pair.name, seed): cell.pair for cell in cells for seed in (cell.seed, *cell.row.teachers)}
    for (_, seed), pair in needed.items():
        _require_same_source(settings, out, pair, seed)


def run_sweep(settings: SweepSettings, out: Path, *, progress: Progress, threads: int = 1) -> None:
    """Run every cell that has not finished, in order.

    Raises:
        KeyboardInterrupt: The user asked to stop; the cell continues with the next call.
    """
    cells = cells_of(settings, out)
    for number, cell in enumerate(cells, start=1):
        if (cell.folder / RESULT).exists():
            continue
        where = f"{cell.pair.name}, {cell.row.name}, seed {cell.seed}"
        progress.event("note", text=f"[{number}/{len(cells)}] {where}")
        run_cell(settings, out, cell, progress, threads)


def run_cell(settings: SweepSettings, out: Path, cell: Cell, progress: Progress, threads: int) -> None:
    """Run one cell to its end, or continue it, and write its predictions and ``cell.json``."""
    seeds = [cell.seed, *(seed for seed in cell.row.teachers if seed != cell.seed)]
    model, *teachers = [source_model(settings, out, cell.pair, seed, progress, threads) for seed in seeds]
    cell.folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(
        cell.folder / SETTINGS, _json({"row": _told(cell), "settings": _resolved(settings, cell, model)})
    )
    meter = Meter(cell.folder / CPU, progress)
    try:
        adapted = _adapted(settings, cell, model, teachers, meter)
    finally:
        meter.save()
    cpu_seconds = 0.0 if cell.row.method == SOURCE else meter.seconds
    gold = read_treebank(cell.pair.target_test).sentences
    predicted = adapted.parser.parse(gold)
    write_trees(cell.folder / TREES, predicted)
    ratios = attachment(gold, predicted)
    result = {
        "format": FORMAT,
        "pair": cell.pair.name,
        "row": cell.row.name,
        "method": cell.row.method,
        "seed": cell.seed,
        "scores": _scores(ratios),
        "change": _change(cell, gold, ratios),
        "chosen_epoch": adapted.chosen_epoch,
        "history": [] if adapted.outcome is None else adapted.outcome.history,
        "warning": adapted.warning,
        "updates": 0 if adapted.outcome is None else adapted.outcome.steps,
        "cpu_seconds": round(cpu_seconds, 2),
        "sessions": meter.sessions,
        "threads": torch.get_num_threads(),
        "commit": current_commit(),
        "version": parser_vae.__version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if cell.row.method == CONTROL:
        result["compute_ratio"] = round(cpu_seconds / _cpu_seconds_of_other(cell), 4)
    write_text_atomically(cell.folder / RESULT, _json(result))
    if settings.keep_models:
        remove_state(cell.folder / RUN)
    else:
        shutil.rmtree(cell.folder / RUN, ignore_errors=True)
    progress.event("cell", uas=round(float(ratios.percent()[0]), 2), cpu_seconds=result["cpu_seconds"])


def _adapted(settings: SweepSettings, cell: Cell, model: Path, teachers: list[Path], meter: Meter) -> Adapted:
    """Return the parser of a cell; the run's folder keeps its state until the cell is scored."""
    run = cell.folder / RUN
    if cell.row.method == SOURCE:
        return Adapted(Parser.load(model), None, None)
    if cell.row.method == CONTROL:
        budget = _cpu_seconds_of_other(cell)
        outcome = continue_on_source(
            pretraining(settings, cell.pair, cell.seed, None, cell.row),
            model,
            run,
            share=lambda: meter.seconds / budget,
            resume=True,
            progress=meter,
        )
        return Adapted(Parser.load(run), outcome, outcome.chosen.get("encoder."))
    result = adapt(adaptation(cell, model, teachers), run, resume=True, progress=meter)
    return Adapted(Parser.load(run), result.course.outcome, result.course.chosen, result.warning)


def source_model(
    settings: SweepSettings, out: Path, pair: PairSettings, seed: int, progress: Progress, threads: int
) -> Path:
    """Return the folder of a pair's source model, pretrained with this seed where it is missing or unfinished."""
    folder = _source_folder(settings, out, pair, seed)
    if (folder / MANIFEST).exists() and not has_state(folder):
        return folder
    vectors = None
    if settings.source.vectors is not None:
        vectors = out / settings.source.vectors.format(source=pair.source, language=pair.language)
        if not vectors.exists():
            text = settings.folder / settings.source.text.format(source=pair.source, language=pair.language)
            texts = [text] if text.exists() else [pair.source_train, pair.target_unlabeled]
            progress.event("note", text=f"word vectors: {vectors}")
            vectors.parent.mkdir(parents=True, exist_ok=True)
            train_vectors(texts, vectors, threads=threads)
    progress.event("note", text=f"source model: {folder}")
    pretrain(pretraining(settings, pair, seed, vectors), folder, resume=True, progress=progress)
    remove_state(folder)
    return folder


def _source_folder(settings: SweepSettings, out: Path, pair: PairSettings, seed: int) -> Path:
    return out / settings.source.models.format(source=pair.source, language=pair.language, seed=seed)


def sweep_table(settings: SweepSettings, out: Path, *, resamples: int = 10_000) -> SweepTable:
    """Return the table of the cells that have finished, made anew from their predictions.

    Raises:
        InputError: No cell has finished.
    """
    rows, pairs = rows_of(settings), pairs_of(settings)
    gold = {pair.name: read_treebank(pair.target_test).sentences for pair in pairs}
    runs: dict[tuple[str, str, int], Run] = {}
    for cell in cells_of(settings, out):
        if (cell.folder / RESULT).exists():
            result = read_cell(cell.folder)
            predicted = read_trees(cell.folder / TREES, gold[cell.pair.name])
            runs[cell.row.name, cell.pair.name, cell.seed] = Run(
                attachment(gold[cell.pair.name], predicted),
                int(result["updates"]),
                float(result["cpu_seconds"]),
                Words.of(predicted).head,
            )
    if not runs:
        raise InputError(f"{out}: no cell has finished, so there is no table to make; run the sweep first")
    return build_table(
        settings.title,
        [row.name for row in rows],
        [pair.name for pair in pairs],
        settings.seeds,
        runs,
        {row.name: _compared_with(settings, row.name) for row in rows},
        {(row.name, pair): uas for row in rows for pair, uas in row.published.items()},
        resamples=resamples,
    )


def write_table(table: SweepTable, out: Path) -> None:
    """Write the table as Markdown, JSON and HTML."""
    write_text_atomically(out / "table.md", table.to_markdown())
    write_text_atomically(out / "table.json", _json(table.to_dict()))
    write_text_atomically(out / "table.html", sweep_page(table))


def read_cell(folder: Path) -> dict[str, Any]:
    """Return what a finished cell wrote.

    Raises:
        InputError: It is damaged, or a newer version wrote it.
    """
    path = folder / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["format"] <= FORMAT:
            return result
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: damaged; remove the cell's folder, and --resume runs it again") from None
    raise InputError(f"{path}: written by a newer parser-vae; upgrade with pip install --upgrade parser-vae")


def _compared_with(settings: SweepSettings, name: str) -> list[str]:
    """Return the rows that a row is compared with: source, and the control that had its compute."""
    if name == SOURCE:
        return []
    return [SOURCE, *(row.name for row in settings.methods if row.like == name)]


def _resolved(settings: SweepSettings, cell: Cell, model: Path) -> dict[str, Any]:
    """Return all settings of a cell as plain values, but for the files, which pair, row and seed name."""
    if cell.row.method == SOURCE:
        return {}
    told = (
        pretraining(settings, cell.pair, cell.seed, None, cell.row)
        if cell.row.method == CONTROL
        else adaptation(cell, model)
    )
    return told.model_dump(mode="json", exclude_none=True, exclude={"data"})


def _told(cell: Cell) -> dict[str, Any]:
    """Return what the recipe says of a row; resolved settings gain keys from version to version, this does not."""
    return cell.row.model_dump(mode="json", include={"method", "like", "teachers", "settings"})


def _require_same_row(cell: Cell) -> None:
    """Raise ``ConfigError`` where the cell was run by another recipe; files may have moved."""
    path = cell.folder / SETTINGS
    recorded = json.loads(path.read_text(encoding="utf-8")).get("row") if path.exists() else None
    for key, value in _told(cell).items():
        if recorded is not None and recorded.get(key) != value:
            raise ConfigError(
                f"the row {cell.row.name} differs in {key} from when {cell.folder} was run; call the row otherwise, or "
                "remove its folder to run it anew"
            )


def _require_same_source(settings: SweepSettings, out: Path, pair: PairSettings, seed: int) -> None:
    """Raise ``ConfigError`` where a source model was made otherwise than the recipe says now."""
    folder = _source_folder(settings, out, pair, seed)
    if not (folder / CONFIG).is_file():
        return
    recorded = dict(leaves(read_toml(folder / CONFIG)))
    wanted = dict(leaves(pretraining(settings, pair, seed, None).model_dump(mode="json")))
    for key, _ in leaves(settings.source.settings):
        # a key that is missing is one that the version which made the model did not know
        if recorded.get(key, wanted.get(key)) != wanted.get(key):
            raise ConfigError(
                f"source.settings: {key} is {shown(wanted[key])}, but {folder} was made with {shown(recorded[key])}; "
                "name other folders in source.models, or remove that one and the cells that began with it"
            )


def _cpu_seconds_of_other(cell: Cell) -> float:
    """Return the CPU seconds of the cell that a control is like."""
    assert cell.row.like is not None
    other = cell.folder.parents[1] / cell.row.like / str(cell.seed)
    return float(read_cell(other)["cpu_seconds"])


def _scores(ratios: Ratios) -> dict[str, dict[str, float]]:
    values = dict(zip(ratios.keys, ratios.percent().tolist(), strict=True))
    return {s.name: {m: round(values[Key(s.name, m)], 4) for m in ("uas", "las")} for s in SCORERS}


def _change(cell: Cell, gold: tuple[Sentence, ...], ratios: Ratios) -> dict[str, Any] | None:
    """Return the paired change against the source model's cell of the same pair and seed."""
    if cell.row.method == SOURCE:
        return None
    before = read_trees(cell.folder.parents[1] / SOURCE / str(cell.seed) / TREES, gold)
    paired = PairedRuns((attachment(gold, before),), (ratios,))
    changes = paired.changes(resamples=10_000, level=0.95, rng=np.random.default_rng(0))
    return {
        s.name: {
            m: {
                "delta": round(changes[Key(s.name, m)].delta, 4),
                "interval": [round(end, 4) for end in changes[Key(s.name, m)].interval or ()],
                "p_value": changes[Key(s.name, m)].p_value,
            }
            for m in ("uas", "las")
        }
        for s in SCORERS
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
