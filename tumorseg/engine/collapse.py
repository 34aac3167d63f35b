"""Whether a network in training finds each label at all in the patches that it is trained on."""

import torch
from torch import Tensor

from tumorseg.engine.ending import Length
from tumorseg.engine.faults import LOOK_EVERY, Seen, collapse_window, never_found, window_before_end
from tumorseg.engine.scores import membership
from tumorseg.schema.targets import Targets
from tumorseg.schema.training import Training


class LabelTally:
    """Counts of what batches have shown of each label or region."""

    def __init__(self, targets: Targets) -> None:
        """Begin with nothing."""
        self._targets = targets
        self._table = membership(targets)
        self._counts: Tensor | None = None

    def count(self, logits: Tensor, segmentations: Tensor) -> Tensor:
        """Return the counts of a batch, without waiting for the device.

        Args:
            logits: (B, K, *space).
            segmentations: (B, *space) class indices; voxels that are ignored are of no label.

        Returns:
            (labels or regions, 2): voxels that were found, and patches that had it.
        """
        self._table = self._table.to(segmentations.device)
        counts = torch.zeros(len(self._table), 2, dtype=torch.int64, device=segmentations.device)
        predicted = None if self._targets.has_regions else logits.argmax(dim=1)
        for number, classes in enumerate(self._targets.scored_classes):
            truth = self._table[number][segmentations]
            guess = logits[:, number] > 0 if predicted is None else predicted == classes[0]
            counts[number] = torch.stack(((guess & truth).sum(), truth.flatten(1).any(dim=1).sum()))
        return counts

    def add(self, counts: Tensor) -> None:
        """Add the counts of a batch whose step is certain."""
        self._counts = counts if self._counts is None else self._counts + counts

    def take(self) -> dict[str, Seen]:
        """Return the counts by name, and begin again with nothing."""
        if self._counts is None:
            return {}
        counts, self._counts = self._counts.tolist(), None
        return {name: Seen(*count) for name, count in zip(self._targets.scored_names, counts, strict=True)}


class CollapseWatch:
    """Looks at some steps up to half of a training, or to a sooner end, and then says which labels were never found."""

    def __init__(self, targets: Targets, training: Training, length: Length) -> None:
        """Decide when to look; at nothing if the training is too short to tell, or its plan does not want it.

        Args:
            targets: labels and regions.
            training: its planned length.
            length: knows whether it ends sooner.
        """
        is_wanted = training.restart_on_collapse
        self._planned = collapse_window(training.planned_epochs, training.iterations_per_epoch) if is_wanted else None
        self._tally, self._length = LabelTally(targets), length

    @property
    def _window(self) -> range | None:
        """Return the steps that are looked at, as the length is known now."""
        tail = self._length.tail
        if self._planned is None or tail is None:
            return self._planned
        return window_before_end(self._planned, tail.start, tail.end)

    def tally(self, iteration: int) -> LabelTally | None:
        """Return what is to be told of a step; None if nobody wants to know."""
        window = self._window
        if window is None or iteration not in window:
            return None
        # Each costs about as much as a hundredth of a step.
        return None if (iteration - window.start) % LOOK_EVERY else self._tally

    def keep(self, seen: dict[str, list[int]]) -> None:
        """Add what was seen since the last time to counts by name: hits and patches."""
        for name, found in self._tally.take().items():
            hits, patches = seen.get(name, (0, 0))
            seen[name] = [hits + found.num_hits, patches + found.num_patches]

    def lost_names(self, iteration: int, seen: dict[str, list[int]]) -> tuple[str, ...]:
        """Return the labels and regions that were never found, once half of the training, or a shorter one, is over."""
        window = self._window
        if window is None or iteration != window.stop:
            return ()
        return never_found({name: Seen(*counts) for name, counts in seen.items()})
