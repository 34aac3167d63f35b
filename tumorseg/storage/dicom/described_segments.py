"""Segments in coded terms, as the header of a DICOM SEG describes them.

References:
    DICOM PS3.3, C.8.20.4 (segment description) and PS3.16, CID 7150 and 7151 (categories and types of what is segmented).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tumorseg.schema.codes import CodedTerm, LabelCode
from tumorseg.schema.common_codes import UNKNOWN_TISSUE, category_of
from tumorseg.storage.dicom.inherited import long_string

COLOURS = (
    (214, 62, 54), (52, 130, 196), (70, 160, 73), (242, 159, 40), (146, 88, 172), (38, 178, 178), (226, 110, 176),
    (150, 108, 60), (178, 190, 44), (96, 106, 196), (240, 120, 96), (20, 120, 100),
)  # fmt: skip
"""RGB of segments that bring none, in turn."""
ALGORITHM_FAMILY = CodedTerm(value="123110", scheme="DCM", meaning="Artificial Intelligence")


class Segment(NamedTuple):
    """One label of a segmentation."""

    value: int
    """In the label map; from 1."""
    name: str
    code: LabelCode | None = None
    """None: a tissue of unknown kind, known by its name alone."""
    colour: tuple[int, int, int] | None = None
    """RGB from 0 to 255; None: one of `COLOURS`."""


class Algorithm(NamedTuple):
    """What made a segmentation."""

    name: str
    version: str


class Description(NamedTuple):
    """What a DICOM object says beside its voxels."""

    segments: tuple[Segment, ...]
    """All that could be found, whether they were or not; numbered in this order, from 1."""
    algorithm: Algorithm
    identity: tuple[str, ...]
    """Hashes of what made it: model, plan, options. The same ones for the same series give the same series of results."""


def describe_segments(segments: Sequence[Segment], algorithm: Algorithm) -> list[Any]:
    """Return highdicom's descriptions of segments, numbered from 1.

    Args:
        segments: at least one.
        algorithm: that made them all.
    """
    return [_describe(segment, number, algorithm) for number, segment in enumerate(segments, start=1)]


def texts_of(segments: Sequence[Segment], algorithm: Algorithm) -> list[str]:
    """Return every text by which segments are described, for the choice of an encoding."""
    texts = [algorithm.name, algorithm.version]
    for segment in segments:
        texts.append(segment.name)
        code = segment.code or UNKNOWN_TISSUE
        terms = (code.type, code.category, code.region, code.side)
        texts += [text for term in terms if term is not None for text in (term.value, term.scheme, term.meaning)]
    return texts


def _describe(segment: Segment, number: int, algorithm: Algorithm) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    code = segment.code or UNKNOWN_TISSUE
    colour = segment.colour or COLOURS[(number - 1) % len(COLOURS)]
    described = SegmentDescription(
        segment_number=number,
        segment_label=long_string(segment.name),
        segmented_property_category=concept(code.category or category_of(code.type)),
        segmented_property_type=concept(code.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=long_string(algorithm.name),
            family=concept(ALGORITHM_FAMILY),
            version=long_string(algorithm.version),
        ),
        anatomic_regions=None if code.region is None else [concept(code.region)],
        display_color=CIELabColor.from_rgb(*colour),
    )
    # A name that its element cuts off stands here in full.
    if long_string(segment.name) != segment.name:
        described.SegmentDescription = segment.name[:1024]
    if code.side is not None:
        _add_side(described, concept(code.side))
    return described


def _add_side(described: Any, side: Any) -> None:
    """Add a side to the region of a segment if it has one, else to what it is."""
    if "AnatomicRegionSequence" in described:
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [side]
    else:
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]


def concept(term: CodedTerm) -> Any:
    """Return a coded term as highdicom's."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value=term.value, meaning=term.meaning, scheme_designator=term.scheme)
