"""What modules around MONAI's networks share."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tumorseg.errors import InputError
from tumorseg.schema.network_base import Network


class Wrapped(nn.Module):
    """Base class: parts of a network of MONAI, run one after the other."""

    def __init__(self, spec: Network) -> None:
        super().__init__()
        self.divisors = spec.divisors
        self.activation_checkpointing = False
        """Whether a part's inner activations are recomputed in the backward pass rather than kept."""
        self.draws_random_numbers = False
        """Whether layers do in training; none does, as no plan gives a network of MONAI dropout."""

    def check(self, images: Tensor) -> None:
        """Refuse images (B, C, *space) whose space is no multiple of the divisors.

        Raises:
            InputError: it is none.
        """
        space = images.shape[2:]
        has_right_axes = len(space) == len(self.divisors)
        if not has_right_axes or any(size % divisor for size, divisor in zip(space, self.divisors, strict=True)):
            raise InputError(
                f"a network of strides {self.divisors} got an image of {tuple(space)} voxels; "
                "each axis must be a multiple of its stride"
            )

    def run(self, part: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Return what a part makes of its inputs, its inner activations recomputed later where that is on."""
        if self.activation_checkpointing and torch.is_grad_enabled():
            draws = self.draws_random_numbers
            return cast(Tensor, checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=draws))
        return part(*inputs)
