"""Sentences for the tests of evaluation: short hand-made ones, perturbed trees, and the official scorer's verdict."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

from udtools import udeval

from parser_vae.treebank.checks import is_tree
from parser_vae.treebank.conllu import read_treebank
from parser_vae.treebank.sentence import Sentence

ENGLISH = """\
# sent_id = dogs
# text = Dogs don't bark, cats do.
1	Dogs	dog	NOUN	_	_	4	nsubj	_	_
2-3	don't	_	_	_	_	_	_	_	_
2	do	do	AUX	_	_	4	aux	_	_
3	n't	not	PART	_	_	4	advmod	_	_
4	bark	bark	VERB	_	_	0	root	_	SpaceAfter=No
5	,	,	PUNCT	_	_	7	punct	_	_
6	cats	cat	NOUN	_	_	7	nsubj:outer	_	_
7	do	do	VERB	_	_	4	conj	_	SpaceAfter=No
7.1	bark	bark	VERB	_	_	_	_	7:dep	_
8	.	.	PUNCT	_	_	4	punct	_	_

# sent_id = rain
1	It	it	PRON	_	_	2	expl	_	_
2	rains	rain	VERB	_	_	0	root	_	_
3	!?	!?	PUNCT	_	_	2	punct	_	_

"""


def sentences_of(text: str, *, trees: str = "check") -> tuple[Sentence, ...]:
    return read_treebank(io.BytesIO(text.encode()), trees="ignore" if trees == "ignore" else "check").sentences


def english() -> tuple[Sentence, ...]:
    return sentences_of(ENGLISH)


def random_tree(count: int, rng: random.Random) -> list[int]:
    """Any tree with one root: each word in a random order hangs from one placed before it."""
    order = rng.sample(range(1, count + 1), count)
    heads = [0] * count
    for place, word in enumerate(order[1:], start=1):
        heads[word - 1] = rng.choice(order[:place])
    return heads


def perturbed(sentences: Sequence[Sentence], share: float, seed: int) -> tuple[Sentence, ...]:
    """The sentences with about this share of heads and of labels changed; still trees with one root."""
    rng = random.Random(seed)
    labels = sorted({label for sentence in sentences for label in sentence.deprels})
    changed = []
    for sentence in sentences:
        heads = list(sentence.heads)
        for word in range(len(heads)):
            if rng.random() < share:
                before = heads[word]
                heads[word] = rng.randint(1, len(heads))
                if not is_tree(heads):
                    heads[word] = before
        if rng.random() < share / 3:
            heads = list(random_tree(len(heads), rng))
        deprels = [rng.choice(labels) if rng.random() < share else label for label in sentence.deprels]
        changed.append(sentence.with_tree(heads, deprels))
    return tuple(changed)


def synthetic(count: int, seed: int) -> tuple[Sentence, ...]:
    """Random sentences with multiword tokens, punctuation, symbols, upper-case and subtyped labels."""
    rng = random.Random(seed)
    forms = ("la", "LA", "casa", "de", "el", "não", "，", ",", "«", "...", "$", "%", "犬", "1\u00a0000", "a")
    labels = ("nsubj", "nsubj:pass", "obj", "OBJ", "punct", "case", "det", "conj", "aux:pass", "unknown")
    blocks = []
    for number in range(count):
        length = rng.randint(1, 12)
        heads = random_tree(length, rng)
        lines = [f"# sent_id = s{number}"]
        word = 1
        while word <= length:
            last = min(length, word + rng.randint(1, 2)) if rng.random() < 0.25 else word
            if last > word:
                lines.append(f"{word}-{last}\t{rng.choice(forms)}{rng.choice(forms)}" + "\t_" * 8)
            for position in range(word, last + 1):
                label = "root" if heads[position - 1] == 0 else rng.choice(labels)
                tag = rng.choice(("NOUN", "VERB", "PUNCT"))
                lines.append(f"{position}\t{rng.choice(forms)}\t_\t{tag}\t_\t_\t{heads[position - 1]}\t{label}\t_\t_")
            word = last + 1
        blocks.append("\n".join(lines) + "\n\n")
    return sentences_of("".join(blocks))


def official(gold: Sequence[Sentence], system: Sequence[Sentence]) -> dict[str, float]:
    """UAS, LAS and CLAS (F1, percent) by the official scorer of the shared task, which reads and aligns by itself."""
    loaded = [udeval.load_conllu(io.StringIO(conllu(each)), "memory", {}) for each in (gold, system)]
    scores = udeval.evaluate(*loaded)
    return {name: 100 * scores[name.upper()].f1 for name in ("uas", "las", "clas")}


def conllu(sentences: Sequence[Sentence]) -> str:
    return "".join(sentence.to_conllu() for sentence in sentences)
