"""The generic laws, over every structure. A new structure needs one line in ``INSTANCES``."""

import pytest

from parser_vae.structures.base import Capability
from parser_vae.structures.binary import Binary, PairwiseBinary
from parser_vae.structures.categorical import Categorical
from parser_vae.structures.projective import ProjectiveTrees
from parser_vae.structures.spanning import SpanningTrees
from parser_vae.structures.subset import Subset
from parser_vae.structures.undirected import UndirectedTrees
from tests import oracles
from tests.structures import laws
from tests.structures.laws import Instance

INSTANCES = [
    Instance("categorical", Categorical(), oracles.categorical_objects, (5, 2, 1, 5, 3)),
    Instance("binary", Binary(), oracles.binary_objects, (4, 1, 2, 4)),
    Instance("pairwise-exhaustive", PairwiseBinary(), oracles.binary_pairwise_objects, (4, 1, 2, 4, 3)),
    Instance("pairwise-integer", PairwiseBinary("mixed_integer"), oracles.binary_pairwise_objects, (4, 1, 2)),
    Instance("subset-1", Subset(1), lambda m, full: oracles.subset_objects(m, full, 1), (4, 1, 2, 4)),
    Instance("subset-3", Subset(3), lambda m, full: oracles.subset_objects(m, full, 3), (6, 3, 4, 6)),
    Instance("projective", ProjectiveTrees(), lambda n, full: oracles.padded_trees(n, full, True, True), (5, 1, 2, 4)),
    Instance(
        "projective-multi-root",
        ProjectiveTrees(single_root=False),
        lambda n, full: oracles.padded_trees(n, full, False, True),
        (4, 1, 2, 4, 3),
    ),
    Instance("spanning", SpanningTrees(), lambda n, full: oracles.padded_trees(n, full, True, False), (4, 1, 2, 4, 3)),
    Instance(
        "spanning-multi-root",
        SpanningTrees(single_root=False),
        lambda n, full: oracles.padded_trees(n, full, False, False),
        (4, 1, 2, 4, 3),
    ),
    Instance("undirected", UndirectedTrees(), oracles.undirected_trees, (5, 1, 2, 5, 4)),
    Instance("undirected-near-limit", UndirectedTrees(max_range=1e3), oracles.undirected_trees, (4, 2, 3)),
]


def over(*needed):
    having = [i for i in INSTANCES if set(needed) <= i.structure.capabilities]
    return pytest.mark.parametrize("instance", having, ids=lambda instance: instance.name)


SUMS = (Capability.LOG_PARTITION, Capability.MARGINALS)
RESULTS = {
    Capability.ARGMAX: "argmax",
    Capability.LOG_PARTITION: "log_partition",
    Capability.MARGINALS: "marginals",
    Capability.SMOOTHED_ARGMAX: "smoothed_argmax",
}


def over_results(*methods):
    """Every pair of an instance and a method among ``methods`` it offers, as ``(instance, results)``."""
    pairs = [
        pytest.param(instance, getattr(instance.structure, method), id=f"{instance.name}-{method}")
        for instance in INSTANCES
        for capability, method in RESULTS.items()
        if method in methods and capability in instance.structure.capabilities
    ]
    return pytest.mark.parametrize(("instance", "results"), pairs)


@over()
def test_argmax_is_the_best_object(instance):
    laws.argmax_is_the_best_object(instance)


@over(*SUMS)
def test_sums_equal_enumeration(instance):
    laws.sums_equal_enumeration(instance)


@over(*SUMS)
def test_gradient_of_the_log_partition_is_the_marginals(instance):
    laws.gradient_is_the_marginals(instance)


@over(*SUMS, Capability.COUNT)
def test_entropy_and_divergences_equal_enumeration(instance):
    laws.derived_quantities_equal_enumeration(instance)


@over(Capability.COUNT)
def test_count_equals_enumeration(instance):
    laws.count_equals_enumeration(instance)


@over(Capability.ENUMERATE)
def test_enumerate_lists_every_object(instance):
    laws.enumerate_lists_every_object(instance)


@over(Capability.SAMPLE)
def test_samples_follow_the_distribution(instance):
    laws.samples_follow_the_distribution(instance)


@over_results("argmax", "log_partition", "marginals", "smoothed_argmax")
def test_padding_and_order_change_nothing(instance, results):
    laws.padding_and_order_change_nothing(instance, results)


@over_results("log_partition", "marginals", "smoothed_argmax")
def test_gradients_are_right(instance, results):
    laws.gradients_are_right(instance, results)


@over_results("log_partition", "marginals", "smoothed_argmax")
def test_float32_agrees_with_float64(instance, results):
    laws.float32_agrees_with_float64(instance, results)


@over()
def test_forbidden_parts_are_not_used(instance):
    laws.forbidden_parts_are_not_used(instance, sums=set(SUMS) <= instance.structure.capabilities)


@over_results("argmax", "log_partition", "marginals")
def test_infeasible_items_are_named(instance, results):
    laws.infeasible_items_are_named(instance, results)
