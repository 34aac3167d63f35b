"""Duplicate and near-duplicate images."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.types import Box, FloatArray

GRID_3D, GRID_2D = (12, 12, 12), (1, 40, 40)
"""Blocks (Z, Y, X) that a signature has the means of."""
LEAST_LIKENESS = 0.9995
"""Correlation of two signatures from which on the images are near-duplicates, whatever the others look like."""
LEAST_OWN_LIKENESS = 0.95
"""The same of what sets two images apart from the mean of all: heads are much alike, yet differ from it each in its own way."""
FEWEST_FOR_MEAN = 5
"""Signatures whose mean tells what all have in common."""
SHARE_OF_KIND = 0.25
"""Share of all signatures that are taken for images of one kind: the nearest ones."""
ROWS = 1024
"""Signatures that are compared with as many others at a time."""
_ROUNDING = np.float32(0.01)
"""What 16 bits leave of a difference; below it there is none."""


def content_digest(array: NDArray[Any]) -> str:
    """Return a digest of an array's shape and values."""
    digest = hashlib.blake2b(repr((array.shape, array.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def signature(channel: FloatArray, box: Box) -> NDArray[np.float16] | None:
    """Return a small picture of an image, whatever its unit: means of blocks, mean 0, length 1; None if it is flat.

    Args:
        channel: (Z, Y, X), finite.
        box: where it is not empty.
    """
    inside = channel[tuple(slice(*interval) for interval in box)]
    blocks = inside.astype(np.float32)
    for axis, count in enumerate(GRID_2D if channel.shape[0] == 1 else GRID_3D):
        blocks = _block_means(blocks, axis, count)
    flat = blocks.ravel() - blocks.mean(dtype=np.float64)
    length = float(np.linalg.norm(flat))
    # Rounding leaves something of a flat image too, the more the greater its intensities are.
    return (flat / length).astype(np.float16) if length > 1e-6 * max(1.0, float(np.abs(inside).max())) else None


def _block_means(array: FloatArray, axis: int, count: int) -> FloatArray:
    """Return means of `count` blocks along an axis; of a shorter axis, voxels are repeated."""
    size = array.shape[axis]
    # Where starts repeat, `reduceat` gives the voxel itself: a block of size 1.
    starts = (np.arange(count) * size) // count
    sizes = np.maximum(np.diff([*starts, size]), 1)
    sums = np.add.reduceat(array, starts, axis=axis)
    means: FloatArray = sums / sizes.reshape([-1 if axis == i else 1 for i in range(array.ndim)])
    return means


def near_pairs(signatures: Sequence[NDArray[np.float16]]) -> Iterator[tuple[int, int]]:
    """Yield the index pairs of near-duplicates; 20,000 signatures take about half a minute.

    Args:
        signatures: as from `signature`, all of one length.
    """
    mean = _mean(signatures)
    for start in range(0, len(signatures), ROWS):
        rows = _stack(signatures[start : start + ROWS])
        for other in range(start, len(signatures), ROWS):
            columns = _stack(signatures[other : other + ROWS])
            likeness = rows @ columns.T
            is_candidate = np.zeros_like(likeness, np.bool_)
            # Whatever differs from the mean of all in the same way is worth the dearer look at its own kind.
            if mean is not None:
                is_candidate = _own(rows, mean) @ _own(columns, mean).T >= LEAST_OWN_LIKENESS
            for i, j in zip(*np.nonzero(is_candidate | (likeness >= LEAST_LIKENESS)), strict=True):
                first, second = int(start + i), int(other + j)
                if first < second and (likeness[i, j] >= LEAST_LIKENESS or _is_near_in_kind(signatures, first, second)):
                    yield first, second


def _is_near_in_kind(signatures: Sequence[NDArray[np.float16]], first: int, second: int) -> bool:
    """Tell whether two images are alike beyond what they share with others of their kind, such as those of one site."""
    pair = _stack([signatures[first], signatures[second]])
    blocks = (signatures[start : start + ROWS] for start in range(0, len(signatures), ROWS))
    likeness = np.concatenate([(_stack(block) @ pair.T).sum(axis=1) for block in blocks])
    # The two themselves must not shape the mean that is taken off them.
    likeness[[first, second]] = -np.inf
    count = min(max(FEWEST_FOR_MEAN, int(SHARE_OF_KIND * len(signatures))), len(signatures) - 2)
    nearest = np.argpartition(-likeness, count - 1)[:count]
    mean = np.mean([signatures[index].astype(np.float32) for index in nearest], axis=0)
    own = _own(pair, mean)
    return bool(own[0] @ own[1] >= LEAST_OWN_LIKENESS)


def _mean(signatures: Sequence[NDArray[np.float16]]) -> NDArray[np.float32] | None:
    if len(signatures) < FEWEST_FOR_MEAN:
        return None
    total = np.zeros(signatures[0].shape, np.float64)
    for one in signatures:
        total += one
    return (total / len(signatures)).astype(np.float32)


def _own(stacked: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what is left of signatures (N, D) without the mean, each of length 1; of one that equals the mean, nothing."""
    rest = stacked - mean
    lengths = np.linalg.norm(rest, axis=1, keepdims=True)
    return np.where(lengths > _ROUNDING, rest / np.maximum(lengths, _ROUNDING), np.float32(0))


def _stack(signatures: Sequence[NDArray[np.float16]]) -> NDArray[np.float32]:
    return np.stack(signatures).astype(np.float32)


def equal_groups(keys: Mapping[str, Hashable]) -> list[tuple[str, ...]]:
    """Return the names that have an equal key, in groups of two or more; a key of None equals no other."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name, key in keys.items():
        if key is not None:
            groups[key].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def joined_groups(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Return the groups of names that pairs join, directly or by way of others."""
    groups: dict[str, list[str]] = {}
    for first, second in pairs:
        left, right = groups.setdefault(first, [first]), groups.setdefault(second, [second])
        if left is not right:
            left += right
            groups.update(dict.fromkeys(right, left))
    # Names that are joined share one list.
    distinct = {id(group): group for group in groups.values()}
    return [tuple(sorted(group)) for group in distinct.values()]
