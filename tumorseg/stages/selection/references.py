"""Reference segmentations as they are scored: class indices on the grid that predictions lie on, kept beside these."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tumorseg.ops.cropping import box_slices, mask_box
from tumorseg.ops.geometry import restore_orientation, spacing_of
from tumorseg.ops.preprocessing import axis_order
from tumorseg.schema.base import content_hash
from tumorseg.schema.cases import reading_of
from tumorseg.schema.dataset import Case
from tumorseg.schema.plan import Plan
from tumorseg.schema.targets import IGNORE, Targets
from tumorseg.stages.opening.reading import read_case_image, read_case_indices
from tumorseg.stages.selection.combining_cases import IGNORED
from tumorseg.storage.probability_cache import StoredVolumes, Volumes, affine_rows, write_volumes

FORM_VERSION = 1
"""Raised when the same reference would be kept otherwise."""


def reference_keys(plan: Plan, targets: Targets, case_hashes: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each case's reference: the hash of its files, how they are read, and what their labels mean.

    Args:
        plan: by which they are read.
        targets: what labels mean.
        case_hashes: by case_id.
    """
    meaning = [list(targets.label_values), targets.ignore_value, targets.values_by_name]
    reading = reading_of(plan.dataset).model_dump(mode="json")
    parts = ["reference", FORM_VERSION, meaning, reading]
    return {case_id: content_hash([*parts, case_hash]) for case_id, case_hash in case_hashes.items()}


def write_reference(plan: Plan, case: Case, targets: Targets, folder: Path) -> Volumes:
    """Read a case's reference and write its class indices, in the axis order in which the image is stored.

    Args:
        plan: by which its files are read.
        case: with the channels of that plan.
        targets: what labels mean.
        folder: an empty one.

    Raises:
        InputError: the files cannot be read, or do not fit each other.
        StorageError: the folder cannot be written.
    """
    reading = reading_of(plan.dataset)
    found = read_case_image(case, reading, axis_order(plan))
    indices = restore_orientation(read_case_indices(case, found, targets, reading), found.orientation)
    kept = np.where(indices == IGNORE, IGNORED, indices).astype(np.uint16)
    box = mask_box(kept != 0) or ((0, 0), (0, 0), (0, 0))
    depth, rows, columns = kept.shape
    about = StoredVolumes(
        shape=(depth, rows, columns),
        spacing_mm=spacing_of(found.affine),
        affine=affine_rows(found.affine),
        box=(box[0], box[1], box[2]),
        num_volumes=1,
    )
    return write_volumes(folder, about, [kept[box_slices(box)]])
