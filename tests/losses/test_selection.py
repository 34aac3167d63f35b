"""The mean of the largest values against sorting."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tumorseg.losses.selection import kth_largest, mean_of_largest, sum_of_largest


@given(
    values=arrays("float32", st.integers(1, 40), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0, 3.5])), data=st.data()
)
def test_the_mean_of_the_largest_is_that_of_sorted_values(values, data):
    k = data.draw(st.integers(1, len(values)))
    tensor = torch.from_numpy(values)
    ordered = tensor.sort(descending=True).values
    assert kth_largest(tensor, torch.tensor(k)) == ordered[k - 1]
    for count in (k, torch.tensor(k)):
        torch.testing.assert_close(mean_of_largest(tensor, count), ordered[:k].mean())


def test_equal_values_at_the_limit_share_the_gradient():
    values = torch.tensor([3.0, 1.0, 1.0, 1.0, 0.0], requires_grad=True)
    sum_of_largest(values, 2).backward()
    torch.testing.assert_close(values.grad, torch.tensor([1.0, 1 / 3, 1 / 3, 1 / 3, 0.0]))


@pytest.mark.parametrize("values", [[0.0, 0.0], [2.0, 1.0]])
def test_the_sum_of_none_is_0(values):
    leaf = torch.tensor(values, requires_grad=True)
    total = sum_of_largest(leaf, torch.tensor(0.0))
    total.backward()
    assert total == 0
    assert (leaf.grad == 0).all()


def test_the_operation_keeps_torchs_rules():
    torch.library.opcheck(kth_largest, (torch.rand(20), torch.tensor(3)))
