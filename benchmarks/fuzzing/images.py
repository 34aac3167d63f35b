"""Readers of image files."""

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813 (its own custom)
from numpy.typing import NDArray
from PIL import Image

from benchmarks.fuzzing.targets import Target, every
from tumorseg.schema.dataset import ImageFile
from tumorseg.stages.opening.reading import describe_forms
from tumorseg.storage.images import read_geometry, read_image, read_images, read_label_values, read_segmentation
from tumorseg.storage.named_labels import paint_labels

SHAPE = (4, 5, 6)
AFFINE = np.array([[-0.9, 0, 0, 12.0], [0, -1.1, 0, -7.0], [0, 0, 2.5, 31.0], [0, 0, 0, 1]])


def labels() -> NDArray[np.uint8]:
    """Return labels 0 to 2, in the shape of all images."""
    return np.resize(np.array([0, 0, 1, 2, 0, 1], np.uint8), SHAPE)


def intensities(kind: str = "<i2") -> NDArray[np.int16]:
    """Return values that differ from voxel to voxel."""
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(kind)


def read_file(name: str, folder: Path) -> object:
    """Read an image file in every way in which one is read."""
    path = str(folder / name)
    return every(
        lambda: read_geometry(path),
        lambda: read_image(ImageFile(path=path)),
        lambda: read_image(ImageFile(path=path), "LPS"),
        lambda: read_images([ImageFile(path=path, index=number) for number in range(2)]),
        lambda: read_segmentation(path),
        lambda: read_label_values(path),
        lambda: describe_forms(path),
    )


def _nifti(ending: str, folder: Path) -> None:
    kinds = {
        "int16": intensities(),
        "labels": labels(),
        "float": intensities("<f4"),
        "volumes": np.stack([intensities()] * 2, -1),
    }
    for name, array in kinds.items():
        image = nibabel.Nifti1Image(array, AFFINE)
        if name == "int16":
            image.header.set_slope_inter(2.0, -10.0)
        (folder / name).mkdir()
        nibabel.save(image, folder / name / f"image{ending}")
    if ending == ".nii":
        (folder / "second").mkdir()
        nibabel.save(nibabel.Nifti2Image(labels(), AFFINE), folder / "second" / "image.nii")
    for path in folder.rglob("*.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), mtime=0))


def _itk(names: dict[str, bool], folder: Path) -> None:
    """Write an image under each name, packed or not, as numbers and as labels."""
    for name, is_packed in names.items():
        for kind, array in (("image", intensities()), ("labels", labels()), ("vector", np.stack([labels()] * 3, -1))):
            place = folder / f"{kind} {is_packed}"
            place.mkdir(exist_ok=True)
            image = sitk.GetImageFromArray(array, isVector=kind == "vector")
            image.SetSpacing((0.9, 1.1, 2.5))
            image.SetOrigin((-12.0, 7.0, 31.0))
            sitk.WriteImage(image, str(place / name), useCompression=is_packed)


def _mha(folder: Path) -> None:
    for is_packed in (False, True):
        _itk({"image.mha": is_packed}, folder)


def _nrrd(folder: Path) -> None:
    for is_packed in (False, True):
        _itk({"image.nrrd": is_packed}, folder)
    header = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 6 5 4\n"
    header += "space directions: (0.9,0,0) (0,1.1,0) (0,0,2.5)\nkinds: domain domain domain\nspace origin: (1,2,3)\n"
    text = " ".join(map(str, intensities().ravel()))
    (folder / "text").mkdir()
    (folder / "text" / "image.nrrd").write_text(f"{header}encoding: text\n\n{text}\n")
    (folder / "hex").mkdir()
    (folder / "hex" / "image.nrrd").write_text(
        f"{header}endian: little\nencoding: hex\n\n{intensities().tobytes().hex()}\n"
    )


def _detached_nrrd(folder: Path) -> None:
    header = "NRRD0005\ntype: int16\ndimension: 3\nspace: LPS\nsizes: 6 5 4\nspace directions: (0.9,0,0) (0,1.1,0) (0,0,2.5)\n"
    header += "space origin: (1,2,3)\nendian: little\nkinds: domain domain domain\n"
    data, planes = intensities().tobytes(), [plane.tobytes() for plane in intensities()]
    plane_files = {f"plane{number}.raw": plane for number, plane in enumerate(planes)}
    variants = {
        "raw": ("encoding: raw\ndata file: image.raw\n", {"image.raw": data}),
        "skip": ("encoding: raw\nbyte skip: 16\ndata file: image.raw\n", {"image.raw": bytes(16) + data}),
        "lines": ("encoding: raw\nline skip: 2\ndata file: image.raw\n", {"image.raw": b"one\ntwo\n" + data}),
        "gzip": ("encoding: gzip\ndata file: image.raw.gz\n", {"image.raw.gz": gzip.compress(data, mtime=0)}),
        "pattern": ("encoding: raw\ndata file: plane%d.raw 0 3 1 2\n", plane_files),
        "list": (
            f"encoding: raw\ndata file: LIST 2\n{''.join(f'{name}{chr(10)}' for name in plane_files)}",
            plane_files,
        ),
    }
    for name, (fields, files) in variants.items():
        _write(folder / name, {"image.nrrd": f"{header}{fields}".encode(), **files})


def _mhd(folder: Path) -> None:
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    )
    header += (
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 1 2 3\nCenterOfRotation = 0 0 0\nElementSpacing = 0.9 1.1 2.5\n"
    )
    header += "DimSize = 6 5 4\nElementType = MET_SHORT\n"
    data, planes = intensities().tobytes(), [plane.tobytes() for plane in intensities()]
    plane_files = {f"plane{number}.raw": plane for number, plane in enumerate(planes)}
    variants = {
        "raw": ("ElementDataFile = image.raw\n", {"image.raw": data}),
        "skip": ("HeaderSize = 16\nElementDataFile = image.raw\n", {"image.raw": bytes(16) + data}),
        "end": ("HeaderSize = -1\nElementDataFile = image.raw\n", {"image.raw": bytes(16) + data}),
        "pattern": ("ElementDataFile = plane%d.raw 0 3 1\n", plane_files),
        "list": (f"ElementDataFile = LIST\n{''.join(f'{name}{chr(10)}' for name in plane_files)}", plane_files),
    }
    for name, (fields, files) in variants.items():
        _write(folder / name, {"image.mhd": f"{header}{fields}".encode(), **files})
    _itk({"image.mhd": True}, folder)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _pictures(ending: str, folder: Path) -> None:
    grey = labels()[0] * 40
    arrays = {"grey": grey, "rgb": np.stack([grey] * 3, -1)}
    if ending in (".png", ".tif"):
        arrays |= {"deep": intensities("<u2")[0] * 100, "one": grey > 0}
    for name, array in arrays.items():
        (folder / name).mkdir()
        picture = Image.fromarray(array)
        options = {"compression": "tiff_deflate"} if ending == ".tif" and name == "deep" else {}
        picture.save(folder / name / f"image{ending}", **options)
    if ending == ".tif":
        pages = [Image.fromarray(plane * 40) for plane in labels()]
        (folder / "pages").mkdir()
        pages[0].save(folder / "pages" / "image.tif", save_all=True, append_images=pages[1:])


