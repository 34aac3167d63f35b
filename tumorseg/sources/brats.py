"""The layout of BraTS 2021: a folder per case, `<id>/<id>_t1.nii.gz`, `_t1ce`, `_t2`, `_flair`, and `_seg` where labelled.

References:
    Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 benchmark, arXiv:2107.02314: label values and regions.
"""

from pathlib import Path

from tumorseg.schema.dataset import Case, Channel, Dataset, ImageFile, Region
from tumorseg.sources.folders import (
    Listing,
    build_case,
    build_dataset,
    find_image,
    folder_name,
    image_files,
    visible,
)

NEEDS = "a folder per case, <id>/<id>_t1.nii.gz, _t1ce, _t2, _flair, _seg"
CHANNELS = ("t1", "t1ce", "t2", "flair")
"""Names of the channels, in the order in which networks see them."""
LABELS = {"background": 0, "necrotic core": 1, "edema": 2, "enhancing tumour": 4}
"""BraTS's own label values; there is no 3."""
REGIONS = (
    Region(name="WT", labels=(1, 2, 4), value=2),
    Region(name="TC", labels=(1, 4), value=1),
    Region(name="ET", labels=(4,), value=4),
)
"""The nested regions that BraTS scores, outermost first, so that inner ones paint over it."""


def is_brats_case(folder: Path) -> bool:
    """Tell whether a folder holds a channel of a BraTS case of the folder's name."""
    return folder.is_dir() and any(find_image(folder, f"{folder_name(folder)}_{channel}") for channel in CHANNELS)


def is_brats(folder: Path) -> bool:
    """Tell whether a folder holds folders of BraTS cases."""
    return folder.is_dir() and any(is_brats_case(entry) for entry in visible(folder.iterdir()))


def read_brats(folder: Path) -> Dataset:
    """Read every case folder; folders without any image are no cases. Links are followed.

    A channel whose file is missing is given the path where it should be, so that its own case fails when it is read.

    Raises:
        InputError: there is no case.
    """
    cases = [_read_case(entry) for entry in visible(folder.iterdir()) if image_files(entry)]
    return build_dataset(
        folder,
        cases,
        name=folder_name(folder),
        channels=[Channel(name=name, kind="mr") for name in CHANNELS],
        labels=LABELS,
        regions=REGIONS,
    )


def list_brats(folder: Path) -> Listing:
    """List the cases of a folder of case folders, or the one case of a case folder.

    Raises:
        InputError: there is no case.
    """
    if not is_brats_case(folder):
        return Listing(CHANNELS, read_brats(folder).cases)
    return Listing(CHANNELS, (_read_case(folder),))


def find_brats_label(folder: Path) -> Path | None:
    """Return a case folder's segmentation, or None."""
    return find_image(folder, f"{folder_name(folder)}_seg")


def _read_case(folder: Path) -> Case:
    case_id = folder_name(folder)
    images = []
    for channel in CHANNELS:
        stem = f"{case_id}_{channel}"
        images.append(ImageFile(path=str(find_image(folder, stem) or folder / f"{stem}.nii.gz")))
    label = find_brats_label(folder)
    return build_case(folder, case_id=case_id, images=images, label=str(label) if label else None)
