"""A patch on its way through augmentation, and what a transform is."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from tumorseg.augmentation.dice import Dice
from tumorseg.schema.transforms.base import PatchFacts


class Sample(NamedTuple):
    """One patch on some device; transforms may change its tensors in place, as they are nobody else's."""

    image: Tensor
    """(C, *space), float32."""
    segmentation: Tensor
    """(M, *space) integer: the reference, and in a cascade the previous segmentation (M 1 or 2)."""
    maps: Tensor
    """(D, *space) float32: values that belong to voxels, such as distances; D may be 0."""


class Transform(NamedTuple):
    """A transform, in two halves: everything random is drawn on the CPU first, and carried out on the sample's device after."""

    draw: Callable[[Any, PatchFacts, Dice], Any]
    """Takes the transform's record; returns a NamedTuple of what was drawn, or None where the sample is left alone."""
    apply: Callable[[Sample, Any, PatchFacts], Sample]
    """Takes what was drawn. Tensors keep their types."""
    source_size: Callable[[Any, PatchFacts], tuple[int, ...]] | None = None
    """Takes what was drawn; returns the voxels per axis that it looks at, for one that looks beyond the patch."""
    makes_new: bool = False
    """Whether `apply` returns new tensors; if not, it may write into those that it is given."""
    layer: Callable[[Sample, Any, PatchFacts], Tensor] | None = None
    """Takes the sample as it was read and what was drawn; returns a map (1, *space) float32 that moves along, and is the last of the maps
    when the transform is applied, which takes it off."""


def center_crop(tensor: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return a view of the central voxels of the last axes; of two middles the lower."""
    for axis, length in enumerate(size, start=tensor.ndim - len(size)):
        tensor = tensor.narrow(axis, (tensor.shape[axis] - length) // 2, length)
    return tensor
