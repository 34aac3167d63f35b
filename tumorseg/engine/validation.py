"""Loss and pooled DSC on held-out patches, the same ones each time."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

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


def validate(learner: Learner, batches: Iterable[FeedBatch] | None, *, iteration: int) -> Validation:
    """Score the network on held-out patches.

    Args:
        learner: the network and its loss.
        batches: held-out patches; None if there are none.
        iteration: steps of the training so far, for the error.

    Raises:
        TrainingError: the loss of no batch is finite.
    """
    if batches is None:
        return Validation(None, {})
    pooled, totals = PooledDice(learner.targets), list[Tensor]()
    learner.network.eval()
    with torch.inference_mode():
        for batch in batches:
            with learner.autocast():
                # In evaluation a network returns full resolution alone.
                logits = learner.whole(learner.network(batch.inputs.images))
            inputs = learner.joined(batch.inputs)
            totals.append(learner.loss_of(logits, inputs).total)
            pooled.add(logits, inputs.segmentations)
        # The device is waited for after all batches, not at each.
        losses = torch.stack(totals).tolist()
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite:
        raise TrainingError(
            f"the validation loss became {losses[-1]} on every batch after iteration {iteration}; look at the held-out cases "
            "for extreme intensities, or set a lower optimizer.lr; earlier checkpoints are untouched"
        )
    return Validation(sum(finite) / len(finite), pooled.dsc())
