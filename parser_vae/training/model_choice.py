"""What can be known without target trees: how each criterion would have chosen, and whether adapting likely hurt.

Three signs are watched on target sentences that are held out from learning, or on the source:

- ``dev_uas``: the score on labelled source sentences, which says little of a distant target;
- ``target_reconstruction``: how well the decoder explains held-out target words by the trees the parser gives them,
  which may fall while trees get worse, since the decoder does not prefer the right ones;
- ``target_agreement``: the share of held-out target words that keep the head that the source parser gave them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from parser_vae.parsing.batches import Encoded, token_batches
from parser_vae.parsing.model import ParserModel
from parser_vae.structures.trees import heads_to_arcs
from parser_vae.training.heldout import TOKENS_PER_BATCH

APART = 75.0  # percent of sentences whose domain a classifier knows, halfway from guessing to certainty

# How many heads a source parser gets wrong on a target is not known. On the six pairs of Berliner et al. (2022) it is
# 22 to 32%, up to twice what it gets wrong at home.
TARGET_ERRORS = 25.0
ERRORS_AWAY = 2.0


class TargetWatch:
    """The signs on held-out target sentences; made before adapting, with the source parser's trees."""

    def __init__(self, model: ParserModel, sentences: Sequence[Encoded]) -> None:
        groups = token_batches([sentence.length for sentence in sentences], TOKENS_PER_BATCH, 256)
        batches = [model.indexer.batch([sentences[index] for index in group]) for group in groups]
        was_training = model.training
        model.eval()
        self._batches = [(batch, model.predict(batch)[0]) for batch in batches]
        model.train(was_training)

    @torch.no_grad()
    def values(self, model: ParserModel) -> dict[str, float]:
        """Return ``target_reconstruction`` in nats a word and ``target_agreement`` in percent; the model in eval mode.

        Both are means over words; where nothing was held out, there are none.
        """
        same = words = 0
        reconstruction = 0.0
        for batch, before in self._batches:
            heads = model.predict(batch)[0]
            losses = model.decoder.reconstruction(model.decoder.context(batch), heads_to_arcs(heads, batch.lengths))
            same += int(((heads == before) & batch.word_mask).sum())
            words += int(batch.lengths.sum())
            reconstruction += float((losses * batch.lengths).sum())
        if not words:
            return {}
        return {"target_reconstruction": reconstruction / words, "target_agreement": 100 * same / words}


@dataclass(frozen=True)
class Choice:
    """What one criterion says.

    Attributes:
        criterion: Its name among the values of an epoch.
        rule: How it chooses, in words.
        epoch: The epoch it would have kept; 0 is the model before adapting.
        value: Its value there.
    """

    criterion: str
    rule: str
    epoch: int
    value: float


def choices(history: Sequence[Mapping[str, Any]]) -> tuple[Choice, ...]:
    """Return how each criterion that was watched would have chosen among the epochs (or rounds) of a history.

    The first epoch wins a tie, so doing less is preferred. Agreement is 100% before adapting, so it cannot choose by
    its height: it takes the last epoch that it still allows (see ``likely_to_hurt``).
    """
    found = []
    if all("dev_uas" in entry for entry in history):
        best = max(history, key=lambda entry: entry["dev_uas"])
        found.append(_choice("dev_uas", "highest UAS on the source's dev sentences", best))
    if all("target_reconstruction" in entry for entry in history):
        best = min(history, key=lambda entry: entry["target_reconstruction"])
        found.append(_choice("target_reconstruction", "best reconstruction of held-out target words", best))
    if all("target_agreement" in entry and "dev_uas" in entry for entry in history):
        allowed = history[0]
        for entry in history[1:]:
            if 100 - entry["target_agreement"] > likely_wrong(history[0]["dev_uas"]):
                break
            allowed = entry
        found.append(_choice("target_agreement", "last before more heads changed than are likely wrong", allowed))
    return tuple(found)


def likely_wrong(dev_uas: float) -> float:
    """Return the percent of heads that a source parser likely gets wrong on the target, given its UAS at home."""
    return max(TARGET_ERRORS, ERRORS_AWAY * (100 - dev_uas))


def likely_to_hurt(history: Sequence[Mapping[str, Any]], kept: int | None, domain_accuracy: float | None) -> str | None:
    """Return why the kept epoch is likely worse than the model before adapting, or None where nothing says so.

    The rule: more heads changed on held-out target sentences than the source parser likely got wrong there, and the
    domains are apart. Changing more heads than are wrong must break right ones. Where domains are alike, the source's
    dev sentences judge fairly and guard the choice; where they are apart (a classifier tells the domain of at least
    three sentences of four, or it is not known), nothing else does.

    Args:
        history: The values of each epoch, the first before adapting.
        kept: The epoch that was kept; None for the last.
        domain_accuracy: Percent of sentences whose domain a classifier knows; None where that was not asked.
    """
    chosen = history[-1] if kept is None else next(entry for entry in history if entry["epoch"] == kept)
    before = history[0].get("dev_uas")
    agreement = chosen.get("target_agreement")
    if before is None or agreement is None or 100 - agreement <= likely_wrong(before):
        return None
    if domain_accuracy is not None and domain_accuracy < APART:
        return None
    told = "it is not known how far apart the domains are"
    if domain_accuracy is not None:
        told = f"the domains are apart (told from each other {domain_accuracy:.0f}% of the time)"
    return (
        f"adapting has likely hurt: it changed {100 - agreement:.1f}% of the heads on held-out target sentences, more "
        f"than the {likely_wrong(before):.0f}% that were likely wrong before, and {told}"
    )


def _choice(criterion: str, rule: str, entry: Mapping[str, Any]) -> Choice:
    return Choice(criterion, rule, int(entry["epoch"]), float(entry[criterion]))
