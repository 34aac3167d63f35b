"""STAPLE: the truth that is likeliest behind several models' masks, estimated together with how far each of them is right.

Whole masks go into it, as each model decides by itself: the likeliest label, or each region with a probability above a half. It knows
neither weights nor probabilities.

References:
    Warfield, Zou, Wells (2004). Simultaneous Truth and Performance Level Estimation. IEEE TMI 23(7). Binary masks.
    Rohlfing, Russakoff, Maurer (2004). Performance-based classifier combination in atlas-based image segmentation. IEEE TMI 23(8). Labels.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tumorseg.errors import InputError
from tumorseg.ops.cropping import box_slices
from tumorseg.ops.geometry import restore_orientation
from tumorseg.ops.labels import paint_regions, to_values
from tumorseg.schema.targets import Targets
from tumorseg.stages.inference.member_runs import MemberRun
from tumorseg.stages.inference.segment_case import within_memory
from tumorseg.types import Mask, Segmentation

MOST_REGIONS = 64
"""Each is a bit of a voxel while masks are gathered."""


def staple(runs: Iterable[MemberRun], targets: Targets, thresholds: Mapping[str, float]) -> Segmentation:
    """Return what the members' masks come to.

    Args:
        runs: the members, one after the other; nobody may hold the turn at the networks.
        targets: what masks hold.
        thresholds: region to the probability above which it is painted; 0.5 where it is not there.

    Returns:
        Label values (Z, Y, X) in the stored order.

    Raises:
        InputError: there are too many regions, logits are not finite, or the GPU's memory does not suffice.
    """
    if len(targets.regions) > MOST_REGIONS:
        raise InputError(f"found {len(targets.regions)} regions, STAPLE takes {MOST_REGIONS}; give another --method")
    masks = [_own_mask(run, targets) for run in runs]
    if not targets.has_regions:
        return to_values(staple_labels(masks, targets.num_classes), targets)
    found = []
    for number, name in enumerate(targets.region_names):
        inside = [(mask >> number & 1).astype(bool) for mask in masks]
        found.append(staple_region(inside, threshold=thresholds.get(name, 0.5)))
    return paint_regions(np.stack(found), targets)


def staple_labels(masks: Sequence[NDArray[Any]], num_classes: int) -> NDArray[Any]:
    """Return the likeliest class index of each voxel.

    Where SimpleITK leaves it undecided, as several are equally likely, the first mask decides.

    Args:
        masks: class indices (Z, Y, X), unsigned; all of one type, which also holds `num_classes`.
        num_classes: background included.
    """
    if _are_equal(masks):
        return masks[0]
    import SimpleITK

    joined: Any = SimpleITK.MultiLabelSTAPLEImageFilter()  # type: ignore[no-untyped-call]
    joined.SetLabelForUndecidedPixels(num_classes)
    found = SimpleITK.GetArrayFromImage(joined.Execute([SimpleITK.GetImageFromArray(mask) for mask in masks]))
    return np.where(found == num_classes, masks[0], found)


def staple_region(masks: Sequence[Mask], *, threshold: float = 0.5) -> Mask:
    """Return where a region is more probable than a threshold.

    Args:
        masks: (Z, Y, X), whether each voxel is inside.
        threshold: of the probability.
    """
    if _are_equal(masks):
        return masks[0]
    import SimpleITK

    joined: Any = SimpleITK.STAPLEImageFilter()  # type: ignore[no-untyped-call]
    joined.SetForegroundValue(1)
    images = [SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
    probability: NDArray[np.float64] = SimpleITK.GetArrayFromImage(joined.Execute(images))
    return probability > threshold


def _are_equal(masks: Sequence[NDArray[Any]]) -> bool:
    """Return whether there is nothing to be estimated: of what is in no voxel, or in all, rates would be 0 / 0."""
    return all(np.array_equal(mask, masks[0]) for mask in masks[1:])


def _own_mask(run: MemberRun, targets: Targets) -> NDArray[Any]:
    """Return what a member decides by itself (Z, Y, X) in the stored order: class indices, or a bit for each region."""
    with run.model.runtime.turn:
        mask = within_memory([run.model], partial(_decide, run, targets), run.options)
    return np.ascontiguousarray(restore_orientation(mask, run.orientation))


def _decide(run: MemberRun, targets: Targets) -> NDArray[Any]:
    largest = 2 ** len(targets.regions) - 1 if targets.has_regions else targets.num_classes
    mask = np.zeros(run.prepared.shape, np.min_scalar_type(largest))
    answer = run.begin(targets)
    *_, depth, rows, columns = box_slices(answer.box)
    # Slices that never came would be background without anyone noticing.
    for position, word in zip(range(depth.start, depth.stop), answer.words, strict=True):
        mask[position, rows, columns] = _decided(word.probabilities, targets).astype(mask.dtype)
    return mask


def _decided(probabilities: Tensor, targets: Targets) -> NDArray[Any]:
    if not targets.has_regions:
        return np.asarray(probabilities.argmax(dim=0).cpu().numpy())
    inside = (probabilities > 0.5).cpu().numpy()
    bits = np.zeros(inside.shape[1:], np.uint64)
    for number, region in enumerate(inside):
        bits |= region.astype(np.uint64) << np.uint64(number)
    return bits
