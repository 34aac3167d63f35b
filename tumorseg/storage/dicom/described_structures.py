"""Structures of an RTSTRUCT: their names, colours, codes and kinds.

References:
    DICOM PS3.3: C.8.8.5 (structure set), C.8.8.6 (ROI contours), C.8.8.8 (observations).
"""

import re
from collections.abc import Sequence
from typing import Any

from tumorseg.schema.codes import CodedTerm, LabelCode
from tumorseg.schema.common_codes import category_of
from tumorseg.storage.dicom.described_segments import COLOURS, Segment
from tumorseg.storage.dicom.inherited import long_string

TARGET = re.compile("GTV|CTV|PTV", re.IGNORECASE)
"""How the name of a target volume begins: GTVp, GTV_nodes, ctv 60."""
ANATOMICAL = ("123037004", "91723000")
"""SNOMED CT: the category of anatomical structures in its two codes, that of CID 7150 and that of PS3.3, C.8.8.8.3."""


def region_item(segment: Segment, number: int, frame_of_reference_uid: str) -> Any:
    """Return the item of the structure set that names a structure."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ROINumber, item.ReferencedFrameOfReferenceUID = number, frame_of_reference_uid
    item.ROIName, item.ROIGenerationAlgorithm = long_string(segment.name), "AUTOMATIC"
    # A name that its element cuts off stands here in full.
    if item.ROIName != segment.name:
        item.ROIDescription = segment.name[:1024]
    return item


def observation_item(segment: Segment, number: int) -> Any:
    """Return the item that says what a structure is."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.RTROIInterpretedType, item.ROIInterpreter = _interpreted_type(segment), ""
    if segment.code is not None:
        _add_codes(item, segment.code)
    return item


def contours_item(segment: Segment, number: int, contours: Sequence[Any]) -> Any:
    """Return the item of a structure's contours; without any, the structure is empty.

    Args:
        segment: the label.
        number: of the structure.
        contours: from `trace_structures`.
    """
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedROINumber = number
    item.ROIDisplayColor = list(segment.colour or COLOURS[(number - 1) % len(COLOURS)])
    if contours:
        item.ContourSequence = contours
    return item


def _interpreted_type(segment: Segment) -> str:
    """Return what kind of structure planning systems shall take it for, empty where that is for a person to say."""
    if (target := TARGET.match(segment.name)) is not None:
        return target[0].upper()
    if segment.code is None:
        return ""
    category = segment.code.category or category_of(segment.code.type)
    return "ORGAN" if category.scheme == "SCT" and category.value in ANATOMICAL else ""


def _add_codes(item: Any, code: LabelCode) -> None:
    item.SegmentedPropertyCategoryCodeSequence = [_concept(code.category or category_of(code.type))]
    kind = _concept(code.type)
    item.RTROIIdentificationCodeSequence = [kind]
    side = [] if code.side is None else [_concept(code.side)]
    if code.region is not None:
        region = _concept(code.region)
        item.AnatomicRegionSequence = [region]
        # Of a tumour in the left breast it is the breast that is the left one.
        if side:
            region.AnatomicRegionModifierSequence = side
    elif side:
        kind.SegmentedPropertyTypeModifierCodeSequence = side


def _concept(term: CodedTerm) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = term.value, term.scheme, term.meaning
    return item
