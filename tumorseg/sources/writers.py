"""The layouts in which a dataset can be written."""

from tumorseg.schema.dataset import DatasetDescription
from tumorseg.sources import manifest, msd, nnunet
from tumorseg.sources.conversion import Writer
from tumorseg.sources.kept import renumbered


def _unchanged(description: DatasetDescription) -> DatasetDescription:
    """Return the description: a layout that takes any label values."""
    return description


WRITERS: dict[str, Writer] = {
    "nnunet": Writer(renumbered, nnunet.nnunet_files, nnunet.nnunet_documents, ("dataset.json",)),
    "msd": Writer(_unchanged, msd.msd_files, msd.msd_documents, ("dataset.json",)),
    "manifest": Writer(
        _unchanged, manifest.manifest_files, manifest.manifest_documents, (manifest.TESTS, manifest.FILE_NAMES[1])
    ),
}
"""By what `--to` says."""
