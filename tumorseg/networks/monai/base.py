"""What modules around MONAI's networks share."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

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

    def run(self, part: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Return what a part makes of its inputs, its inner activations recomputed later where that is on."""
        if self.activation_checkpointing and torch.is_grad_enabled():
            draws = self.draws_random_numbers
            return cast(Tensor, checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=draws))
        return part(*inputs)
