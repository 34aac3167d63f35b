"""A batch that goes through the network part after part, with the loss and the gradient of the whole.

A loss of the batch is seldom the mean of those of its parts: Dice over the batch, hard voxels chosen from it, class weights
and numbers of supervised voxels counted in it. So every part goes through the network twice. The first pass keeps logits
alone; from those of all parts come the loss and its gradient. The second pass carries each part's share of it back.

References:
    Gao et al., Scaling deep contrastive learning batch size under memory limited setup, RepL4NLP 2021 (gradient caching).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tumorseg.engine.moments import Moment
from tumorseg.losses.compound import LossValue

Outputs = Tensor | Sequence[Tensor]
"""Logits (B, K, *space): of one resolution, or of several from full resolution down."""
Forward = Callable[[Tensor], Outputs]
"""Runs the network."""


def backward_in_parts(
    network: nn.Module, parts: Sequence[Tensor], *, forward: Forward, backward: Callable[[Outputs], LossValue]
) -> LossValue:
    """Add the gradient of a batch's loss to the network's parameters; return that loss.

    Args:
        network: what is trained; a pass may draw random numbers and change buffers, such as the running means of batch norm.
        parts: images (b, C, *patch) of each part.
        forward: runs it on a part.
        backward: computes the loss of the whole batch from its logits, runs its backward pass, and returns it detached.
    """
    # Before the first pass, which draws random numbers and changes buffers.
    moment = Moment(network, parts[0].device)
    logits = _logits(parts, forward)
    value = backward(logits)
    gradients = [level.grad for level in listed(logits)]
    # Their gradient is all that the second pass needs; the logits themselves would lie beside its activations.
    del logits
    with moment.replayed():
        first = 0
        for part in parts:
            carry_back(forward(part), gradients, first)
            first += len(part)
    return value


def _logits(parts: Sequence[Tensor], forward: Forward) -> Outputs:
    """Return the logits of all parts, at which a gradient stops."""
    with torch.no_grad():
        passed = [forward(part) for part in parts]
    levels = [torch.cat(level).requires_grad_() for level in zip(*map(listed, passed), strict=True)]
    return levels[0] if isinstance(passed[0], Tensor) else levels


def carry_back(outputs: Outputs, gradients: Sequence[Tensor | None], first: int) -> None:
    """Run the backward pass of a part, whose patches are those of the batch from `first` on."""
    pairs = zip(listed(outputs), gradients, strict=True)
    # Logits of a resolution without weight have no gradient.
    reached = [(output, gradient[first : first + len(output)]) for output, gradient in pairs if gradient is not None]
    torch.autograd.backward([output for output, _ in reached], [gradient for _, gradient in reached])


def listed(outputs: Outputs) -> Sequence[Tensor]:
    """Return logits as a list, from full resolution down."""
    return [outputs] if isinstance(outputs, Tensor) else outputs
