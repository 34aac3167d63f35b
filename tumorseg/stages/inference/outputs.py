"""What is written of each case: a mask in one format, DICOM objects, maps; and what it takes to write them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from tumorseg.errors import InputError
from tumorseg.schema.base import Record, content_hash
from tumorseg.schema.codes import LabelCode
from tumorseg.schema.common_codes import known_code
from tumorseg.schema.dataset import Case, DatasetDescription
from tumorseg.stages.inference.maps import MapRequest
from tumorseg.storage.hashing import case_files
from tumorseg.storage.images import strip_ending
from tumorseg.storage.layout import OUTPUT_ENDINGS

Format = Literal["nii.gz", "nii", "nrrd", "mha", "seg", "rtstruct"]
DicomFormat = Literal["seg", "rtstruct"]
DICOM_FORMATS: tuple[DicomFormat, ...] = ("seg", "rtstruct")
MOST_NAMED = 5
"""Cases that one message names at most."""


class Outputs(Record):
    """What is written of each case."""

    formats: tuple[Format, ...] = ("nii.gz",)
    """At most one of a label map (`nii.gz`, `nii`, `nrrd`, `mha`); `seg` and `rtstruct` of images that are DICOM."""
    seg_type: Literal["binary", "labelmap"] = "binary"
    """Kind of DICOM SEG."""
    maps: MapRequest = MapRequest()
    """What is written of the network's certainty, voxel by voxel, as NIfTI."""

    @model_validator(mode="after")
    def _check(self) -> "Outputs":
        if not self.formats:
            raise ValueError("expected at least one format")
        if len(label_maps := [one for one in self.formats if one not in DICOM_FORMATS]) > 1:
            raise ValueError(f"found {' and '.join(label_maps)}, expected one format of label maps at most")
        return self

    @property
    def ending(self) -> str | None:
        """Return how label maps are called; None where none are written."""
        return next((f".{one}" for one in self.formats if one not in DICOM_FORMATS), None)

    @property
    def dicom(self) -> tuple[DicomFormat, ...]:
        """Return the DICOM objects that are written."""
        return tuple(one for one in DICOM_FORMATS if one in self.formats)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return what is written beside label maps, each kind into a folder of its own."""
        maps = self.maps.model_dump()
        return tuple(kind for kind in OUTPUT_ENDINGS if kind in self.dicom or maps.get(kind))

    def names(self, case_id: str) -> tuple[str, ...]:
        """Return the files of a case, relative to the folder of predictions, the label map first."""
        label_map = () if self.ending is None else (f"{case_id}{self.ending}",)
        return (*label_map, *(f"{kind}/{case_id}{OUTPUT_ENDINGS[kind]}" for kind in self.kinds))

    def dicom_names(self, case_id: str) -> dict[str, DicomFormat]:
        """Return the DICOM objects of a case, relative to the folder of predictions, and what each is."""
        return {f"{kind}/{case_id}{OUTPUT_ENDINGS[kind]}": kind for kind in self.dicom}

    @property
    def identity(self) -> str:
        """Return the hash by which shards know that they write the same of each case."""
        return content_hash(self.model_dump(mode="json"))

    def forms(self, dataset: DatasetDescription) -> dict[str, str]:
        """Return what shapes files of a kind beside the masks that they are made of, as hashes."""
        if not self.dicom:
            return {}
        codes = {name: code and code.model_dump(mode="json") for name, code in codes_of(dataset).items()}
        found = {"seg": content_hash([self.seg_type, codes]), "rtstruct": content_hash([codes])}
        return {kind: form for kind, form in found.items() if kind in self.dicom}


AS_USUAL = Outputs()


def labels_found(dataset: DatasetDescription) -> dict[str, int]:
    """Return the labels that a model of a dataset can find, name to value, by value: where it finds regions, those painted for them."""
    painted = {region.value for region in dataset.regions}
    found = {name: value for name, value in dataset.foreground.items() if not painted or value in painted}
    return dict(sorted(found.items(), key=lambda one: one[1]))


def codes_of(dataset: DatasetDescription) -> dict[str, LabelCode | None]:
    """Return the coded term of each label but the background: the dataset's own, else a common one; None where there is none."""
    named = dataset.foreground
    return {name: dataset.codes.get(name) or known_code(name, dataset.name, tuple(named)) for name in named}


def kept_labels(names: Sequence[str], dataset: DatasetDescription) -> dict[str, int] | None:
    """Return the label values that masks are confined to, by name; None for all.

    Args:
        names: as given.
        dataset: of the model.

    Raises:
        InputError: the model finds no such label.
    """
    found = labels_found(dataset)
    if unknown := [name for name in names if name not in found]:
        raise InputError(
            f"--only-labels: the model finds no {', '.join(unknown)}; it finds {', '.join(found)}; give some of these"
        )
    # All of them are no less than what is found anyway.
    return {name: value for name, value in found.items() if name in names} if 0 < len(set(names)) < len(found) else None


def check_sources(outputs: Outputs, cases: Iterable[Case]) -> None:
    """Refuse DICOM objects of images that are none: they refer to the images that they were drawn on.

    Raises:
        InputError: a case has an image in another format.
    """
    if not outputs.dicom:
        return
    others = [case for case in cases if not all(_is_dicom(image.path) for image in case.images)]
    if others:
        named = ", ".join(case.case_id for case in others[:MOST_NAMED])
        raise InputError(
            f"--format {outputs.dicom[0]}: {len(others)} cases are no DICOM ({named}); give DICOM series, or ask for another format"
        )


def _is_dicom(path: str) -> bool:
    # A folder of a series may be called like an image file.
    return Path(path).is_dir() or strip_ending(Path(path).name) is None


def check_apart(cases: Iterable[Case], output: Path) -> None:
    """Refuse to write among inputs.

    Raises:
        InputError: an input lies where results are to be written.
    """
    ours = {output.resolve(), *((output / kind).resolve() for kind in OUTPUT_ENDINGS)}
    for case in cases:
        for path in (*case_files(case.changed(label=None, more_labels=())), *case.label_files):
            if Path(path).resolve().parent in ours:
                raise InputError(f"{output} holds {path}, an input of case {case.case_id}; give another -o")
