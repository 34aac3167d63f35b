"""Centre and extent of each label of a segmentation, found in one pass over the foreground."""

import numpy as np
from numpy.typing import NDArray

from tumorseg.schema.fingerprint import LabelPlace
from tumorseg.types import Segmentation, Spacing


def label_places(indices: Segmentation, num_classes: int, spacing_mm: Spacing) -> dict[int, LabelPlace]:
    """Return where the voxels of each class index from 1 lie; those without a voxel are left out.

    Args:
        indices: (Z, Y, X); what is below 1 is in no class.
        num_classes: class indices are below.
        spacing_mm: voxel edges.
    """
    profiles = _profiles(indices, num_classes)
    places = {}
    for index in range(1, num_classes):
        of_class = [profile[index] for profile in profiles]
        if of_class[0].any():
            places[index] = _place(of_class, spacing_mm)
    return places


def _profiles(indices: Segmentation, num_classes: int) -> list[NDArray[np.int64]]:
    """Return for each axis the voxels (class index, position) of every class."""
    where = np.flatnonzero(indices > 0)
    classes = indices.ravel()[where].astype(np.int64)
    positions = np.unravel_index(where, indices.shape)
    profiles = []
    for size, position in zip(indices.shape, positions, strict=True):
        # Class and position as one number, so that a single count serves all classes.
        counts = np.bincount(classes * size + position, minlength=num_classes * size)
        profiles.append(counts.reshape(num_classes, size))
    return profiles


def _place(profiles: list[NDArray[np.int64]], spacing_mm: Spacing) -> LabelPlace:
    centroid, low, high = [], [], []
    for profile, edge in zip(profiles, spacing_mm, strict=True):
        occupied = np.flatnonzero(profile)
        centroid.append(edge * float(profile @ np.arange(profile.size)) / float(profile.sum()))
        low.append(edge * float(occupied[0]))
        high.append(edge * float(occupied[-1]))
    return LabelPlace(centroid_mm=tuple(centroid), low_mm=tuple(low), high_mm=tuple(high))
