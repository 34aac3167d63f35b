"""NRRD and MetaImage, the formats of ITK's world: told apart by their first bytes, since names are mixed up.

Their world is LPS unless they say otherwise; x and y are turned to RAS. Components of a voxel are the channels.
"""

from tumorseg.storage.formats.metaimage import open_metaimage
from tumorseg.storage.formats.nrrd import is_nrrd, open_nrrd
from tumorseg.storage.formats.stored import Stored

ENDINGS = (".nrrd", ".mha", ".mhd")
"""How a file's name may end."""


def open_itk(path: str, assumed_orientation: str | None = None) -> Stored:
    """Read and check the header.

    Args:
        path: of the file.
        assumed_orientation: where axes x, y, z point to if the header does not say; None for ITK's reading of it.

    Raises:
        InputError: the file is damaged or holds no image of two or three axes.
    """
    opener = open_nrrd if is_nrrd(path) else open_metaimage
    return opener(path, assumed_orientation)
