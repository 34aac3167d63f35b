"""Coded terms: what a label is called in a terminology that other programs know."""

from typing import Annotated

from pydantic import AfterValidator, Field

from tumorseg.errors import is_plain
from tumorseg.schema.base import Record

LONGEST_MEANING = 64
"""Letters of a meaning, as DICOM's long strings hold."""


def _check_text(text: str) -> str:
    if not text.strip() or "\\" in text or not is_plain(text):
        raise ValueError("expected some text on one line without \\")
    return text


Text = Annotated[str, AfterValidator(_check_text)]


class CodedTerm(Record):
    """A term of a terminology.

    References:
        DICOM PS3.3, section 8 (codes) and C.8.20.4 (how segments are described).
    """

    value: Text = Field(max_length=16)
    """Code, such as `10200004`."""
    scheme: Text = Field(default="SCT", max_length=16)
    """Terminology: `SCT` for SNOMED CT, `DCM`, `FMA`, a private one begins with `99`."""
    meaning: Text = Field(max_length=LONGEST_MEANING)
    """What it means, for people: `Liver`."""


class LabelCode(Record):
    """What a label is in coded terms."""

    type: CodedTerm
    """What it is: an organ, a kind of lesion."""
    category: CodedTerm | None = None
    """What kind of thing that is; null: an anatomical structure, unless the shipped table knows the type."""
    region: CodedTerm | None = None
    """In which part of the body it lies, where the type does not say it, as that of a tumour."""
    side: CodedTerm | None = None
    """On which side, such as `Left`."""