def _segments(folder: Path) -> None:
    """Write segments as 3D Slicer does, alone and in layers."""
    for name, array in (("one", labels()), ("layers", np.stack([labels() == 1, labels() == 2], -1).astype(np.uint8))):
        image = sitk.GetImageFromArray(array, isVector=name == "layers")
        image.SetSpacing((0.9, 1.1, 2.5))
        for number in range(2):
            fields = {
                "ID": f"Segment_{number}",
                "Name": f"part {number}",
                "LabelValue": 1 if name == "layers" else number + 1,
            }
            fields |= {"Layer": number if name == "layers" else 0, "Extent": "0 5 0 4 0 3", "Color": "1 0 0"}
            for key, value in fields.items():
                image.SetMetaData(f"Segment{number}_{key}", str(value))
        image.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
        (folder / name).mkdir()
        sitk.WriteImage(image, str(folder / name / "image.seg.nrrd"), useCompression=name == "one")


def _read_segments(folder: Path) -> object:
    path = str(folder / "image.seg.nrrd")
    return every(
        partial(read_file, "image.seg.nrrd", folder),
        lambda: paint_labels([path], read_geometry(path), {"part 0": 1, "part 1": 2}),
    )


def _target(ending: str, make: Callable[[Path], None]) -> Target:
    return Target(make, partial(read_file, f"image{ending}"))


TARGETS = {
    "nifti": _target(".nii", partial(_nifti, ".nii")),
    "nifti_gzip": _target(".nii.gz", partial(_nifti, ".nii.gz")),
    "nrrd": _target(".nrrd", _nrrd),
    "nrrd_detached": _target(".nrrd", _detached_nrrd),
    "mha": _target(".mha", _mha),
    "mhd": _target(".mhd", _mhd),
    "png": _target(".png", partial(_pictures, ".png")),
    "tiff": _target(".tif", partial(_pictures, ".tif")),
    "jpeg": _target(".jpg", partial(_pictures, ".jpg")),
    "seg_nrrd": Target(_segments, _read_segments),
}
