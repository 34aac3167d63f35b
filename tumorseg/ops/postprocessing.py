"""What is done to a finished mask: largest parts kept, small ones removed, holes filled, tiny structures replaced."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from tumorseg.errors import InputError
from tumorseg.ops.cropping import box_slices, mask_box
from tumorseg.ops.metrics.components import components_of
from tumorseg.schema.ensembles import FillHoles, KeepLargest, PostprocessingStep, RemoveSmall, ReplaceSmall
from tumorseg.types import Mask, Segmentation, Spacing

BACKGROUND = "background"
_ROUNDING = 1e-6
"""Share of a voxel by which a volume may miss a whole number of voxels through rounding."""


class _Meaning(NamedTuple):
    """What the voxels of a segmentation stand for."""

    values: Mapping[str, int]
    voxel_mm3: float

    def num_voxels(self, volume_mm3: float) -> int:
        """Return the least number of voxels that make up a volume."""
        return math.ceil(volume_mm3 / self.voxel_mm3 - _ROUNDING)


def postprocess(
    segmentation: Segmentation,
    steps: Sequence[PostprocessingStep],
    *,
    spacing_mm: Spacing,
    values: Mapping[str, int],
) -> Segmentation:
    """Return a segmentation after some steps, one after the other.

    Parts are connected over faces, edges and corners, as in nnU-Net; of equally large ones the first in the order of the array counts as
    the largest. A hole is a part of the background, connected over faces, that touches neither the border of the image nor any label
    but the one that is filled: where several labels enclose it, it stays. In an image of one slice holes are those of the slice.

    Args:
        segmentation: (Z, Y, X), label values; it is not changed. 2D images are (1, Y, X).
        steps: names of labels stand in `values`.
        spacing_mm: (Z, Y, X).
        values: name of each label to its value; the background is 0, whether it is named or not.

    Returns:
        (Z, Y, X), a new array of the same type.

    Raises:
        InputError: a step names a label that is not there.

    References:
        Isensee et al., nnU-Net, Nature Methods 2021 (largest component, chosen on cross-validation); Isensee et al., nnU-Net for brain
        tumor segmentation, BrainLes 2020 (replacement of tiny enhancing tumour).
    """
    check_steps(steps, values)
    meaning = _Meaning({BACKGROUND: 0} | dict(values), math.prod(spacing_mm))
    found = segmentation.copy()
    for step in steps:
        _STEPS[step.kind](found, step, meaning)
    return found


def check_steps(steps: Sequence[PostprocessingStep], values: Mapping[str, int]) -> None:
    """Check that labels which steps name are there.

    Raises:
        InputError: one is not.
    """
    for step in steps:
        unknown = sorted(set(_named(step)) - set(values) - {BACKGROUND})
        if unknown:
            raise InputError(
                f"postprocessing {step.kind} names {', '.join(unknown)}; expected labels of the dataset ({', '.join(values)}); correct the step"
            )


def _named(step: PostprocessingStep) -> tuple[str, ...]:
    """Return the names of the labels that a step concerns."""
    match step:
        case KeepLargest() | RemoveSmall():
            return step.labels
        case FillHoles():
            return (step.label,)
        case ReplaceSmall():
            return step.label, step.by


def _keep_largest(found: Segmentation, step: KeepLargest, meaning: _Meaning) -> None:
    """Make background of all but the largest part."""

    def largest(sizes: np.ndarray) -> Mask:
        # The parts are numbered in the order of the array, so that the first of equals is taken; number 0 is no part.
        kept: Mask = np.arange(len(sizes)) == sizes.argmax()
        return kept

    _keep_parts(found, [meaning.values[label] for label in step.labels], largest)


def _remove_small(found: Segmentation, step: RemoveSmall, meaning: _Meaning) -> None:
    """Make background of parts below a volume."""
    least = meaning.num_voxels(step.least_mm3)
    _keep_parts(found, [meaning.values[label] for label in step.labels], lambda sizes: sizes >= least)


def _keep_parts(found: Segmentation, values: Sequence[int], which: Callable[[np.ndarray], Mask]) -> None:
    """Make background of the parts of some values together that are not kept.

    Args:
        found: (Z, Y, X), changed in place.
        values: of labels.
        which: is given the voxels (N + 1,) of parts by number, from 1 on, and returns (N + 1,) which are kept.
    """
    mask = _mask_of(found, values)
    box = mask_box(mask)
    if box is None:
        return
    inside = box_slices(box)
    parts = components_of(mask[inside], 26)
    kept = which(parts.sizes)
    lost = parts.places[~kept[parts.labels]]
    cut = found[inside]
    cut[np.unravel_index(lost, cut.shape)] = 0


def _mask_of(found: Segmentation, values: Sequence[int]) -> Mask:
    """Return where one of some values is."""
    mask: Mask = found == values[0]
    for value in values[1:]:
        mask |= found == value
    return mask


def _fill_holes(found: Segmentation, step: FillHoles, meaning: _Meaning) -> None:
    """Give a label the background that it alone encloses."""
    value = meaning.values[step.label]
    box = mask_box(found == value)
    if box is None:
        return
    # What the label encloses lies in its box, and not at its faces: beyond them there is none of the label.
    cut = found[box_slices(box)]
    # By voxels of the box, as most of them may be background: four bytes each, whatever its shape.
    numbers, num_parts = ndimage.label(cut == 0)
    is_other = (cut != 0) & (cut != value)
    is_hole = np.ones(num_parts + 1, dtype=np.bool_)
    for axis in range(cut.ndim):
        along, other = np.moveaxis(numbers, axis, 0), np.moveaxis(is_other, axis, 0)
        # In an image of one slice there is nothing beyond it.
        if found.shape[axis] > 1:
            is_hole[along[0]] = is_hole[along[-1]] = False
        is_hole[along[1:][other[:-1]]] = False
        is_hole[along[:-1][other[1:]]] = False
    # Number 0 is all that is no background.
    is_hole[0] = False
    if is_hole.any():
        cut[is_hole[numbers]] = value


def _replace_small(found: Segmentation, step: ReplaceSmall, meaning: _Meaning) -> None:
    """Give all of a label to another one where there is little of it."""
    mask = found == meaning.values[step.label]
    if np.count_nonzero(mask) < meaning.num_voxels(step.least_mm3):
        found[mask] = meaning.values[step.by]


_STEPS: dict[str, Callable[[Segmentation, Any, _Meaning], None]] = {
    "keep_largest": _keep_largest,
    "remove_small": _remove_small,
    "fill_holes": _fill_holes,
    "replace_small": _replace_small,
}
"""What carries out a step of each kind; each changes the array in place."""
