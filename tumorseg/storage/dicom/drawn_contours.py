"""Contours of an RTSTRUCT: label maps as closed contours in mm, along the edges of pixels.

References:
    DICOM PS3.3, C.8.8.6 (ROI contours), and PS3.5, 6.2 (decimal strings).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tumorseg.errors import InputError
from tumorseg.ops.labels import count_values
from tumorseg.ops.outlines import trace_outlines
from tumorseg.storage.dicom.contours import CLOSED, FARTHEST_MM
from tumorseg.storage.dicom.sources import SourceSeries
from tumorseg.types import Segmentation

DECIMALS = 4
"""Of mm: a thousandth of the finest pixels. Python writes no number of so few with an exponent, or with more than 16 characters."""
CONTOUR_DATA = 0x30060050


class PlacedPlane(NamedTuple):
    """Where the pixels of a plane lie, in DICOM's own axes (left, posterior, head)."""

    origin_mm: NDArray[np.float64]
    """(3,), the centre of the first pixel."""
    axes_mm: NDArray[np.float64]
    """(2, 3), from a pixel to that of the next column, and of the next row."""
    image: Any
    """The item that refers to the plane's image."""


def place_planes(source: SourceSeries) -> list[PlacedPlane]:
    """Return where the planes of a series lie: each as it states itself, not as a regular stack would have it. To be called in `lenient`.

    Raises:
        InputError: a plane is farther away than a contour can say.
    """
    row_mm, column_mm = source.pixel_spacing
    # PixelSpacing begins with the step from row to row, ImageOrientationPatient with the direction along a row.
    axes_mm = np.reshape(source.orientation, (2, 3)) * [[column_mm], [row_mm]]
    placements = []
    reach_mm = np.abs(axes_mm).T @ np.array(source.shape[:0:-1])
    for plane, number, position in zip(source.planes, source.frame_numbers, source.positions, strict=True):
        if not (np.abs(position) + reach_mm <= FARTHEST_MM).all():
            raise InputError(
                f"found a plane at {position} mm, expected it within {FARTHEST_MM:g} mm of the origin; mend the header",
                file=source.path,
            )
        placements.append(PlacedPlane(np.array(position), axes_mm, image_item(plane, number)))
    return placements


def image_item(header: Any, number: int | None = None) -> Any:
    """Return the item that refers to an image.

    Args:
        header: of its file.
        number: of the frame, from 1; None for the whole file.
    """
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if number is not None:
        item.ReferencedFrameNumber = number
    return item


def trace_structures(
    segmentation: Segmentation, planes: Sequence[PlacedPlane], values: Sequence[int], *, where: str
) -> dict[int, list[Any]]:
    """Return the items of contours of each label, from the first plane on.

    Args:
        segmentation: (Z, Y, X), label values on the grid of the series.
        planes: of the series.
        values: the labels' values, without the background's 0.
        where: the series, for messages.

    Raises:
        InputError: another value is in the label map.
    """
    contours: dict[int, list[Any]] = {value: [] for value in values}
    for plane, placement in zip(segmentation, planes, strict=True):
        for value in count_values(plane)[0]:
            if value in contours:
                outlines = trace_outlines(plane == value)
                contours[value] += [_contour_item(outline, placement) for outline in outlines]
            elif value:
                raise InputError(
                    f"found the value {value} in a label map, expected 0 and {', '.join(map(str, values))}; name its label",
                    file=where,
                )
    return contours


def _contour_item(outline: NDArray[np.float64], placement: PlacedPlane) -> Any:
    from pydicom.charset import default_encoding
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    text = decimal_strings(placement.origin_mm + outline @ placement.axes_mm)
    item = Dataset()
    item.ContourImageSequence = [placement.image]
    item.ContourGeometricType, item.NumberOfContourPoints = CLOSED[0], len(outline)
    # As bytes, which are written as they are; pydicom would make an object of each of millions of numbers.
    tag = Tag(CONTOUR_DATA)
    item[tag] = RawDataElement(tag, "DS", len(text), text, 0, True, True)
    item.set_original_encoding(True, True, default_encoding)
    return item


def decimal_strings(numbers: NDArray[np.float64]) -> bytes:
    """Return numbers as DICOM holds several decimals: without needless zeros, of an even length in all."""
    # Added to 0, since a negative one that is rounded to zero would keep its sign.
    rounded = (np.round(numbers, DECIMALS) + 0.0).ravel().tolist()
    text = "\\".join(map(repr, rounded)).replace(".0\\", "\\").removesuffix(".0")
    return (text + " " * (len(text) % 2)).encode("ascii")
