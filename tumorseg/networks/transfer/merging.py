"""Weights of a Swin transformer that merged other tokens than MONAI has merged since its version 1.5."""

from collections.abc import Mapping

import torch
from torch import Tensor

MERGED = {2: ("00", "10", "01", "11"), 3: ("000", "100", "010", "001", "110", "101", "011", "111")}
"""Tokens that a Swin transformer merges, in the order of their features: by number of axes, where they lie along each."""
MERGED_BEFORE = ("000", "100", "010", "001", "101", "010", "001", "111")
"""Those that MONAI before 1.5 merged in volumes: two of them twice, two of the eight never (MONAI's issues 4757 and 8284)."""
REDUCTION, SCALE, SHIFT = ".downsample.reduction.weight", ".downsample.norm.weight", ".downsample.norm.bias"
"""What makes the features of a merged token of those of its tokens: a matrix, after a layer norm."""


def with_distinct_tokens(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights that do to eight distinct tokens nearly what the given ones do to those that MONAI before 1.5 merged.

    The sum over a token that was taken twice is the same; the statistics of the layer norm, in which it counted twice, are not.

    Args:
        weights: of a network for volumes, by our names, axes as in MONAI's images. Those that are not of a merging are the same objects, and
            so are those of a merging that is not whole, or not finite.
    """
    found = dict(weights)
    for name in weights:
        stem = name.removesuffix(REDUCTION)
        names = [stem + part for part in (REDUCTION, SCALE, SHIFT)]
        if name == names[0] and set(names) <= weights.keys():
            matrix, scale, shift = (weights[one] for one in names)
            if _is_merging(matrix, scale, shift):
                found |= zip(names, _folded(matrix, scale, shift), strict=True)
    return found


def _is_merging(matrix: Tensor, scale: Tensor, shift: Tensor) -> bool:
    is_shaped = matrix.ndim == 2 and scale.shape == shift.shape == matrix.shape[1:] and len(scale) % len(MERGED[3]) == 0
    # What is not finite is refused later, by its name.
    return is_shaped and all(bool(one.isfinite().all()) for one in (matrix, scale, shift))


def _folded(matrix: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return matrix, scale and shift for distinct tokens."""
    places, number = MERGED[3], len(MERGED[3])
    scaled = (matrix.double() * scale.double()).reshape(len(matrix), number, -1)
    folded = torch.zeros_like(scaled)
    for position, place in enumerate(MERGED_BEFORE):
        folded[:, places.index(place)] += scaled[:, position]
    wide = folded.flatten(1)
    # The least shift of which the matrix makes the same: by the pseudoinverse, taken of the smaller product.
    inverse = torch.linalg.pinv(wide @ wide.T, hermitian=True)
    moved = wide.T @ (inverse @ (matrix.double() @ shift.double()))
    return wide.to(matrix.dtype), torch.ones_like(scale), moved.to(shift.dtype)
