"""Metrics of centre lines."""

import numpy as np

from tumorseg.ops.metrics.overlap import Scores
from tumorseg.ops.metrics.pairs import MaskPair
from tumorseg.types import Mask


def centreline_dice(pair: MaskPair) -> Scores:
    """Return the centre-line Dice: how well two masks agree in their branches, whatever their width.

    Both masks empty: undefined. One of them, or neither skeleton in the other mask: 0.

    References:
        Shit et al., clDice: a novel topology-preserving loss function for tubular structure segmentation, CVPR 2021.
    """
    if pair.num_empty:
        return {"cl_dice": None if pair.num_empty == 2 else 0.0}
    precision = _share_inside(skeleton(pair.prediction), pair.reference)
    sensitivity = _share_inside(skeleton(pair.reference), pair.prediction)
    both = precision + sensitivity
    return {"cl_dice": 2 * precision * sensitivity / both if both else 0.0}


def _share_inside(line: Mask, mask: Mask) -> float:
    return int(np.count_nonzero(line & mask)) / int(np.count_nonzero(line))


def skeleton(mask: Mask) -> Mask:
    """Return the centre lines of a mask, one voxel wide: by Lee's thinning in 3D, by Zhang's in the plane of a 2D image.

    Args:
        mask: (Z, Y, X), bool, not empty. An axis of one voxel makes it a 2D image.

    Returns:
        (Z, Y, X), bool, not empty: where thinning leaves nothing, the mask itself.

    References:
        Lee et al., Building skeleton models via 3-D medial surface/axis thinning algorithms, 1994; Zhang & Suen, CACM 1984.
    """
    # Its import takes half a second, which nobody else should wait for.
    from skimage.morphology import skeletonize

    flat = next((axis for axis, size in enumerate(mask.shape) if size == 1), None)
    drawn = mask if flat is None else mask.squeeze(flat)
    thin: Mask = skeletonize(drawn).astype(np.bool_).reshape(mask.shape)  # type: ignore[no-untyped-call]
    return thin if thin.any() else mask
