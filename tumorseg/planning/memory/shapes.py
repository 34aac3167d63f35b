"""What rules for shapes are made of."""

from collections.abc import Sequence

import torch
from torch import Tensor


class NoRuleError(Exception):
    """The arguments are none that a rule is for."""


def require(is_usual: bool) -> None:
    """Leave arguments to torch's own rules unless they are usual.

    Raises:
        NoRuleError: they are not.
    """
    if not is_usual:
        raise NoRuleError


def require_axes(axes: Sequence[int], num_axes: int) -> None:
    """Require axes that there are, each once.

    Raises:
        NoRuleError: they are others.
    """
    require(all(-num_axes <= axis < num_axes for axis in axes))
    require(len({axis % num_axes for axis in axes}) == len(axes))


def new(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor of the device `meta`."""
    return torch.empty(tuple(shape), dtype=dtype, device="meta")
