"""All cells of a sweep as one table: means over seeds, their spread, and what each row gained, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parser_vae.evaluation.measures import Counts, Key, Ratios
from parser_vae.evaluation.report import Change
from parser_vae.evaluation.seeds import ATTACHMENT, PairedRuns, described
from parser_vae.evaluation.wording import SIGNS, interval, points, verdict

FORMAT = 1
TITLES = {
    Key("nltk", "uas"): "UAS without punctuation",
    Key("nltk", "las"): "LAS without punctuation",
    Key("conll18", "uas"): "UAS, CoNLL 2018",
    Key("conll18", "las"): "LAS, CoNLL 2018",
}
TOLERANCE = 0.05  # compute counts as equal up to this share


@dataclass(frozen=True)
class Run:
    """One finished cell.

    Attributes:
        ratios: Its scores, sentence by sentence; the columns are ``ATTACHMENT``.
        updates: Steps of the optimiser.
        cpu_seconds: Processor time of adapting, without the source model's training and the scoring.
        heads: The predicted head of every word ``[words]``.
    """

    ratios: Ratios
    updates: int
    cpu_seconds: float
    heads: NDArray[np.int64]


@dataclass(frozen=True)
class Entry:
    """What a row comes to on a pair.

    Attributes:
        seeds: The finished ones.
        mean, lowest, highest: Percent, over seeds.
        changes: Against each other row that this one is compared with, over the seeds that both have.
        support: How many gold words each measure rests on.
        seed_agreement: Percent of words whose head two seeds agree on, over all pairs of seeds; None with one seed.
        agreement: Percent of words that have the head that the other row gives them, over seeds, by its name.
        compute_ratio: CPU seconds of the row divided by those of the row it is compared with, by that row's name.
    """

    seeds: tuple[int, ...]
    mean: dict[Key, float]
    lowest: dict[Key, float]
    highest: dict[Key, float]
    changes: dict[str, dict[Key, Change]]
    support: dict[Key, int]
    updates: float
    cpu_seconds: float
    seed_agreement: float | None
    agreement: dict[str, float]
    compute_ratio: dict[str, float]
    published: float | None


@dataclass(frozen=True)
class SweepTable:
    """The entries by row and pair, and each row's mean gain over pairs.

    Attributes:
        entries: ``(row, pair)`` to entry; cells that have not run are left out.
        gains: ``(row, other row)`` to the mean change over all pairs, where every pair has it.
        missing: Cells that have not run, as ``pair, row, seed``.
    """

    title: str
    rows: tuple[str, ...]
    pairs: tuple[str, ...]
    entries: dict[tuple[str, str], Entry]
    gains: dict[tuple[str, str], dict[Key, Change]]
    missing: tuple[str, ...]
    resamples: int
    level: float

    def to_dict(self) -> dict[str, Any]:
        """Return the table as values that JSON knows; ``docs/sweep.md`` describes them."""
        return {
            "format": FORMAT,
            "title": self.title,
            "resampling": {"resamples": self.resamples, "level": self.level},
            "rows": [
                {
                    "row": row,
                    "pairs": {p: _plain(self.entries[row, p]) for p in self.pairs if (row, p) in self.entries},
                    "mean_change": {other: _plain_changes(c) for (name, other), c in self.gains.items() if name == row},
                }
                for row in self.rows
            ],
            "missing": list(self.missing),
        }

    def to_markdown(self) -> str:
        """Return the tables as Markdown, one for each score."""
        lines = [f"# {self.title}", ""]
        if self.missing:
            lines += [f"Not finished: {len(self.missing)} cells have not run yet.", ""]
        lines += [how_to_read(self), ""]
        for key in ATTACHMENT:
            lines += [f"## {TITLES[key]}", "", *self._score_table(key), ""]
        lines += ["## Agreement", "", AGREEMENT, "", *self._table(agreement_of), ""]
        lines += ["## Work", "", WORK, "", *self._table(work_of)]
        return "\n".join(lines) + "\n"

    def _score_table(self, key: Key) -> list[str]:
        others = sorted({other for _, other in self.gains}, key=self.rows.index)
        mean = [f"mean gain over {other}" for other in others]
        lines = [_markdown_row(["", *self.pairs, *mean]), _markdown_row(["---"] * (1 + len(self.pairs) + len(mean)))]
        for row in self.rows:
            cells = [self._markdown_entry(row, pair, key) for pair in self.pairs]
            gains = [self.gains.get((row, other)) for other in others]
            lines.append(_markdown_row([row, *cells, *("" if gain is None else change(gain[key]) for gain in gains)]))
        return lines

    def _markdown_entry(self, row: str, pair: str, key: Key) -> str:
        entry = self.entries.get((row, pair))
        if entry is None:
            return "–"
        text = f"{score(entry, key)}"
        for other, changes in entry.changes.items():
            text += f"<br>{change(changes[key])} over {other}{unequal(entry, other)}"
        if key == ATTACHMENT[0] and entry.published is not None:
            text += f"<br>published: {entry.published:.2f}"
        return text

    def _table(self, shown: Callable[[Entry], str]) -> list[str]:
        lines = [_markdown_row(["", *self.pairs]), _markdown_row(["---"] * (1 + len(self.pairs)))]
        for row in self.rows:
            entries = [self.entries.get((row, pair)) for pair in self.pairs]
            lines.append(_markdown_row([row, *("–" if entry is None else shown(entry) for entry in entries)]))
        return lines


def build_table(
    title: str,
    rows: Sequence[str],
    pairs: Sequence[str],
    seeds: Sequence[int],
    runs: Mapping[tuple[str, str, int], Run],
    compared: Mapping[str, Sequence[str]],
    published: Mapping[tuple[str, str], float],
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> SweepTable:
    """Return the table of the cells that have run.

    Args:
        title: The heading.
        rows: All rows in order.
        pairs: All pairs in order.
        seeds: All seeds.
        runs: Finished cells by row, pair and seed.
        compared: For a row the other rows it is compared with.
        published: UAS without punctuation elsewhere, by row and pair.
        resamples: Of bootstrap and randomisation.
        level: The coverage of the intervals.
        seed: Decides the resamples.
    """
    entries: dict[tuple[str, str], Entry] = {}
    pooled: dict[tuple[str, str], list[tuple[PairedRuns, Counts]]] = {}
    for number, pair in enumerate(pairs):
        for row in rows:
            finished = {s: runs[row, pair, s] for s in seeds if (row, pair, s) in runs}
            if not finished:
                continue
            changes: dict[str, dict[Key, Change]] = {}
            ratio: dict[str, float] = {}
            agreement: dict[str, float] = {}
            for other in compared.get(row, ()):
                both = [s for s in finished if (other, pair, s) in runs]
                if not both:
                    continue
                paired = PairedRuns(
                    tuple(runs[other, pair, s].ratios for s in both), tuple(finished[s].ratios for s in both)
                )
                # the same draws for all rows of a pair, other draws for each pair
                rng = np.random.default_rng([seed, number])
                samples, p_values = paired.resampled(resamples, rng), paired.p_value(resamples, rng)
                changes[other] = described(paired, samples, p_values, level)
                pooled.setdefault((row, other), []).append((paired, samples))
                agreement[other] = _same([(finished[s], runs[other, pair, s]) for s in both])
                spent = sum(runs[other, pair, s].cpu_seconds for s in both)
                if spent:
                    ratio[other] = sum(finished[s].cpu_seconds for s in both) / spent
            entries[row, pair] = _entry(finished, changes, agreement, ratio, published.get((row, pair)))
    gains = {}
    if len(pairs) > 1:
        gains = {names: _mean_change(parts, level) for names, parts in pooled.items() if len(parts) == len(pairs)}
    missing = tuple(
        f"{pair}, {row}, {s}" for s in seeds for pair in pairs for row in rows if (row, pair, s) not in runs
    )
    return SweepTable(title, tuple(rows), tuple(pairs), entries, gains, missing, resamples, level)


def _entry(
    finished: Mapping[int, Run],
    changes: dict[str, dict[Key, Change]],
    agreement: dict[str, float],
    ratio: dict[str, float],
    published: float | None,
) -> Entry:
    values = np.array([run.ratios.percent() for run in finished.values()])
    first = next(iter(finished.values())).ratios
    return Entry(
        seeds=tuple(finished),
        mean=dict(zip(ATTACHMENT, values.mean(0).tolist(), strict=True)),
        lowest=dict(zip(ATTACHMENT, values.min(0).tolist(), strict=True)),
        highest=dict(zip(ATTACHMENT, values.max(0).tolist(), strict=True)),
        changes=changes,
        support=dict(zip(ATTACHMENT, first.support.tolist(), strict=True)),
        updates=float(np.mean([run.updates for run in finished.values()])),
        cpu_seconds=float(np.mean([run.cpu_seconds for run in finished.values()])),
        seed_agreement=_same(list(combinations(finished.values(), 2))) if len(finished) > 1 else None,
        agreement=agreement,
        compute_ratio=ratio,
        published=published,
    )


def _same(runs: Sequence[tuple[Run, Run]]) -> float:
    """Return the percentage of words with the same head in both of two runs, averaged over the pairs of runs."""
    return float(np.mean([100 * np.mean(first.heads == second.heads) for first, second in runs]))


def _mean_change(parts: Sequence[tuple[PairedRuns, Counts]], level: float) -> dict[Key, Change]:
    """Return the change averaged over pairs, each resampled on its own.

    The p-value is the bootstrap's: twice the share of resamples on the other side of 0, at most 1.
    """
    samples = np.mean([samples for _, samples in parts], axis=0)
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=0)
    below = (1 + (samples <= 0).sum(0)) / (1 + len(samples))
    above = (1 + (samples >= 0).sum(0)) / (1 + len(samples))
    before = np.mean([np.mean([ratios.percent() for ratios in runs.before], axis=0) for runs, _ in parts], axis=0)
    delta = np.mean([runs.delta() for runs, _ in parts], axis=0)
    return {
        key: Change(
            before=float(before[i]),
            delta=float(delta[i]),
            interval=(float(low[i]), float(high[i])),
            p_value=float(min(1.0, 2 * min(below[i], above[i]))),
            is_clear=bool(low[i] > 0 or high[i] < 0),
        )
        for i, key in enumerate(ATTACHMENT)
    }


def score(entry: Entry, key: Key) -> str:
    """Return the mean over seeds and, with several, the lowest and highest: ``72.41 (71.90 to 72.80)``."""
    if len(entry.seeds) == 1:
        return f"{entry.mean[key]:.2f}"
    return f"{entry.mean[key]:.2f} ({entry.lowest[key]:.2f} to {entry.highest[key]:.2f})"


def change(found: Change) -> str:
    """Return a change with its interval and what it says: ``▲ +1.2 [+0.8, +1.6]``."""
    return f"{SIGNS[verdict(found)]} {points(found.delta)} {interval(found.interval, signed=True)}"


def unequal(entry: Entry, other: str) -> str:
    """Return a remark where the row had more or less compute than the control it is compared with, or nothing."""
    ratio = entry.compute_ratio.get(other)
    if other == "source" or ratio is None or abs(ratio - 1) <= TOLERANCE:
        return ""
    return f" ({ratio:.2f} x its compute)"


AGREEMENT = "Percent of words whose head is the same in two seeds / in the source model; no target tree is needed."
WORK = "Mean updates / CPU seconds of adapting, per seed."


def agreement_of(entry: Entry) -> str:
    """Return how far seeds, and the row and its source model, agree."""
    between = "–" if entry.seed_agreement is None else f"{entry.seed_agreement:.1f}"
    return f"{between} / {entry.agreement['source']:.1f}" if "source" in entry.agreement else between


def work_of(entry: Entry) -> str:
    """Return updates and CPU seconds."""
    return f"{entry.updates:,.0f} / {entry.cpu_seconds:,.0f}"


def how_to_read(table: SweepTable) -> str:
    """Return what the numbers and signs of the tables mean."""
    return (
        "Each entry is the mean over seeds (lowest to highest), then the mean difference to another row on the same "
        f"seeds with its {100 * table.level:g}% interval ({table.resamples:,} resamples of test sentences, seeds "
        "paired and averaged). ▲ ▼: the interval leaves out 0 and a two-sided randomisation test agrees; ○: no clear "
        "change. Intervals tell of the test sentences, the spread of the seeds. 'source' is the model before adapting; "
        "a control trained on the source for as many CPU seconds as the row it is compared with."
    )


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(entry: Entry) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for key in ATTACHMENT:
        scores.setdefault(key.scorer, {})[key.measure] = {
            "mean": round(entry.mean[key], 4),
            "lowest": round(entry.lowest[key], 4),
            "highest": round(entry.highest[key], 4),
        }
    return {
        "seeds": list(entry.seeds),
        "scores": scores,
        "changes": {other: _plain_changes(changes) for other, changes in entry.changes.items()},
        "seed_agreement": None if entry.seed_agreement is None else round(entry.seed_agreement, 4),
        "agreement": {other: round(value, 4) for other, value in entry.agreement.items()},
        "updates": entry.updates,
        "cpu_seconds": round(entry.cpu_seconds, 1),
        "compute_ratio": {other: round(value, 4) for other, value in entry.compute_ratio.items()},
        "published_uas": entry.published,
    }


def _plain_changes(changes: Mapping[Key, Change]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, found in changes.items():
        plain.setdefault(key.scorer, {})[key.measure] = {
            "delta": round(found.delta, 4),
            "interval": None if found.interval is None else [round(end, 4) for end in found.interval],
            "p_value": found.p_value,
        }
    return plain
