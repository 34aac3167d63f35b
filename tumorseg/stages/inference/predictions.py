"""The record of a folder of predictions: which files are results of what, and which may be replaced."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from tumorseg.errors import TumorsegError
from tumorseg.schema.base import Record, parse_record
from tumorseg.schema.cases import CaseReading
from tumorseg.schema.plan import InferencePrecision
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.json_files import read_json

RECORD_VERSION = 3
"""Of the record's form; raised when its fields change."""


class Made(Record):
    """A case that is done."""

    input_hash: str
    """Of the files that were segmented, as they were read, and of the previous segmentation that was shown."""
    files: dict[str, str]
    """Hash of each file that holds results of it, as it was written, by its name relative to the folder."""


class Predictions(Record):
    """Record of the method and the inputs that made the files in a folder."""

    schema_version: Literal[3] = 3
    """Of this document's form."""
    method_hash: str
    """Of everything that shapes a mask beside its inputs."""
    method_version: int
    """Of how this version of tumorseg predicts; part of that hash, and here to be read, as is what follows."""
    plan: str
    """Name of the model's plan."""
    weight_hashes: tuple[str, ...]
    """Of the checkpoints, those of a cascade's previous model included."""
    mirroring: bool
    """Whether mirrored views were averaged."""
    reading: CaseReading
    """What was done where files leave open how they are read."""
    precision: InferencePrecision = "auto"
    """What was asked of the network's precision."""
    only_labels: tuple[str, ...] = ()
    """Labels that masks are confined to, by name; empty for all."""
    forms: dict[str, str] = Field(default_factory=dict)
    """What shapes files of a kind beside the masks that they are made of, as a hash, by kind: `seg`, `rtstruct`."""
    cases: dict[str, Made] = Field(default_factory=dict)
    """What is done, by case_id."""
    replaceable: dict[str, str | None] = Field(default_factory=dict)
    """Files that are no results of this, by name: the hash of what another model, other options or other inputs made; null for one
    that was being written."""


def read_document(path: Path, error: type[TumorsegError]) -> Predictions:
    """Read the record of a folder, as it was when a run last ended.

    Raises:
        TumorsegError: of class `error`: it is of another version of tumorseg, damaged or missing.
    """
    document = read_json(path, error)
    found = document.get("schema_version", 1) if isinstance(document, dict) else None
    if found != RECORD_VERSION:
        raise error(
            f"found a record of form {found}, expected {RECORD_VERSION}: another version of tumorseg made these masks; "
            f"move {path.parent} aside, or give another folder",
            file=path,
        )
    return parse_record(Predictions, document, source=str(path), error=error)


def mask_hash(path: Path) -> str:
    """Return the hash of a result's file.

    Raises:
        InputError: it is missing or cannot be read.
    """
    return hash_files([str(path)])[str(path)].digest
