"""What a student's logits are short of its teachers' probabilities, softened by a temperature.

References:
    Hinton et al., Distilling the knowledge in a neural network, NIPS 2014 deep learning workshop.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_ODDS = 1e-7
"""Probabilities of regions are kept this far from 0 and 1, about as far as float32 tells them from these."""


def distillation_loss(
    logits: Tensor, probabilities: Tensor, *, temperature: float, has_regions: bool, trust: Tensor | None = None
) -> Tensor:
    """Return the Kullback-Leibler divergence of softened student from softened teachers, times the square of the temperature.

    That factor keeps the gradient's size, whatever the temperature. Voxels without a reference count as all others.

    Args:
        logits: (B, K, *space) of the student, of any floating type.
        probabilities: (B, K, *space) of the teachers: softmax, or sigmoids of regions.
        temperature: from 1 on.
        has_regions: whether outputs are independent sigmoids, over which the mean is taken.
        trust: (B,) weight of each case, from 0 to 1; None: 1 for all.

    Returns:
        A scalar: the mean over voxels and, by weight, over cases.
    """
    wide = logits.float() / temperature
    if has_regions:
        wanted = softened_regions(probabilities, temperature)
        # What the cross-entropy is above its least value, which it has where both agree.
        least = F.binary_cross_entropy(wanted, wanted, reduction="none")
        divergence = F.binary_cross_entropy_with_logits(wide, wanted, reduction="none") - least
    else:
        wanted = softened_classes(probabilities, temperature)
        divergence = F.kl_div(wide.log_softmax(1), wanted, reduction="none", log_target=True).sum(1)
    of_cases = divergence.flatten(1).mean(1)
    if trust is not None:
        of_cases = of_cases * trust.to(of_cases)
    return of_cases.mean() * temperature**2


def softened_classes(probabilities: Tensor, temperature: float) -> Tensor:
    """Return the logarithms of probabilities (B, K, *space) whose logits are divided by a temperature."""
    # The least positive number, as 0 has no logarithm; any larger one would be felt at a high temperature.
    logarithms = probabilities.float().clamp_min(torch.finfo(torch.float32).tiny).log()
    return (logarithms / temperature).log_softmax(1)


def softened_regions(probabilities: Tensor, temperature: float) -> Tensor:
    """Return independent probabilities (B, R, *space) whose logits are divided by a temperature."""
    return (probabilities.float().logit(eps=LEAST_ODDS) / temperature).sigmoid()
