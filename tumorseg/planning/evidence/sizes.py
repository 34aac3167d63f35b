"""Sizes of targets on the grid of a plan."""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.planning.evidence.spacing import ANISOTROPY, TargetGrid
from tumorseg.schema.fingerprint import CaseMeasurement, Fingerprint
from tumorseg.schema.targets import targets_of

VIEW_3D, VIEW_2D = 128**3, 512**2
"""Voxels that a patch shows on an 8 GB GPU, of volumes and of flat images."""

ONE_IN = 3
"""All targets share one loss: a limit decides if one in so many targets, or more, is under it."""


class TargetSize(NamedTuple):
    """One label, or region, in the median of the cases that hold it; None for what was not measured."""

    name: str
    num_cases: int
    """Cases that hold it."""
    thickness_voxels: float | None
    """Mean length of its runs along the axis where they are shortest, thick slices not crossed."""
    share_of_case: float | None
    """Share of the case's voxels."""
    share_of_view: float | None
    """Share of the voxels of a patch, or of a smaller case, that shows all of it."""


class Wording(NamedTuple):
    """A figure of targets in words, and what lies on either side of its limit."""

    figure: str
    """Such as "target thickness"."""
    above: str
    """Of targets that reach the limit, such as "is at least 3 voxels across"."""
    under: str
    """Of others, behind "is" or "are", such as "under 3 voxels across"."""


class Judgement(NamedTuple):
    """Number of targets under a limit, and the least one."""

    least: str | None
    """Name of the least target; None if none was measured."""
    value: float | None
    """Its figure."""
    num_under: int
    num_measured: int

    @property
    def decides(self) -> bool:
        """Return whether enough targets are under the limit to choose by them."""
        return self.num_under > 0 and ONE_IN * self.num_under >= self.num_measured

    def describe(self, wording: Wording) -> str:
        """Return the judgement in words."""
        if not self.num_measured:
            return f"{wording.figure} was not measured"
        if not self.num_under:
            return f"every target {wording.above}"
        verb = "is" if self.num_under == 1 else "are"
        too_few = "" if self.decides else f", fewer than one in {ONE_IN}"
        return f"{self.num_under} of {self.num_measured} targets {verb} {wording.under}{too_few}"

    def inputs(self, least: str, figure: str) -> dict[str, JsonValue]:
        """Return the figures that it was made from, under these names."""
        # Significant digits, not decimals: shares go down to millionths.
        rounded = None if self.value is None else float(f"{self.value:.4g}")
        return {least: self.least, figure: rounded, f"num_{least}": self.num_under}


def judge(sizes: Sequence[TargetSize], figure: Callable[[TargetSize], float | None], limit: float) -> Judgement:
    """Return how many of the targets for which a figure was measured are under a limit."""
    measured = [(value, size.name) for size in sizes if (value := figure(size)) is not None]
    # By value, then by name, so that the order of labels makes no difference.
    value, least = min(measured, default=(None, None))
    return Judgement(least, value, sum(value < limit for value, _ in measured), len(measured))


class _Held(NamedTuple):
    """A target in one case that holds it."""

    voxels: int
    case: CaseMeasurement


def target_sizes(fingerprint: Fingerprint, target: TargetGrid) -> list[TargetSize]:
    """Return the sizes of every label, or of every region where there are any, that a case holds.

    Args:
        fingerprint: may lack `label_voxels` and `run_lengths_mm`, of some cases or of all.
        target: full-resolution grid, in canonical axis order.
    """
    targets = targets_of(fingerprint.dataset)
    sizes = []
    for name, classes in zip(targets.scored_names, targets.scored_classes, strict=True):
        held = _held_by(fingerprint.cases, [targets.label_names[index] for index in classes])
        sizes.append(_size(name, held, fingerprint.cases, target))
    return [size for size in sizes if size.num_cases]


def _held_by(cases: Sequence[CaseMeasurement], labels: Sequence[str]) -> list[_Held]:
    held = []
    for case in cases:
        counts = case.label_voxels or {}
        if voxels := sum(counts.get(label, 0) for label in labels):
            held.append(_Held(voxels, case))
    return held


def _size(name: str, held: Sequence[_Held], cases: Sequence[CaseMeasurement], target: TargetGrid) -> TargetSize:
    lengths = [case.run_lengths_mm[name] for case in cases if case.run_lengths_mm and name in case.run_lengths_mm]
    axes = _crossed_axes(target)
    thicknesses = []
    for runs_mm in lengths:
        thicknesses.append(min(runs_mm[axis] / target.spacing_mm[axis] for axis in axes))
    shares = [voxels / math.prod(case.shape_after_crop) for voxels, case in held]
    view_mm3 = (VIEW_2D if min(target.median_shape) == 1 else VIEW_3D) * math.prod(target.spacing_mm)
    return TargetSize(
        name=name,
        # Either measurement may be missing; what has voxels has runs.
        num_cases=max(len(held), len(lengths)),
        thickness_voxels=_median(thicknesses),
        share_of_case=_median(shares),
        share_of_view=_median([_share_of_view(one, view_mm3) for one in held]),
    )


def _crossed_axes(target: TargetGrid) -> list[int]:
    """Return the axes along which thinness is the structure's own: neither flat nor across thick slices."""
    # A case of a single voxel is flat along every axis.
    deep = [axis for axis, size in enumerate(target.median_shape) if size > 1] or [0, 1, 2]
    finest = min(target.spacing_mm[axis] for axis in deep)
    return [axis for axis in deep if target.spacing_mm[axis] <= ANISOTROPY * finest]


def _share_of_view(held: _Held, view_mm3: float) -> float:
    voxel_mm3 = math.prod(held.case.spacing_mm)
    # A case that is smaller than a patch is all that there is to see: padding does not count.
    return held.voxels * voxel_mm3 / min(math.prod(held.case.shape_after_crop) * voxel_mm3, view_mm3)


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
