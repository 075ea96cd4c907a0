"""What a decoder may generate in place of word forms: classes of similar words."""

from __future__ import annotations

import numpy
import torch
from torch import Tensor

ROUNDS = 50  # of k-means; few words still change their class then


def word_classes(vectors: Tensor, count: int, seed: int) -> Tensor:
    """Return the class ``[words + 2]`` of each row of a table of vectors ``[words, dimension]``, 1 to ``count``.

    k-means on vectors of length 1, so that words are alike whose vectors have like directions. The first two entries
    are the unknown word's, which has the class 0 to itself, and the root's, which is never generated. Where fewer than
    ``count`` vectors differ, each is a class.
    """
    from sklearn.cluster import KMeans  # takes a second to load

    table = torch.nn.functional.normalize(vectors).numpy()
    distinct, places = numpy.unique(table, axis=0, return_inverse=True)
    means = KMeans(min(count, len(distinct)), n_init=1, max_iter=ROUNDS, random_state=seed).fit(distinct)
    classes = torch.from_numpy(means.labels_[places.reshape(-1)]).long() + 1
    return torch.cat([torch.zeros(2, dtype=torch.int64), classes])
