"""Tags that trees give to words."""

from __future__ import annotations

import torch

from parser_vae.training.dcst import FARTHEST, tree_tags


def test_tags_of_a_tree() -> None:
    # the(2) old(3)... 1 <- 2 <- 3 = root, 4 and 5 hang on 3; a second, shorter tree beside it
    heads = torch.tensor([[0, 2, 3, 0, 3, 3], [0, 0, 1, 0, 0, 0]])
    tags = tree_tags(heads, torch.tensor([5, 2]))
    assert tags["valency"][0, 1:].tolist() == [0, 1, 3, 0, 0]
    assert tags["depth"][0, 1:].tolist() == [3, 2, 1, 2, 2]
    assert tags["head"][0, 1:].tolist() == [FARTHEST + 1, FARTHEST + 1, 0, 1, 2]
    assert tags["valency"][1, 1:3].tolist() == [1, 0]
    assert tags["depth"][1, 1:3].tolist() == [1, 2]
    assert tags["head"][1, 1:3].tolist() == [0, 1]
