"""Loss and pooled DSC on held-out patches, the same ones each time."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.dividing import memory_explained
from tumorseg.engine.learner import Learner
from tumorseg.engine.patch_feed import FeedBatch
from tumorseg.engine.scores import PooledDice
from tumorseg.errors import TrainingError


class Validation(NamedTuple):
    """Loss and DSC of the present weights on held-out patches."""

    loss: float | None
    """Mean over batches, those whose loss was not finite left out; None without held-out cases."""
    dsc: dict[str, float | None]
    """Of each label or region over all patches; None where there was nothing to find and nothing found."""


@memory_explained("on held-out patches")
def validate(learner: Learner, batches: Iterable[FeedBatch] | None, *, iteration: int) -> Validation:
    """Score the network on held-out patches.

    Args:
        learner: the network and its loss.
        batches: held-out patches; None if there are none.
        iteration: steps of the training so far, for the error.

    Raises:
        TrainingError: the loss of no batch is finite, or memory runs out.
    """
    if batches is None:
        return Validation(None, {})
    pooled, totals = PooledDice(learner.targets), list[Tensor]()
    network = learner.predictor.eval()
    with torch.inference_mode():
        for batch in batches:
            with learner.autocast():
                # In evaluation a network returns full resolution alone.
                logits = learner.whole(_passed(network, batch.inputs.images, learner.division.factor))
            inputs = learner.joined(batch.inputs)
            totals.append(learner.loss_of(logits, inputs).total)
            pooled.add(logits, inputs.segmentations)
        # The device is waited for after all batches, not at each.
        losses = torch.stack(totals).tolist()
    if learner.teaching is not None:
        learner.teaching.forget()
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite:
        raise TrainingError(
            f"the validation loss became {losses[-1]} on every batch after iteration {iteration}; look at the held-out cases "
            "for extreme intensities, or set a lower optimizer.lr; earlier checkpoints are untouched"
        )
    return Validation(sum(finite) / len(finite), pooled.dsc())


def _passed(network: nn.Module, images: Tensor, num_parts: int) -> Tensor:
    """Return logits; of a batch that had to be divided, part by part."""
    if num_parts == 1:
        whole: Tensor = network(images)
        return whole
    return torch.cat([network(part) for part in images.tensor_split(min(num_parts, len(images)))])
