"""DICOM objects of a result: what they say of the model and of its labels."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tumorseg.schema.dataset import DatasetDescription, ImageFile
from tumorseg.stages.inference.outputs import DicomFormat, Outputs, codes_of, labels_found
from tumorseg.storage.dicom.described_segments import Algorithm, Description, Segment
from tumorseg.storage.dicom.drawn_contours import place_planes
from tumorseg.storage.dicom.files import lenient
from tumorseg.storage.dicom.sources import SourceSeries, read_source
from tumorseg.types import Segmentation


class Origin(NamedTuple):
    """What made a result."""

    name: str
    """Of the model or ensemble."""
    dataset: DatasetDescription
    """What its masks hold."""
    hashes: tuple[str, ...]
    """Of model, plan, options and images: the same ones give the same instance."""
    kept: Mapping[str, int] | None
    """Label values that the mask is confined to, by name; None for all."""


def require_writers(outputs: Outputs) -> None:
    """See that the DICOM objects that are asked for can be written here, before any work is done.

    Raises:
        InputError: an optional package is not installed.
    """
    if "seg" in outputs.dicom:
        from tumorseg.storage.dicom.write_seg import require_highdicom

        require_highdicom()


def read_series(like: ImageFile, outputs: Outputs) -> SourceSeries | None:
    """Return the series that DICOM objects will refer to, None where there are none, and see that they can: before any work is done.

    Args:
        like: the series.
        outputs: what is asked for.

    Raises:
        InputError: the image is no DICOM series, states too little, or lies too far away for contours.
    """
    if not outputs.dicom:
        return None
    source = read_source(like)
    if "rtstruct" in outputs.dicom:
        with lenient():
            place_planes(source)
    return source


def write_dicom(
    path: Path, segmentation: Segmentation, source: SourceSeries, *, kind: DicomFormat, made: tuple[Origin, Outputs]
) -> None:
    """Write a result as a DICOM object on the series that it is of.

    Args:
        path: where to.
        segmentation: (Z, Y, X), label values in the stored order.
        source: the series.
        kind: which object.
        made: what made it, and how it is asked for.

    Raises:
        InputError: an optional package is not installed.
        StorageError: it cannot be written.
    """
    from tumorseg.storage.dicom.write_rtstruct import write_rtstruct
    from tumorseg.storage.dicom.write_seg import write_seg

    origin, outputs = made
    algorithm = Algorithm(f"tumorseg {origin.name}", version("tumorseg"))
    identity = (*origin.hashes, outputs.forms(origin.dataset)[kind])
    described = Description(_segments(origin), algorithm, identity)
    if kind == "seg":
        write_seg(path, segmentation, source, description=described, kind=outputs.seg_type)
    else:
        write_rtstruct(path, segmentation, source, description=described)


def _segments(origin: Origin) -> tuple[Segment, ...]:
    """Return all labels that could have been found, by value."""
    dataset = origin.dataset
    labels, codes = labels_found(dataset) if origin.kept is None else origin.kept, codes_of(dataset)
    return tuple(Segment(value, name, codes[name]) for name, value in labels.items())
