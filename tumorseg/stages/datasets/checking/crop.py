"""Check of the label voxels that cropping to nonzero voxels would remove."""

from collections.abc import Iterator, Sequence

import numpy as np

from tumorseg.ops.cropping import box_slices, nonzero_box
from tumorseg.ops.labels import count_values
from tumorseg.schema.dataset import Case, DatasetDescription
from tumorseg.schema.findings import Finding, finding
from tumorseg.types import Image, Segmentation


def check_crop(
    case: Case, label: Segmentation, description: DatasetDescription, *, channels: Sequence[Image]
) -> Iterator[Finding]:
    """Yield the labels that lie where every channel is 0.

    Args:
        case: for the finding.
        label: (Z, Y, X), label values.
        description: names of the labels.
        channels: (Z, Y, X) each, all of them, on the label's grid.
    """
    inside = box_slices(nonzero_box(np.stack(channels)))
    counts = dict(zip(*count_values(label), strict=True))
    kept = dict(zip(*count_values(label[inside]), strict=True))
    listed = []
    for name, value in description.labels.items():
        lost = counts.get(value, 0) - kept.get(value, 0)
        if lost and value not in (0, description.ignore_label):
            listed.append(f"{lost} of {counts[value]} voxels of {name}")
    if listed:
        message = (
            f"every channel is 0 around {', '.join(listed)}, which cropping would take; where it takes a whole label, or over a tenth, "
            "`plan` does not crop the dataset; look whether image or label is cut off"
        )
        yield finding("cropped_label", message, cases=(case.case_id,), file=case.label)
