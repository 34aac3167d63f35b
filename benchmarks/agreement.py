"""How far label maps of two programs agree, and how well each agrees with the references."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import nibabel
import numpy as np

from tumorseg.types import Segmentation


class Overlap(NamedTuple):
    """Voxels of one label in two label maps."""

    first: int
    second: int
    both: int

    @property
    def dsc(self) -> float:
        """Return the Dice similarity coefficient; 1 where both are empty, as then the two agree."""
        total = self.first + self.second
        return 2 * self.both / total if total else 1.0


class Pair(NamedTuple):
    """Two folders of `<case_id>.nii.gz`, and the cases and labels to compare."""

    first: Path
    second: Path
    case_ids: tuple[str, ...]
    labels: Mapping[str, int]
    """Of the foreground, with their values."""


def agreement(pair: Pair) -> dict[str, Any]:
    """Return the share of the union of foregrounds with the same label, and the DSC of each label, over all voxels.

    The least DSC of any case and label stands beside them.
    """
    union = equal = 0
    overlaps: dict[str, list[Overlap]] = {name: [] for name in pair.labels}
    for first, second in _read_both(pair):
        foreground = (first > 0) | (second > 0)
        union += int(foreground.sum())
        equal += int((first == second)[foreground].sum())
        for name, value in pair.labels.items():
            overlaps[name].append(overlap(first, second, value))
    least = min(found.dsc for several in overlaps.values() for found in several)
    return {
        "union_voxels": union,
        "share_of_union": equal / union if union else 1.0,
        "dsc": {name: round(_pooled(several).dsc, 6) for name, several in overlaps.items()},
        "least_dsc_of_a_case": round(least, 6),
    }


def scores(pair: Pair) -> dict[str, float]:
    """Return each label's DSC of the first folder against the second, the references, as the mean over cases."""
    found: dict[str, list[float]] = {name: [] for name in pair.labels}
    for first, second in _read_both(pair):
        for name, value in pair.labels.items():
            found[name].append(overlap(first, second, value).dsc)
    return {name: round(mean(several), 5) for name, several in found.items()}


def overlap(first: Segmentation, second: Segmentation, value: int) -> Overlap:
    """Count the voxels of a value in two label maps of one shape."""
    is_first, is_second = first == value, second == value
    return Overlap(int(is_first.sum()), int(is_second.sum()), int((is_first & is_second).sum()))


def _pooled(several: Iterable[Overlap]) -> Overlap:
    return Overlap(*(sum(counts) for counts in zip(*several, strict=True)))


def _read_both(pair: Pair) -> Iterable[tuple[Segmentation, Segmentation]]:
    for case_id in pair.case_ids:
        first, second = (_read(folder / f"{case_id}.nii.gz") for folder in (pair.first, pair.second))
        if first.shape != second.shape:
            raise ValueError(f"{case_id}: label maps of {first.shape} and {second.shape} voxels")
        yield first, second


def _read(path: Path) -> Segmentation:
    return np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj).astype(np.int64)
