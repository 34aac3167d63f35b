"""The mean of the largest values: on a CPU found without sorting them, on a GPU without waiting for their number."""

import numpy as np
import torch
from torch import Tensor

SCRATCH = 32
"""Bytes per value on a GPU: sorted values with their places, and what a radix sort needs beside them."""


def mean_of_largest(values: Tensor, count: Tensor | int) -> Tensor:
    """Return the mean of the largest values; of equal ones at the limit each counts the same part.

    Args:
        values: any shape.
        count: how many, 1 at least and no more than there are.
    """
    return sum_of_largest(values, count) / count


def sum_of_largest(values: Tensor, count: Tensor | int) -> Tensor:
    """Return the sum of the largest values, as for `mean_of_largest`; count may be 0."""
    # Not as_tensor, which copies a number to the device and waits for it.
    number = count if isinstance(count, Tensor) else torch.full((), count, device=values.device)
    limit: Tensor = kth_largest(values.detach().flatten(), number.clamp(min=1))
    above, equal = (values > limit).to(values.dtype), (values == limit).to(values.dtype)
    share = (number - above.sum()) / equal.sum().clamp(min=1)
    # With a count of 0 the largest value itself is the limit: nothing is above, and nothing of it is taken.
    return (values * above.addcmul_(equal, share)).sum()


@torch.library.custom_op("tumorseg::kth_largest", mutates_args=())
def kth_largest(values: Tensor, k: Tensor) -> Tensor:
    """Return the value (scalar) that k - 1 of (N) are above or equal to, k from 1."""
    if values.is_cuda:  # without waiting for k
        return values.sort(descending=True).values.gather(0, (k - 1).reshape(1).long())[0]
    # Voxels that do not count are all 0, and partition is slow where many are equal.
    found, least = values.numpy(), values.min()
    found = found[found > least.item()]
    if int(k) > len(found):
        return least
    place = len(found) - int(k)
    return torch.as_tensor(np.partition(found, place)[place], dtype=values.dtype)


@kth_largest.register_fake
def _(values: Tensor, k: Tensor) -> Tensor:
    return values.new_empty(())


def scratch_bytes(values: Tensor) -> int:
    """Return the most that is needed on a GPU beside values (N)."""
    return SCRATCH * values.numel()
