"""Shares of a batch, and a process alone."""

import pytest
import torch

from tumorseg.engine.ranks import ALONE, shares


@pytest.mark.parametrize("batch_size", [1, 2, 5, 12])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5])
def test_shares_are_all_items_once_in_order_and_differ_by_one_at_most(batch_size, num_ranks):
    found = shares(batch_size, num_ranks)
    assert [item for share in found for item in share] == list(range(batch_size))
    assert len(found) == num_ranks
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_a_process_alone_has_everything():
    tensor = torch.arange(6.0).reshape(3, 2)
    assert list(ALONE.share(3)) == [0, 1, 2]
    assert ALONE.whole(tensor, 3) is tensor
    ALONE.add_up([tensor])
    ALONE.follow_first(iter([tensor]))
    assert torch.equal(tensor, torch.arange(6.0).reshape(3, 2))
    assert (ALONE.any(True), ALONE.any(False), ALONE.of_first(2.5)) == (True, False, 2.5)
