"""Stored pixels of a DICOM file, before any scaling.

What is not compressed, or by run lengths, is read by pydicom. Everything else (JPEG, lossless or not, JPEG-LS, JPEG 2000) goes through
the GDCM of SimpleITK, which has all of these codecs; it is handed a bare copy without header, so that it scales and turns nothing.

References:
    DICOM PS3.5, chapter 8: the encoding of pixels.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumorseg.storage.dicom.files import KIND
from tumorseg.storage.formats.stored import damaged

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
COPIED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData")
"""What a decoder needs to know of grey pixels."""


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
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax.name != "RLE Lossless":
        array = _decode_with_gdcm(dataset, path)
    else:
        array = _decode_with_pydicom(dataset)
    shape = (num_frames(dataset), int(dataset.Rows), int(dataset.Columns))
    if array.size != np.prod(shape):
        raise damaged(path, KIND, f"{array.size} pixels, {' x '.join(map(str, shape))} announced")
    return _without_unused_bits(array.reshape(shape), dataset)


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
    import SimpleITK

    with tempfile.TemporaryDirectory(prefix="tumorseg-") as folder:
        copy = Path(folder) / "pixels.dcm"
        _bare_copy(dataset).save_as(copy, enforce_file_format=True)
        try:
            reader: Any = SimpleITK.ImageFileReader()  # type: ignore[no-untyped-call]
            reader.SetFileName(str(copy))
            reader.SetImageIO("GDCMImageIO")
            array: NDArray[Any] = SimpleITK.GetArrayFromImage(reader.Execute())
        except RuntimeError:
            syntax = dataset.file_meta.TransferSyntaxUID.name
            raise damaged(path, KIND, f"its pixels, in {syntax}, cannot be decoded") from None
    return array


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
