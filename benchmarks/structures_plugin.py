"""Our decoders for a harness that registers contestants by ``entry(job, name, ...)`` in a module ``bench_decoders``.

This folder has to be on ``PYTHONPATH``. Each takes scores ``[batch, head, dependent]`` and lengths, and returns the
timed function and a reader of its result.
"""

import functools

import numpy as np
from bench_decoders import entry
from structure_contestants import CONTESTANTS, Chunk

_JOBS = {
    "eisner": "eisner",
    "eisner_multi": "eisner_multi",
    "mst": "arborescence",
    "inside": "projective_marginals",
    "mtt": "matrix_tree",
    "sparsemap": "sparsemap",
}


def _prepare(contestant, scores, lengths):
    return contestant.prepare(Chunk(scores, lengths.astype(np.int64)))


for _theirs, _ours in _JOBS.items():
    for _contestant in CONTESTANTS[_ours]:
        if _contestant.ours:
            entry(_theirs, _contestant.name, single=_theirs != "eisner_multi")(functools.partial(_prepare, _contestant))
