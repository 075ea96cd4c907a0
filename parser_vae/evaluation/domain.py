"""How far two domains are apart, by how well a classifier tells their sentences apart.

The proxy A-distance (Ben-David et al. 2007, "Analysis of representations for domain adaptation") is ``2 (1 - 2 e)``
with ``e`` the error of a classifier that says from which of two balanced samples a sentence comes: 0 where it can only
guess, 2 where it is never wrong. Here it is a logistic regression over character n-grams and words, with
cross-validated error. No trees are used, so it can be had before anything is annotated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parser_vae.errors import InputError

FOLDS = 5
MOST_SENTENCES = 2_000  # of each side; more changes the third digit and costs seconds
TELLING_WORDS = 12
CLEAR = 3.0  # standard errors; with thousands of words some differ by two
RARE = 3  # a word in fewer sentences tells of these sentences, not of the domain


@dataclass(frozen=True)
class DomainDivergence:
    """How well source and target can be told apart.

    Attributes:
        accuracy: The share of held-out sentences whose side the classifier knew, in percent; 50 is guessing.
        proxy_a_distance: ``2 (1 - 2 error)``, from 0 (alike) to 2 (never confused); not below 0.
        source_words: The words that speak most for the source, strongest first.
        target_words: The same for the target.
    """

    accuracy: float
    proxy_a_distance: float
    source_words: tuple[str, ...]
    target_words: tuple[str, ...]


def domain_divergence(
    source: Sequence[Sequence[str]], target: Sequence[Sequence[str]], seed: int = 0
) -> DomainDivergence:
    """Return how far two lists of tokenised sentences (their forms) are apart.

    The larger side is sampled down to the size of the smaller one, and both to 2000 sentences.

    Args:
        source: The forms of each source sentence.
        target: The forms of each target sentence.
        seed: Decides the samples and the folds.

    Raises:
        InputError: Fewer than five sentences on a side.
    """
    # takes a second to import, which commands that never come here should not wait for
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_union

    count = min(len(source), len(target), MOST_SENTENCES)
    if count < FOLDS:
        raise InputError(
            f"there are {len(source)} source and {len(target)} target sentences; "
            f"comparing domains needs at least {FOLDS} of each"
        )
    rng = np.random.default_rng(seed)
    texts = [
        " ".join(side[index]) for side in (source, target) for index in np.sort(rng.permutation(len(side))[:count])
    ]
    is_target = np.repeat([0, 1], count)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), max_features=20_000, sublinear_tf=True)
    words = TfidfVectorizer(token_pattern=r"\S+", max_features=20_000, sublinear_tf=True)
    # document frequencies know nothing of the sides, so they may be taken from all sentences, once
    features = make_union(characters, words).fit_transform(texts)
    classifier = LogisticRegression(C=10.0, solver="liblinear", random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    accuracy = float(cross_val_score(classifier, features, is_target, cv=folds).mean())
    source_words, target_words = _telling_words(texts, is_target)
    return DomainDivergence(
        accuracy=100 * accuracy,
        proxy_a_distance=max(0.0, 2 * (1 - 2 * (1 - accuracy))),
        source_words=source_words,
        target_words=target_words,
    )


def _telling_words(texts: list[str], is_target: np.ndarray) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words whose share of sentences differs most between the sides, by the log-odds' z-score.

    Half a sentence is added to each cell, which keeps words of one side only finite (Haldane 1956).
    """
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(token_pattern=r"\S*\w\S*", min_df=min(RARE, len(texts)), binary=True)
    try:
        present = counter.fit_transform(texts)
    except ValueError:  # scikit-learn's way to say that no word is frequent enough
        return (), ()
    cells = np.stack(
        [
            table
            for side in (0, 1)
            for have in [np.asarray(present[is_target == side].sum(axis=0)).ravel()]
            for table in (have, (is_target == side).sum() - have)
        ]
    )
    cells = cells + 0.5
    log_odds = np.log(cells[2] / cells[3]) - np.log(cells[0] / cells[1])
    z_score = log_odds / np.sqrt((1 / cells).sum(axis=0))
    names = counter.get_feature_names_out()
    order = np.lexsort((names, z_score))
    for_source = [str(names[index]) for index in order[:TELLING_WORDS] if z_score[index] < -CLEAR]
    for_target = [str(names[index]) for index in order[::-1][:TELLING_WORDS] if z_score[index] > CLEAR]
    return tuple(for_source), tuple(for_target)
