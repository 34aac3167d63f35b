"""Teachers beside a training: what they say of its batches, and the term of the loss that comes of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tumorseg.engine.accumulation import Outputs, listed
from tumorseg.engine.hints import TERM as HINTS
from tumorseg.engine.hints import Hints
from tumorseg.losses.compound import LossValue
from tumorseg.losses.distillation import distillation_loss
from tumorseg.ops.quantised import STEPS
from tumorseg.schema.distillation import Distillation
from tumorseg.schema.targets import Targets

TERM = "distillation"
"""Name of the term in logs."""
HALF_STEP = 0.5 / STEPS
"""Of what is read, which is kept in steps."""


class Teacher(NamedTuple):
    """A trained network that looks at the student's patches."""

    network: nn.Module
    """On the student's device, in eval mode; (B, C, *patch) -> logits (B, K, *patch)."""
    targets: Targets
    """What its outputs mean."""
    num_channels: int
    """Of the images, which come first; what a cascade is shown beside them is the student's own."""

    def probabilities(self, images: Tensor, parts: Sequence[Sequence[int]]) -> Tensor:
        """Return the probabilities (B, K, *patch), float32, of what a student predicts, each output made up of parts from `parts_of`."""
        logits: Tensor = self.network(images[:, : self.num_channels]).float()
        found = logits.sigmoid() if self.targets.has_regions else logits.softmax(1)
        # Without a copy where the outputs are the same.
        if list(parts) == [(number,) for number in range(found.shape[1])]:
            return found
        return torch.stack([found[:, list(numbers)].sum(1) for numbers in parts], dim=1)


def parts_of(own: Targets, wanted: Targets) -> list[tuple[int, ...]] | None:
    """Return, of each output of a student, which outputs of a teacher add up to it.

    Labels are told by their names, whatever their values and order; regions too, if they are of the same labels.

    Args:
        own: what the teacher predicts.
        wanted: what the student predicts.

    Returns:
        None if the one does not tell the other.
    """
    if set(own.label_names) != set(wanted.label_names):
        return None
    if not own.has_regions:
        asked = wanted.regions or tuple((index,) for index in range(wanted.num_classes))
        return [tuple(own.label_names.index(wanted.label_names[index]) for index in classes) for classes in asked]
    known, asked_names = _named_regions(own), _named_regions(wanted)
    if not wanted.has_regions or any(known.get(name) != labels for name, labels in asked_names.items()):
        return None
    return [(own.region_names.index(name),) for name in wanted.region_names]


def _named_regions(targets: Targets) -> dict[str, frozenset[str]]:
    """Return the names of the labels of each region by its name."""
    pairs = zip(targets.region_names, targets.regions, strict=True)
    return {name: frozenset(map(targets.label_names.__getitem__, classes)) for name, classes in pairs}


def with_background(stored: Tensor, targets: Targets) -> Tensor:
    """Return probabilities (B, K, *space) of all outputs; where these are classes, the background has what the others leave.

    What was rounded to 0 or 1 counts as half a step from it: a temperature would make much of the difference to none at all.
    """
    likely = stored.clamp(HALF_STEP, 1 - HALF_STEP)
    if targets.has_regions:
        return likely
    return torch.cat(((1 - likely.sum(1, keepdim=True)).clamp_min(HALF_STEP), likely), dim=1)


class Lesson(NamedTuple):
    """What is taught about a batch."""

    probabilities: Tensor
    """(B, K, *patch), float32: the mean over all teachers."""
    trust: Tensor | None
    """(B,) how far it is to be believed; None: wholly."""
    features: Tensor | None = None
    """(B, C', *patch) of the teacher that gives hints, if there is one."""


class Teaching:
    """All teachers of one student."""

    def __init__(self, spec: Distillation, targets: Targets, teachers: Sequence[Teacher], *, num_read: int = 0) -> None:
        """Hold them.

        Args:
            spec: of the plan.
            targets: what the student predicts.
            teachers: that look at its patches.
            num_read: of how many more teachers the mean comes with a batch.
        """
        self.spec, self._targets, self._num_read = spec, targets, num_read
        self.hints: Hints | None = None
        """What draws the student's features to those of the first of them, if the plan asks for it."""
        self._teachers = [(teacher, _checked(parts_of(teacher.targets, targets))) for teacher in teachers]

    @property
    def first(self) -> Teacher | None:
        """Return the first of those that look at patches; None if there is none."""
        return self._teachers[0][0] if self._teachers else None

    def forget(self) -> None:
        """Let go of what passes have left that came to no end, or that were no steps."""
        if self.hints is not None:
            self.hints.forget()

    def with_features(self, outputs: Outputs) -> Outputs:
        """Return what a student's network gave, its features last where there are hints: they have gradients as logits do."""
        return outputs if self.hints is None else [*listed(outputs), self.hints.student_features()]

    def without_features(self, outputs: Outputs) -> Outputs:
        """Return the logits among what `with_features` gave."""
        return outputs if self.hints is None else listed(outputs)[:-1]

    def probabilities(self, images: Tensor, read: Tensor | None) -> Tensor:
        """Return the mean probabilities (B, K, *patch) of all teachers.

        Args:
            images: (B, C, *patch) as the student sees them.
            read: (B, S, *patch) mean of those that have seen the cases before, without the background's; None if there are none.
        """
        count = len(self._teachers) + self._num_read
        total = images.new_zeros(())
        if read is not None:
            total = with_background(read, self._targets) * (self._num_read / count)
        with torch.no_grad():
            for teacher, parts in self._teachers:
                total = total + teacher.probabilities(images, parts) / count
        return total

    def joined(self, value: LossValue, outputs: Outputs, lesson: Lesson) -> LossValue:
        """Return a loss with the teachers' terms in it.

        Args:
            value: of the reference, over all resolutions.
            outputs: of the student, as from `with_features`; of its logits teachers have a say on the full resolution's alone.
            lesson: what they say.
        """
        levels = listed(outputs)
        term = distillation_loss(
            levels[0],
            lesson.probabilities,
            temperature=self.spec.temperature,
            has_regions=self._targets.has_regions,
            trust=lesson.trust,
        )
        total = (1 - self.spec.weight) * value.total + self.spec.weight * term
        components = value.components | {TERM: term.detach()}
        if self.hints is not None and lesson.features is not None:
            hints = self.hints.loss(levels[-1], lesson.features)
            total = total + self.spec.hints * hints
            components |= {HINTS: hints.detach()}
        return LossValue(total, components)


def _checked(parts: list[tuple[int, ...]] | None) -> list[tuple[int, ...]]:
    """Return the parts of a teacher that was found to tell what the student predicts."""
    assert parts is not None
    return parts
