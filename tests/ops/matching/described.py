"""Descriptions of datasets as sources give them."""

from tumorseg.schema.dataset import DatasetDescription, Region
from tumorseg.sources.brats import CONVENTIONS


def described(name, labels, regions=(), channels=("FLAIR", "T1"), **changes):
    """Return a dataset; regions are name to values, painted with their first one."""
    made = tuple(Region(name=key, labels=values, value=values[0]) for key, values in dict(regions).items())
    fields = {"name": name, "channels": channels, "labels": {"background": 0, **labels}, "regions": made}
    return DatasetDescription(**fields | changes)


BRATS_2021, BRATS_2023 = (
    DatasetDescription(name=name, **convention.description())
    for name, convention in zip(("BraTS2021", "BraTS2023"), CONVENTIONS, strict=True)
)
MSD_BRAIN = described(
    "MSD_Brain",
    {"edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3},
    channels=("FLAIR", "T1w", "t1gd", "T2w"),
)
WHOLE = described("Whole", {"WT": 1})
