"""Silver trees, what a student learns from, and the rounds."""

from __future__ import annotations

from dataclasses import replace

import torch

from parser_vae.parsing.batches import Batch
from parser_vae.parsing.decoder import DecoderSettings
from parser_vae.parsing.encoder import EncoderSettings
from parser_vae.parsing.model import ParserModel, supervised_losses
from parser_vae.parsing.vocabulary import Vocabulary
from parser_vae.training.self_training import Example, batch_of
from parser_vae.training.silver import annotated, silver_trees
from parser_vae.training.students import with_counts

SENTENCES = [["the", "dog", "sees", "it"], ["it", "barks"], ["the", "cat", "sees", "the", "dog"]]
SMALL = EncoderSettings(hidden=6, layers=1, word_size=6, character_size=3, arc_size=6, label_size=4)


def parser(seed: int) -> ParserModel:
    torch.manual_seed(seed)
    tagged = ((forms, ["X"] * len(forms), ["a", "b"] * len(forms)) for forms in SENTENCES)
    vocabulary = Vocabulary.build(((f, u, d[: len(f)]) for f, u, d in tagged), "off")
    return ParserModel(SMALL, DecoderSettings(hidden=4), vocabulary, [], None, "projective").eval()


def batch(model: ParserModel) -> Batch:
    return model.indexer.batch([model.indexer.encode(forms) for forms in SENTENCES])


def test_a_single_teachers_trees_have_the_most_expected_arcs_and_its_marginals() -> None:
    model = parser(0)
    trees = silver_trees([model], SENTENCES)
    inputs = batch(model)
    with torch.no_grad():
        scores = model.encoder.arc_scores(model.encoder.states(inputs)[-1])
    marginals = model.structure.marginals(scores, inputs.lengths)
    heads = model.structure.argmax_heads(marginals, inputs.lengths)
    for row, (forms, tree) in enumerate(zip(SENTENCES, trees, strict=True)):
        size = len(forms) + 1
        assert tree.heads == heads[row, 1:size].tolist()
        torch.testing.assert_close(tree.marginals, marginals[row, :size, :size])
        torch.testing.assert_close(
            torch.tensor(tree.confidence), tree.marginals[tree.heads, range(1, size)], rtol=0, atol=1e-6
        )


def test_several_teachers_are_averaged() -> None:
    first, second = parser(0), parser(1)
    alone = [silver_trees([model], SENTENCES) for model in (first, second)]
    for one, other, both in zip(*alone, silver_trees([first, second], SENTENCES), strict=True):
        torch.testing.assert_close(both.marginals, (one.marginals + other.marginals) / 2)
    assert any(a.heads != b.heads for a, b in zip(*alone, strict=True))


def test_a_distribution_that_is_certain_teaches_what_its_tree_teaches() -> None:
    model = parser(0)
    trees = silver_trees([parser(1)], SENTENCES)
    examples = [Example(annotated(model.indexer, f, t), t.confidence) for f, t in zip(SENTENCES, trees, strict=True)]
    certain = []
    for example, tree in zip(examples, trees, strict=True):
        marginals = torch.zeros_like(tree.marginals)
        marginals[tree.heads, range(1, len(tree.heads) + 1)] = 1.0
        certain.append(replace(example, marginals=marginals))
    hard = supervised_losses(model, batch_of(model, examples))
    soft = supervised_losses(model, batch_of(model, certain))
    assert hard.keys() == soft.keys() == {"arcs", "labels"}  # silver sentences teach no tags
    for name, loss in hard.items():
        torch.testing.assert_close(soft[name], loss)
    mixed = supervised_losses(model, batch_of(model, [examples[0], *certain[1:]]))
    torch.testing.assert_close(mixed["arcs"], hard["arcs"])


def test_arcs_count_as_much_as_they_are_believed() -> None:
    model = parser(0)
    (tree,) = silver_trees([model], SENTENCES[:1])
    example = Example(annotated(model.indexer, SENTENCES[0], tree), [1.0, 0.5, 0.0, 0.25])
    each = []
    for word in range(4):
        weights = [float(position == word) for position in range(4)]
        each.append(supervised_losses(model, batch_of(model, [replace(example, weights=weights)]))["arcs"])
    whole = supervised_losses(model, batch_of(model, [example]))["arcs"]
    torch.testing.assert_close(whole, each[0] + 0.5 * each[1] + 0.25 * each[3])


def test_target_words_are_counted_so_that_a_student_reads_them() -> None:
    vocabulary = parser(0).vocabulary.extend([["the", "server", "server"]])
    counted = with_counts(vocabulary, [["the", "server", "server"]])
    counts = dict(zip(counted.words, counted.counts, strict=True))
    assert counts["the"] == dict(zip(vocabulary.words, vocabulary.counts, strict=True))["the"] + 1
    assert counts["server"] == 2
    assert counts["<unknown>"] == 0
