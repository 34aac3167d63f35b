"""Stored pixels of a DICOM file, before any scaling.

What is not compressed, or by run lengths, is read by pydicom. Everything else (JPEG, lossless or not, JPEG-LS, JPEG 2000) goes through
the GDCM of SimpleITK, which has all of these codecs, in a process of its own; it is handed a bare copy without header, so that it scales and
turns nothing.

References:
    DICOM PS3.5, chapter 8: the encoding of pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.storage.dicom.decoder import Undecoded, decode
from tumorseg.storage.dicom.deflated import MOST_RATIO
from tumorseg.storage.dicom.files import KIND
from tumorseg.storage.formats.stored import damaged

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
COPIED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData")
"""What a decoder needs to know of grey pixels."""

MOST_PLANE_PIXELS = 1 << 28
"""Of one plane; a detector of 16384 by 16384 has as many."""
MOST_RLE = 64
"""Bytes that a byte of run lengths stands for at most: two are up to 128 times one."""
MOST_CODED = 1 << 16
"""The same of other codes, of which the best make a plane of nothing but zeros some thousand times smaller."""
RLE = "RLE Lossless"


def num_frames(dataset: Any) -> int:
    """Return how many planes a file holds."""
    return int(dataset.get("NumberOfFrames") or 1)


def read_frames(dataset: Any, path: str) -> NDArray[Any]:
    """Decode the grey pixels of a file.

    Args:
        dataset: as read by pydicom, its pixels included.
        path: for messages.

    Returns:
        Stored integers (frame, row, column).

    Raises:
        InputError: the pixels are damaged, or in a code that is not known.
    """
    if "PixelData" not in dataset:
        raise damaged(path, KIND, "the file ends before its pixels, or has none")
    check_claim(dataset, path, len(dataset.PixelData or b""))
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax.name != RLE:
        array = _decode_with_gdcm(dataset, path)
    else:
        array = _decode_with_pydicom(dataset)
    shape = (num_frames(dataset), int(dataset.Rows), int(dataset.Columns))
    if array.size != np.prod(shape):
        raise damaged(path, KIND, f"{array.size} pixels, {' x '.join(map(str, shape))} announced")
    return _without_unused_bits(array.reshape(shape), dataset)


def check_claim(dataset: Any, path: str, num_bytes: int) -> None:
    """Check that so many bytes can hold the grey pixels that a header announces, before memory is asked for.

    To be called in `reading`.

    Args:
        dataset: the header.
        path: for messages.
        num_bytes: of the pixels as stored, or of the whole file.

    Raises:
        InputError: they cannot.
    """
    shape = (num_frames(dataset), int(dataset.Rows), int(dataset.Columns))
    # By comparison, as a negative number of frames would be passed by a product.
    if (
        min(shape) < 1
        or shape[1] * shape[2] > MOST_PLANE_PIXELS
        or _announced_bytes(dataset) > _most(dataset, num_bytes)
    ):
        pixels = " x ".join(map(str, shape))
        raise damaged(path, KIND, f"{pixels} pixels announced, {num_bytes} bytes are there")


def _most(dataset: Any, num_bytes: int) -> int:
    """Return how many bytes of pixels so many stored ones can become."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        return (MOST_RLE if syntax.name == RLE else MOST_CODED) * num_bytes
    return (MOST_RATIO if syntax.is_deflated else 1) * num_bytes


def _announced_bytes(dataset: Any) -> int:
    """Return how many bytes the pixels have once unpacked."""
    bits = int(dataset.get("BitsAllocated") or 1)
    return num_frames(dataset) * int(dataset.Rows) * int(dataset.Columns) * bits // 8


def read_bits(dataset: Any, path: str, frame: int) -> NDArray[np.bool_]:
    """Return one plane (row, column) of pixels of one bit each.

    Raises:
        InputError: the file ends before it.
    """
    size = int(dataset.Rows) * int(dataset.Columns)
    first, last = frame * size, (frame + 1) * size
    # Frames follow each other bit by bit: one may begin in the middle of a byte.
    data = dataset.PixelData[first // 8 : (last + 7) // 8]
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[first % 8 :][:size]
    if bits.size < size:
        raise damaged(path, KIND, f"the file ends in plane {frame + 1} of {num_frames(dataset)}")
    return bits.reshape(int(dataset.Rows), int(dataset.Columns)).astype(bool)


def _decode_with_pydicom(dataset: Any) -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array

    array: NDArray[Any] = pixel_array(dataset, raw=True)
    return array


def _decode_with_gdcm(dataset: Any, path: str) -> NDArray[Any]:
    try:
        return decode(_bare_copy(dataset), _announced_bytes(dataset))
    except Undecoded as error:
        raise damaged(path, KIND, f"its pixels, in {dataset.file_meta.TransferSyntaxUID.name}, {error}") from None


def _bare_copy(dataset: Any) -> Any:
    """Return a picture of the same pixels that states nothing of what they mean."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    # Below 2.25 anyone may make UIDs; nobody sees this one.
    copy, instance = Dataset(), UID("2.25.1")
    for name in COPIED:
        copy[name] = dataset[name]
    copy.NumberOfFrames = num_frames(dataset)
    copy.SamplesPerPixel, copy.PhotometricInterpretation = 1, "MONOCHROME2"
    copy.SOPClassUID, copy.SOPInstanceUID = UID(SECONDARY_CAPTURE), instance
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    copy.file_meta.MediaStorageSOPClassUID, copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPClassUID, instance
    return copy


def _without_unused_bits(array: NDArray[Any], dataset: Any) -> NDArray[Any]:
    """Return pixels without what old files keep in the bits above them, such as overlays; signs are extended."""
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    unused = array.dtype.itemsize * 8 - bits
    if unused <= 0 or int(dataset.get("HighBit", bits - 1)) != bits - 1:
        return array
    moved: NDArray[Any] = (array << unused) >> unused
    return moved
