"""DSC pooled over patches: cheap enough for every epoch, not to be mistaken for a case's DSC."""

import torch
from torch import Tensor

from tumorseg.schema.targets import IGNORE, Targets


class PooledDice:
    """Counts of true and false voxels over batches."""

    def __init__(self, targets: Targets) -> None:
        """Begin with no voxels."""
        self._targets = targets
        self._overlap = [0] * len(targets.scored_classes)
        self._total = [0] * len(targets.scored_classes)

    def add(self, logits: Tensor, segmentations: Tensor) -> None:
        """Count a batch.

        Args:
            logits: (B, K, *space).
            segmentations: (B, *space) class indices; `IGNORE` is left out.
        """
        supervised = segmentations != IGNORE
        predicted = None if self._targets.has_regions else logits.argmax(dim=1)
        for number, classes in enumerate(self._targets.scored_classes):
            guess = logits[:, number] > 0 if predicted is None else predicted == classes[0]
            truth = torch.isin(segmentations, torch.tensor(classes, device=segmentations.device))
            guess = guess & supervised
            self._overlap[number] += int((guess & truth).sum())
            self._total[number] += int(guess.sum()) + int(truth.sum())

    def dsc(self) -> dict[str, float | None]:
        """Return the DSC of each label or region; None where there was nothing to find and nothing found."""
        rows = zip(self._targets.scored_names, self._overlap, self._total, strict=True)
        return {name: 2 * overlap / total if total else None for name, overlap, total in rows}
