"""Probabilities of logits, and how unsure they are, slice by slice.

With labels the outputs exclude each other (softmax); regions are decided one by one (sigmoid). Every map lies between 0 and 1.

References:
    Shannon (1948). A Mathematical Theory of Communication. Bell System Technical Journal 27. The entropy.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tumorseg.schema.targets import Targets

STEPS = 65535
"""The largest stored value, which stands for 1."""


def probabilities(logits: Tensor, targets: Targets) -> Tensor:
    """Return the probability of each class, or of each region.

    Args:
        logits: (K, Y, X), float32.
        targets: what the K outputs mean.

    Returns:
        (K, Y, X); those of classes add up to 1.
    """
    return logits.sigmoid() if targets.has_regions else logits.softmax(dim=0)


def entropy(logits: Tensor, targets: Targets) -> Tensor:
    """Return how evenly the probabilities are spread: 0 where one is sure, 1 where all are equal.

    With labels this is the entropy of the K classes over the largest that it can be, ln K; with regions the mean over
    regions of the entropy of inside and outside, in bits.

    Args:
        logits: (K, Y, X), float32.
        targets: what the K outputs mean.

    Returns:
        (Y, X).
    """
    if targets.has_regions:
        inside = logits.sigmoid()
        # Logarithms of probabilities from the logits themselves: a probability of 0 has none.
        spread = inside * F.softplus(-logits) + (1 - inside) * F.softplus(logits)
        return spread.mean(dim=0) / math.log(2)
    # One class alone is always sure.
    largest = math.log(max(len(logits), 2))
    logarithms = logits.log_softmax(dim=0)
    return -(logarithms.exp() * logarithms).sum(dim=0) / largest


def disagreement(logits: Tensor, votes: Tensor, targets: Targets) -> Tensor:
    """Return the share of members (folds and mirrored views) that decided otherwise than all of them together.

    With regions it is the largest share over the regions.

    Args:
        logits: (K, Y, X), float32, the mean over members, by which they decide together.
        votes: (K, Y, X), share of members that decided for each class, or for each region, by themselves.
        targets: what the K outputs mean.

    Returns:
        (Y, X).
    """
    if targets.has_regions:
        # As in restoration: a logit above 0 is a probability above a half.
        return torch.where(logits > 0, 1 - votes, votes).amax(dim=0)
    chosen = logits.argmax(dim=0, keepdim=True)
    return 1 - votes.gather(0, chosen)[0]


def in_steps(shares: Tensor) -> NDArray[np.uint16]:
    """Return values from 0 to 1 as integers from 0 to 65535; votes that were interpolated may lie a rounding beside that range."""
    steps = (shares * STEPS).round_().clamp_(0, STEPS)
    # CPUs know this type, not every device does.
    return np.asarray(steps.cpu().to(torch.uint16).numpy())
