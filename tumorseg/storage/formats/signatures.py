"""File types recognised by first bytes, where names are wrong, and errors for paths without a file."""

import os
import stat
import zlib
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import InputError

GZIP = b"\x1f\x8b"
MOST_BYTES = 1024
NIFTI_SIZES = (348, 540)
"""How many bytes the header of NIfTI-1 and NIfTI-2 has: a file's first number."""


class Kind(NamedTuple):
    """A kind of file that is found under the name of another."""

    name: str
    """As messages call it."""
    starts: tuple[bytes, ...]
    """First bytes, in small letters where text begins so."""
    advice: str
    """What to do about it."""


RESTORE = "copy or download it again"
KINDS = (
    Kind("a PNG picture", (b"\x89png\r\n",), "rename it to .png"),
    Kind("a JPEG picture", (b"\xff\xd8\xff",), "rename it to .jpg"),
    Kind("a TIFF picture", (b"ii*\0", b"mm\0*"), "rename it to .tif"),
    Kind("a GIF picture", (b"gif8",), "convert it"),
    Kind("a WebP picture", (b"riff",), "convert it"),
    Kind("NRRD", (b"nrrd0",), "rename it to .nrrd"),
    Kind("MetaImage", (b"objecttype", b"ndims"), "rename it to .mha, or .mhd where the voxels lie in another file"),
    Kind("compressed with gzip", (GZIP,), "unpack it"),
    Kind("a zip archive", (b"pk\x03\x04",), "unpack it"),
    Kind("compressed with bzip2", (b"bzh",), "unpack it"),
    Kind("compressed with xz", (b"\xfd7zxz\0",), "unpack it"),
    Kind("compressed with Zstandard", (b"\x28\xb5\x2f\xfd",), "unpack it"),
    Kind("a 7z archive", (b"7z\xbc\xaf",), "unpack it"),
    Kind("HDF5 or MINC 2", (b"\x89hdf\r\n",), "convert it"),
    Kind("a NumPy array", (b"\x93numpy",), "convert it"),
    Kind(
        "a web page", (b"<!doctype", b"<html", b"<?xml"), "download the file itself, with a login if one is asked for"
    ),
    Kind("a pointer of Git LFS", (b"version https://git-lfs",), "fetch the file itself (git lfs pull)"),
    Kind("a pointer of git-annex", (b"/annex/objects/", b"../.git/annex"), "fetch the file itself (git annex get)"),
)
"""Of two that begin alike the first counts."""
NIFTI = Kind("NIfTI", (), "rename it to .nii")
DICOM = Kind("DICOM", (), "rename it to .dcm")
PICTURES = ("a PNG picture", "a JPEG picture", "a TIFF picture")
TEXTS = ("NRRD", "MetaImage")
READ_AS = {
    ".nii": (NIFTI.name,),
    **dict.fromkeys((".nrrd", ".mha", ".mhd"), TEXTS),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff"), PICTURES),
}
"""Kinds that are read under a name's ending; of other names it is not known what they say."""


def misnamed(path: str) -> str | None:
    """Return what a file that could not be read is instead of what its name says, and what to do; None if that is not plain."""
    start = _start(path)
    if start is None:  # a folder, say
        return None
    if not start:
        return f"is empty; {RESTORE}"
    kind, name = kind_of(start), path.lower()
    if name.endswith(".nii.gz"):
        return _fault_of_packed(path, start, kind)
    expected = next((kinds for ending, kinds in READ_AS.items() if name.endswith(ending)), None)
    if kind is None or expected is None or kind.name in expected:
        return None
    if kind.starts == (GZIP,) and name.endswith(".nii"):
        return f"is compressed with gzip, though its name does not say so; rename it to {Path(path).name}.gz"
    return f"is {kind.name} by its first bytes, not what its name says; {kind.advice}"


def kind_of(start: bytes) -> Kind | None:
    """Return which kind of file begins so."""
    lower = start.lower()
    for kind in KINDS:
        if lower.startswith(kind.starts):
            return kind
    if start[128:132] == b"DICM":
        return DICOM
    numbers = int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")
    return NIFTI if set(numbers) & set(NIFTI_SIZES) else None


def _fault_of_packed(path: str, start: bytes, kind: Kind | None) -> str | None:
    """Return what is wrong with a `.nii.gz` that is not compressed, or holds something else."""
    if kind is NIFTI:
        return f"is not compressed, though its name says so; rename it to {Path(path).name[: -len('.gz')]}"
    if kind is None:
        return None
    if kind.starts != (GZIP,):
        return f"is {kind.name} by its first bytes, not what its name says; {kind.advice}"
    try:
        # 31 is gzip alone; only an object unpacks what is cut off after the first kilobyte.
        inside = kind_of(zlib.decompressobj(wbits=31).decompress(start, MOST_BYTES))
    except zlib.error:
        return None
    if inside is None or inside is NIFTI:
        return None
    if inside is kind:
        return "is compressed twice with gzip; unpack it once"
    return f"is {inside.name} inside, not NIfTI; unpack it, and then {inside.advice}"


def _start(path: str) -> bytes | None:
    try:
        with Path(path).open("rb") as file:
            return file.read(MOST_BYTES)
    except (OSError, ValueError):
        return None


def check_is_file(path: str) -> None:
    """Check that a file is there and may be read.

    Raises:
        InputError: it is not; the message says what is there instead.
    """
    if (fault := path_fault(path)) is not None:
        raise InputError(fault, file=path)


def path_fault(path: str) -> str | None:
    """Return why there is no file to read at a path, and what to do; None where there is one."""
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return _missing(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f"cannot be looked at ({reason}); check the path and its permissions"
    if stat.S_ISDIR(mode):
        return f"is a folder, expected a file; {_advice_for_folder(Path(path))}"
    if not stat.S_ISREG(mode):
        return "is a pipe, a socket or a device, expected a file; write what comes from it to a file first"
    return None if os.access(path, os.R_OK) else "may not be read; change its permissions"


def _missing(path: str) -> str:
    if not Path(path).is_symlink():
        return "no such file; expected an image; check the path"
    return f"is a link to {Path(path).readlink()}, which is not there; restore that, or replace the link by the file"


def _advice_for_folder(folder: Path) -> str:
    """Return what to do about a folder; programs that unpack `x.nii.gz` may leave a folder of that name around the file."""
    try:
        held = min((file.name for file in folder.iterdir() if not file.name.startswith(".")), default=None)
    except OSError:
        held = None
    return "remove it" if held is None else f"name the file in it, such as {held}, or move that here"
