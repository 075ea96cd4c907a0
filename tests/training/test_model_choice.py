"""Signs without target trees: what is watched, what each would have chosen, and when adapting is said to hurt."""

from __future__ import annotations

import pytest
import torch

from parser_vae.training.model_choice import TargetWatch, choices, likely_to_hurt, likely_wrong
from tests.parsing.conftest import FORMS, Build, build

__all__ = ["build"]  # the fixture

HISTORY = [
    {"epoch": 0, "dev_uas": 85.0, "target_reconstruction": 5.0, "target_agreement": 100.0},
    {"epoch": 1, "dev_uas": 86.0, "target_reconstruction": 4.5, "target_agreement": 92.0},
    {"epoch": 2, "dev_uas": 86.0, "target_reconstruction": 4.2, "target_agreement": 86.0},
    {"epoch": 3, "dev_uas": 80.0, "target_reconstruction": 4.0, "target_agreement": 60.0},
    {"epoch": 4, "dev_uas": 79.0, "target_reconstruction": 4.1, "target_agreement": 90.0},
]


def test_each_criterion_chooses_by_its_own_rule() -> None:
    assert {choice.criterion: (choice.epoch, choice.value) for choice in choices(HISTORY)} == {
        "dev_uas": (1, 86.0),  # the first of equals
        "target_reconstruction": (3, 4.0),
        "target_agreement": (2, 86.0),  # what comes after a bad epoch is not trusted either
    }


def test_what_was_not_watched_does_not_choose() -> None:
    without_dev = [{k: v for k, v in entry.items() if k != "dev_uas"} for entry in HISTORY]
    assert [choice.criterion for choice in choices(without_dev)] == ["target_reconstruction"]
    assert likely_to_hurt(without_dev, None, 99.0) is None
    assert choices([{"epoch": 0}, {"epoch": 1}]) == ()


@pytest.mark.parametrize(
    ("kept", "accuracy", "warned"),
    [
        (2, 99.0, False),  # 14% changed, 30% likely wrong
        (3, 99.0, True),
        (None, 99.0, False),  # the last epoch agrees well
        (3, 74.0, False),  # alike: the source's dev sentences judge
        (3, None, True),
        (0, 99.0, False),
    ],
)
def test_more_changes_than_errors_in_a_far_domain_are_warned_of(
    kept: int | None, accuracy: float | None, warned: bool
) -> None:
    found = likely_to_hurt(HISTORY, kept, accuracy)
    assert (found is not None) == warned
    if warned:
        told = "it is not known how far apart the domains are"
        if accuracy is not None:
            told = "the domains are apart (told from each other 99% of the time)"
        assert found == (
            "adapting has likely hurt: it changed 40.0% of the heads on held-out target sentences, more than the 30% "
            f"that were likely wrong before, and {told}"
        )


def test_a_parser_without_errors_at_home_makes_some_away() -> None:
    assert (likely_wrong(99.0), likely_wrong(80.0)) == (25.0, 40.0)


@pytest.mark.parametrize("decoder", ["lm", "arcs"])
def test_the_watch_compares_with_the_model_it_was_made_with(build: Build, decoder: str) -> None:
    model = build(decoder=decoder)
    encoded = [model.indexer.encode(forms) for forms in FORMS]
    watch = TargetWatch(model, encoded)
    assert model.training
    model.eval()
    before = watch.values(model)
    assert before["target_agreement"] == 100.0
    heads = torch.cat([model.predict(model.indexer.batch([sentence]))[0][0, 1:] for sentence in encoded])
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    again = torch.cat([model.predict(model.indexer.batch([sentence]))[0][0, 1:] for sentence in encoded])
    after = watch.values(model)
    assert after["target_agreement"] == pytest.approx(100 * float((heads == again).double().mean()))
    assert after["target_agreement"] < 100
    assert after["target_reconstruction"] != before["target_reconstruction"]
    assert TargetWatch(model, []).values(model) == {}
