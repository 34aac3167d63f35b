"""DSC pooled over patches: cheap enough for every epoch, not to be mistaken for a case's DSC."""

import torch
from torch import Tensor

from tumorseg.schema.targets import IGNORE, Targets


class PooledDice:
    """Counts of true and false voxels over batches."""

    def __init__(self, targets: Targets) -> None:
        """Begin with no voxels."""
        self._targets = targets
        self._table = membership(targets)
        self._counts: Tensor | None = None

    def add(self, logits: Tensor, segmentations: Tensor) -> None:
        """Count a batch, without waiting for the device.

        Args:
            logits: (B, K, *space).
            segmentations: (B, *space) class indices; `IGNORE` is left out.
        """
        if self._counts is None:
            self._table = self._table.to(segmentations.device)
            self._counts = torch.zeros(len(self._table), 2, dtype=torch.int64, device=segmentations.device)
        supervised = segmentations != IGNORE
        predicted = None if self._targets.has_regions else logits.argmax(dim=1)
        for number, classes in enumerate(self._targets.scored_classes):
            # A logit above 0 is a probability above a half; without regions what is scored is a single class.
            guess = logits[:, number] > 0 if predicted is None else predicted == classes[0]
            guess, truth = guess & supervised, self._table[number][segmentations]
            self._counts[number] += torch.stack(((guess & truth).sum(), guess.sum() + truth.sum()))

    def dsc(self) -> dict[str, float | None]:
        """Return the DSC of each label or region; None where there was nothing to find and nothing found."""
        names = self._targets.scored_names
        counts = [[0, 0] for _ in names] if self._counts is None else self._counts.tolist()
        found: dict[str, float | None] = {}
        for name, (overlap, total) in zip(names, counts, strict=True):
            found[name] = 2 * overlap / total if total else None
        return found


def membership(targets: Targets) -> Tensor:
    """Return (scored, classes + 1) bool: whether a label or region holds a class; the last column is that of `IGNORE`, -1."""
    table = torch.zeros(len(targets.scored_classes), targets.num_classes + 1, dtype=torch.bool)
    for row, classes in zip(table, targets.scored_classes, strict=True):
        row[list(classes)] = True
    return table
