"""Readers of DICOM: series, segmentations, structure sets, and folders of them."""

import base64
import io
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from benchmarks.fuzzing.images import intensities, labels
from benchmarks.fuzzing.targets import Target, every
from tests import dicoms
from tests.dicoms import Grid, box_contour, write_enhanced, write_rtstruct, write_seg, write_series
from tumorseg.schema.dataset import ImageFile
from tumorseg.sources.dicom import list_dicom_apart, list_dicom_labels
from tumorseg.sources.registry import open_dataset
from tumorseg.storage.dicom.labels import summarize_label
from tumorseg.storage.formats.stored import Geometry
from tumorseg.storage.images import read_geometry, read_image, read_label_values
from tumorseg.storage.named_labels import paint_labels

UNCOMPRESSED = {
    "implicit": ImplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
COMPRESSED_BY_PILLOW = {"jpeg": ("JPEG", JPEGBaseline8Bit), "jpeg2000": ("JPEG2000", JPEG2000Lossless)}
JPEG_LOSSLESS = "{{H~r00000{{H~regFUf|JeV-01FTR5C9MX0TBTI!~hlm0RaI30000000000000000R<5M+5iXv0RRC20LrSWs?b$cRaSzks;aaVRaI4>s;a831yxm5Xez3zt3g#&Ray$Fs;bacRaI7ks;a8A6;)MLpsK2>tp!z8RcI=zs;fa&RaIaA*#H"
"""The numbers 0 to 255 in 16 rows, 16 bits each, as GDCM wrote them: it is no writer for images of a few pixels, which end it."""
GRID = Grid()


def _always_the_same(make: Callable[[Path], None], folder: Path) -> None:
    """Write files whose identifiers and times are those of every other run."""
    uids = (f"1.2.826.0.1.3680043.8.498.{number}" for number in count(1))
    with mock.patch.object(dicoms, "generate_uid", uids.__next__):
        make(folder)
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        if dataset.Modality in ("SEG", "RTSTRUCT"):
            dataset.ContentDate, dataset.ContentTime = "20200101", "120000"
            dataset.InstanceCreationDate, dataset.InstanceCreationTime = "20200101", "120000"
            dataset.save_as(path)


def _series(folder: Path) -> None:
    volume = intensities()[:3]
    write_series(folder / "plain" / "series", volume, scaling=(2, -10))
    write_series(folder / "bytes" / "series", volume.astype(np.uint8), kind="MR")
    for name, syntax in UNCOMPRESSED.items():
        for path in write_series(folder / name / "series", volume):
            dataset = pydicom.dcmread(path)
            dataset.file_meta.TransferSyntaxUID = syntax
            if name == "big":
                dataset.PixelData = volume[dataset.InstanceNumber - 1].astype(">i2").tobytes()
            target = path.with_name(f"{path.stem}.deflated.dcm") if name == "deflated" else path
            path.unlink()
            _save(dataset, target, syntax)
    for name, syntax in (("rle", RLELossless), ("jpegls", JPEGLSLossless)):
        for path in write_series(folder / name / "series", volume.astype(np.uint16)):
            dataset = pydicom.dcmread(path)
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(path)
    for name, (format, syntax) in COMPRESSED_BY_PILLOW.items():
        for path in write_series(folder / name / "series", (volume % 256).astype(np.uint8)):
            _compress_with_pillow(path, format, syntax)
    for path in write_series(
        folder / "lossless" / "series", np.stack([np.arange(256, dtype=np.uint16).reshape(16, 16)] * 2)
    ):
        _encapsulate(path, next(generate_frames(base64.b85decode(JPEG_LOSSLESS), number_of_frames=1)), JPEGLosslessSV1)


def _save(dataset: Any, path: Path, syntax: Any) -> None:
    is_little, is_implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    dataset._read_little = dataset._read_implicit = None
    pydicom.dcmwrite(
        path, dataset, implicit_vr=is_implicit, little_endian=is_little, enforce_file_format=True, overwrite=True
    )


def _compress_with_pillow(path: Path, format: str, syntax: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pydicom.dcmread(path).pixel_array).save(buffer, format)
    _encapsulate(path, buffer.getvalue(), syntax)


def _encapsulate(path: Path, packed: bytes, syntax: str) -> None:
    """Replace the pixels of a file by compressed ones; its header stays."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([packed])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path)


def _read_series(folder: Path) -> object:
    place = str(folder / "series")
    files = sorted(folder.glob("series/*"))
    return every(
        lambda: read_image(ImageFile(path=place)),
        lambda: read_geometry(place),
        lambda: read_image(ImageFile(path=place, parts=tuple(file.name for file in files))),
        lambda: read_image(ImageFile(path=str(files[0]))) if files else None,
        lambda: list_dicom_apart(folder),
    )


def _frames(folder: Path) -> None:
    (folder / "frames").mkdir()
    (folder / "slopes").mkdir()
    write_enhanced(folder / "frames" / "image.dcm", intensities()[:3])
    write_enhanced(folder / "slopes" / "image.dcm", intensities()[:3], slopes=[1, 2, 3])


def _read_frames(folder: Path) -> object:
    path = str(folder / "image.dcm")
    return every(lambda: read_image(ImageFile(path=path)), lambda: read_geometry(path))


def _masks() -> dict[str, np.ndarray[Any, Any]]:
    return {"core": labels()[:3] == 1, "rim": labels()[:3] == 2}


def _seg(folder: Path) -> None:
    for kind in ("BINARY", "FRACTIONAL", "LABELMAP"):
        series = write_series(folder / kind / "series", intensities()[:3].astype(np.uint16))
        write_seg(folder / kind / "seg.dcm", series, _masks(), kind=kind, keep_empty=True)


def _rtstruct(folder: Path) -> None:
    series = write_series(folder / "set" / "series", intensities()[:3])
    structures = {
        "core": [box_contour(GRID, number, (1, 1), (3, 3)) for number in range(2)],
        "rim": [box_contour(GRID, 1, (2, 2), (4, 3))],
    }
    write_rtstruct(folder / "set" / "rtstruct.dcm", series, structures)


def _read_labels(name: str, folder: Path) -> object:
    path = str(folder / name)
    grid = Geometry((3, 5, 6), GRID.affine, 1)
    return every(
        lambda: summarize_label(path),
        lambda: paint_labels([path], grid, {"core": 1, "rim": 2}),
        lambda: paint_labels([path], grid, {"core": 1, "rim": 2}, paint_order=("core", "rim")),
        lambda: read_label_values(path),
        lambda: list_dicom_labels(folder / name),
    )


def _studies(folder: Path) -> None:
    for patient in ("P1", "P2"):
        place = folder / "set" / "studies" / patient
        study = f"1.2.{patient[1]}"
        named = {"patient": patient, "study": study, "series": f"{study}.1"}
        series = write_series(place / "series", intensities()[:3], **named)
        write_rtstruct(place / "rtstruct.dcm", series, {"core": [box_contour(GRID, 1, (1, 1), (3, 3))]})


def _read_studies(folder: Path) -> object:
    return open_dataset(str(folder / "studies"), folder)


TARGETS = {
    "dicom_series": Target(partial(_always_the_same, _series), _read_series),
    "dicom_frames": Target(partial(_always_the_same, _frames), _read_frames),
    "dicom_seg": Target(partial(_always_the_same, _seg), partial(_read_labels, "seg.dcm")),
    "dicom_rtstruct": Target(partial(_always_the_same, _rtstruct), partial(_read_labels, "rtstruct.dcm")),
    "dicom_studies": Target(partial(_always_the_same, _studies), _read_studies),
}
