"""Writes small DICOM series, segmentations and structure sets, as scanners and workstations do."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

FLIP = np.diag([-1.0, -1.0, 1.0])
CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "enhanced MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3",
    "SR": "1.2.840.10008.5.1.4.1.1.88.11",
}


class Grid(NamedTuple):
    """Where a volume (Z, Y, X) lies: the same as an affine to RAS+ mm without shear."""

    rotation: np.ndarray = np.eye(3)
    """(3, 3), columns x, y, z in RAS; of determinant 1, as planes are sorted along their normal."""
    spacing: tuple = (0.75, 1.25, 3.5)
    """(x, y, z) mm."""
    origin: tuple = (-12.5, 40.25, 7.0)

    @property
    def affine(self):
        affine = np.eye(4)
        affine[:3, :3] = self.rotation * np.array(self.spacing)
        affine[:3, 3] = self.origin
        return affine


def header(kind="CT", *, patient="P1", study="1.2.1", series="1.2.1.1", modality=None, **elements):
    """Return a file's elements without pixels."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CLASSES[kind], generate_uid()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientID, dataset.PatientName = patient, "Doe^J"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, f"{study}.9"
    dataset.Modality = modality or kind.split()[-1]
    for name in ("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "PatientBirthDate", "PatientSex"):
        setattr(dataset, name, "")
    dataset.ReferringPhysicianName, dataset.SeriesNumber, dataset.InstanceNumber = "", 1, 1
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def add_pixels(dataset, stored):
    """Add the pixels (row, column), or (frame, row, column), of an integer type."""
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = stored.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()


def save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def numbers(values):
    """Return decimals as DICOM holds them: 16 characters at most."""
    return [float(f"{value:.10g}"[:16]) for value in values]


def plane_elements(grid, index):
    """Return what places a plane: position, orientation and spacing."""
    x, y, z = grid.spacing
    position = FLIP @ (np.array(grid.origin) + grid.rotation[:, 2] * z * index)
    directions = (FLIP @ grid.rotation[:, :2]).T.ravel()
    return {
        "ImagePositionPatient": numbers(position),
        "ImageOrientationPatient": numbers(directions),
        "PixelSpacing": [y, x],
        "SliceThickness": z,
    }


def write_series(
    folder: Path, volume, grid=None, *, kind="CT", name="{number:03d}.dcm", scaling=None, seed=0, **elements
):
    """Write a volume (Z, Y, X) of an integer type as one file per plane, numbered and named in a random order."""
    grid = grid or Grid()
    order = np.random.default_rng(seed).permutation(len(volume))
    slopes = scaling if isinstance(scaling, list) else [scaling] * len(volume)
    paths = {}
    for number, index in enumerate(order):
        dataset = header(kind, **elements, **plane_elements(grid, int(index)))
        dataset.InstanceNumber = number + 1
        if slopes[index] is not None:
            dataset.RescaleSlope, dataset.RescaleIntercept = slopes[index]
        add_pixels(dataset, volume[index])
        paths[int(index)] = save(dataset, folder / name.format(number=number, index=index))
    return [paths[index] for index in range(len(volume))]


def write_enhanced(path: Path, volume, grid=None, *, slopes=None, seed=0, **elements):
    """Write a volume as one file of many frames in a random order, each with its own place and slope."""
    grid = grid or Grid()
    order = np.random.default_rng(seed).permutation(len(volume))
    dataset = header("enhanced MR", **elements)
    dataset.NumberOfFrames = len(volume)
    shared, frames = Dataset(), []
    for index in order:
        placed = plane_elements(grid, int(index))
        frame = Dataset()
        frame.PlanePositionSequence = [part_of(placed, "ImagePositionPatient")]
        transform = Dataset()
        transform.RescaleSlope, transform.RescaleIntercept = (slopes[index] if slopes else 1), 0
        frame.PixelValueTransformationSequence = [transform]
        frames.append(frame)
    shared.PlaneOrientationSequence = [part_of(placed, "ImageOrientationPatient")]
    shared.PixelMeasuresSequence = [part_of(placed, "PixelSpacing", "SliceThickness")]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = frames
    add_pixels(dataset, np.stack([volume[index] for index in order]))
    return save(dataset, path)


def part_of(elements, *names):
    part = Dataset()
    for name in names:
        setattr(part, name, elements[name])
    return part


def write_seg(path: Path, series, masks, *, kind="BINARY", keep_empty=False, **options):
    """Write a SEG of masks {name: (Z, Y, X) bool, or floats up to 1} on the files of a series, by highdicom."""
    import highdicom
    from pydicom.sr.codedict import codes

    images = [complete(pydicom.dcmread(file)) for file in series]
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(masks, start=1)
    ]
    if kind == "LABELMAP":
        pixels = np.zeros(next(iter(masks.values())).shape, np.uint8)
        for number, mask in enumerate(masks.values(), start=1):
            pixels[mask] = number
    else:
        pixels = np.stack(list(masks.values()), axis=-1)
        pixels = pixels.astype(np.float32 if kind == "FRACTIONAL" else np.uint8)
    fractional = {"fractional_type": "PROBABILITY"} if kind == "FRACTIONAL" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        segmentation = highdicom.seg.Segmentation(
            source_images=images,
            pixel_array=pixels,
            segmentation_type=kind,
            segment_descriptions=described,
            series_instance_uid=generate_uid(),
            series_number=9,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="tests",
            manufacturer_model_name="tests",
            software_versions="1",
            device_serial_number="1",
            omit_empty_frames=not keep_empty,
            **fractional,
            **options,
        )
    return save(segmentation, path)


def complete(image):
    """Add what highdicom demands of its source images."""
    for name in ("PositionReferenceIndicator", "StudyTime", "StudyDate"):
        if name not in image:
            setattr(image, name, "")
    return image


def write_rtstruct(path: Path, series, structures, *, kind="CLOSED_PLANAR", **elements):
    """Write a structure set of contours {name: [(N, 3) RAS+ mm, …]} drawn on the files of a series."""
    image = pydicom.dcmread(series[0], stop_before_pixels=True)
    dataset = header(
        "RTSTRUCT",
        **{"patient": image.PatientID, "study": image.StudyInstanceUID, "series": generate_uid()} | elements,
    )
    drawn_on, study, frame = Dataset(), Dataset(), Dataset()
    drawn_on.SeriesInstanceUID = image.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [drawn_on]
    frame.FrameOfReferenceUID = image.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    rois, drawings = [], []
    for number, (name, contours) in enumerate(structures.items(), start=3):
        roi, drawing = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawing.ReferencedROINumber = number
        drawing.ContourSequence = Sequence([_contour(points, kind) for points in contours])
        rois.append(roi)
        drawings.append(drawing)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = rois, drawings
    return save(dataset, path)


def _contour(points, kind):
    contour = Dataset()
    contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
    contour.ContourData = numbers((np.asarray(points, float) @ FLIP).ravel())
    return contour


def box_contour(grid, index, lower, upper):
    """Return the outline, in RAS+ mm, of the pixels from lower to upper (x, y), both included, of a plane."""
    (x0, y0), (x1, y1) = np.array(lower) - 0.5, np.array(upper) + 0.5
    corners = np.array([[x0, y0, index, 1], [x1, y0, index, 1], [x1, y1, index, 1], [x0, y1, index, 1]])
    return (corners @ grid.affine.T)[:, :3]


def deflate(path):
    """Pack a file anew as a whole, in the deflated transfer syntax."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)


def rewrite(path: Path, **elements):
    """Change elements of a file; None removes one."""
    dataset = pydicom.dcmread(path)
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return save(dataset, path)
