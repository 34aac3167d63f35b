"""Pictures of cases with their reference and a segmentation."""

from pathlib import Path

from tumorseg.ops.geometry import orient, orientation_of, spacing_of
from tumorseg.ops.labels import to_indices
from tumorseg.reports.overlays import OverlayInput, overlay_png
from tumorseg.schema.dataset import Case, DatasetDescription
from tumorseg.schema.targets import targets_of
from tumorseg.storage.images import read_image, read_segmentation


def case_overlay(dataset: DatasetDescription, case: Case, prediction: Path) -> bytes:
    """Draw a case as PNG; of its channels the one in which a tumour's rim is bright, or the first.

    Raises:
        InputError: a file cannot be read.
    """
    targets = targets_of(dataset)
    names = [channel.name.casefold() for channel in dataset.channels]
    volume = read_image(case.images[names.index("t1gd") if "t1gd" in names else 0])
    orientation = orientation_of(volume.affine)
    files = (str(case.label), str(prediction))
    reference, predicted = (orient(to_indices(read_segmentation(file).array, targets), orientation) for file in files)
    return overlay_png(
        OverlayInput(
            case_id=case.case_id,
            image=orient(volume.array, orientation),
            spacing_mm=spacing_of(volume.affine, orientation),
            reference=reference,
            prediction=predicted,
            class_names=targets.label_names,
        )
    )
