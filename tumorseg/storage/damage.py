"""The one list of what reading a damaged file may raise, a library at a time.

The border of each format catches its library's list and names the file; elsewhere these types are left alone. Where a library is loaded only
when a file of its kind is met, its list is a function, to be called in the `except` clause: that is looked at only if something was raised.
"""

import struct
import tarfile
import zlib
from pickle import UnpicklingError
from typing import cast
from zipfile import BadZipFile, LargeZipFile

from isal.igzip_lib import IsalError

Damage = tuple[type[Exception], ...]

PARSING: Damage = (
    ValueError,  # no number, no text of its encoding, no such shape; an InputError is one as well
    LookupError,  # nothing under a key or number that others refer to, or an unknown encoding of text
    TypeError,  # one thing where another belongs: a text for a sequence, None for a number
    AttributeError,  # the same, or an element that is missing
    ArithmeticError,  # OverflowError of great integers, decimal.InvalidOperation, ZeroDivisionError
    MemoryError,  # a length of gigabytes in a file that has not as many
    NotImplementedError,  # a code or a version that a library knows of, but not how to read
    RecursionError,  # parts that nest without end
    AssertionError,  # what a library takes for granted
    struct.error,  # fewer bytes than a number takes
)
"""What Python's own parsing raises for bytes that make no sense, in whatever library."""
GZIP: Damage = (
    OSError,  # gzip.BadGzipFile and bzip2's errors are such; or the disk fails
    EOFError,  # the file was cut off
    ValueError,  # seeking to where nothing can be
    OverflowError,  # the same, beyond 64 bits
    zlib.error,  # bytes were changed, or a checksum fails
    cast("type[Exception]", IsalError),  # ISA-L's word for zlib.error; its stub calls the class an instance
)
"""Unpacking of gzip, zlib and bzip2, and reading a file at all."""
TEXT_HEADERS: Damage = (
    *GZIP,
    MemoryError,  # numbers by the million in a line
)
"""MetaImage and NRRD, which are read without a library: text, then voxels, packed or not."""
GDCM: Damage = (
    RuntimeError,  # every exception of ITK
    MemoryError,  # its std::bad_alloc
)
"""SimpleITK's GDCM, which decodes DICOM's packed pixels."""
TAR: Damage = (
    tarfile.TarError,
    OSError,
    EOFError,
    ValueError,  # numbers that are none
    OverflowError,  # numbers beyond 64 bits
    RecursionError,  # headers that announce headers
    LookupError,  # pax headers in an unknown encoding
    MemoryError,  # a name of gigabytes
)
"""tarfile."""
ZIPFILE: Damage = (
    BadZipFile,
    LargeZipFile,  # sizes that claim another form
    OSError,
    EOFError,  # an entry was cut off
    ValueError,  # numbers that are none, names that are not of their encoding
    RuntimeError,  # an entry that says it is encrypted; NotImplementedError is one as well
    LookupError,  # parts of fields that are not there
    OverflowError,  # offsets beyond 64 bits
    MemoryError,  # a directory of gigabytes
    struct.error,
    zlib.error,
)
"""zipfile; torch's files are such archives, and numpy's .npz."""
NUMPY: Damage = (
    *ZIPFILE,  # an array is a zip archive if it begins as one
    SyntaxError,  # numpy parses the header as Python's literals
    TypeError,  # of which it takes types and shapes for granted
)
"""np.load of .npy and .npz, without pickles."""
TORCH: Damage = (
    *PARSING,
    OSError,
    EOFError,
    RuntimeError,  # PyTorch's archive reader, and tensors that do not fit their storage
    UnpicklingError,  # what is not among the few things that a file of weights may hold
    BadZipFile,
    SyntaxError,  # types of numpy's numbers
)
"""torch.load of weights only, archives and the older form alike; memory that is short is told by RuntimeError and OSError, too."""


def of_nibabel() -> Damage:
    """Return what nibabel raises for a damaged NIfTI file, compressed or not."""
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError
    from nibabel.wrapstruct import WrapStructError

    return (
        *GZIP,
        HeaderDataError,  # fields that contradict the format
        HeaderTypeError,  # and each other
        WrapStructError,  # too few bytes for a header
        LookupError,  # a code that no table has
        TypeError,  # a type that numpy does not know
        ArithmeticError,  # sizes of which the product is beyond any number
        MemoryError,  # sizes beyond any memory
    )


def of_pydicom() -> Damage:
    """Return what pydicom raises, or warns of, for a file that is damaged, or breaks the standard."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (
        *PARSING,
        OSError,  # the file cannot be read; also a value of a length that the file has not
        EOFError,  # the file was cut off
        UserWarning,  # the same, where pydicom would go on with what is left; made an error while a file is read
        BytesLengthException,  # a length that is no multiple of a number's
        InvalidDicomError,  # another kind of file
        zlib.error,  # a deflated file that was cut off or changed
        RuntimeError,  # a decoder of pixels gives up
    )


def of_pillow() -> Damage:
    """Return what Pillow raises for a damaged picture; whatever a format's plugin meets comes through."""
    from PIL.Image import DecompressionBombError

    return (
        *PARSING,
        OSError,  # UnidentifiedImageError, and pictures that were cut off
        EOFError,  # a page that is not there
        SyntaxError,  # how plugins say that a picture is not theirs, or its chunks are broken
        zlib.error,  # packed texts in a PNG
        DecompressionBombError,  # more pixels than memory should be asked for
    )


def of_blosc2() -> Damage:
    """Return what blosc2 raises for a damaged frame; it parses types of voxels as Python's literals, and notes as msgpack."""
    from msgpack.exceptions import UnpackException

    return (
        *PARSING,
        OSError,
        RuntimeError,  # every error of the C library
        SyntaxError,  # the type of voxels is no literal
        UnpackException,  # notes that were cut off
    )


def of_safetensors() -> Damage:
    """Return what safetensors raises for a damaged file."""
    from safetensors import SafetensorError

    return (
        *PARSING,
        OSError,
        RuntimeError,  # torch, of tensors that do not fit their bytes
        SafetensorError,  # a header that is none, or that does not fit the file
    )
