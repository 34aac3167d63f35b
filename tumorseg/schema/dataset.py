"""What a source hands over: channels, labels, regions and where each case's files lie."""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tumorseg.schema.base import Record

ChannelKind = Literal["ct", "mr", "pet", "rgb", "other"]

NAME_PATTERN = r"^[^/\\\x00-\x1f]+$"
"""What a channel or region may be called: no separators."""

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=200)]

FILE_NAME_PATTERN = r"^[^/\\\x00-\x1f.\s]([^/\\\x00-\x1f]*[^/\\\x00-\x1f\s])?$"
"""What becomes the name of a file or folder of its own: besides, no leading dot (`..`, hidden files), no outer blanks."""

FileName = Annotated[str, Field(pattern=FILE_NAME_PATTERN, max_length=200)]


class Channel(Record):
    """One input image of every case."""

    name: Name
    """As the dataset calls it: `T1`, `CT`, `FLAIR`, …"""
    kind: ChannelKind | None = None
    """What made the intensities; decides the normalisation. null: not known yet, planning decides."""


def _channel_from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


NamedChannel = Annotated[Channel, BeforeValidator(_channel_from_name, json_schema_input_type=str | Channel)]


class Region(Record):
    """Labels that are predicted and scored together, such as the whole tumour of BraTS."""

    name: Name
    """As scores call it."""
    labels: tuple[int, ...] = Field(min_length=1)
    """Label values that the region joins."""
    value: int = Field(gt=0)
    """Label value painted where the region is predicted; later regions paint over earlier ones."""


class DatasetDescription(Record):
    """What is common to all cases of a dataset."""

    name: FileName
    """The registered one, else the manifest's, else the folder's; folders below the work folder are called so."""
    channels: tuple[NamedChannel, ...] = Field(min_length=1)
    """In the order in which networks see them."""
    labels: dict[str, int]
    """Label name to label value; any integers, 0 being the background."""
    regions: tuple[Region, ...] = ()
    """If not empty, networks predict these with a sigmoid each, instead of labels with one softmax."""
    ignore_label: int | None = None
    """Voxels of this value carry no supervision and are not scored."""

    @field_validator("labels", mode="after")
    @classmethod
    def _order_labels(cls, labels: dict[str, int]) -> dict[str, int]:
        """Sort by value, so that equal datasets are equal records."""
        return dict(sorted(labels.items(), key=lambda item: item[1]))

    @model_validator(mode="after")
    def _check(self) -> "DatasetDescription":
        _check_unique("channel", [channel.name for channel in self.channels])
        _check_unique("label value", list(self.labels.values()))
        _check_unique("region", [region.name for region in self.regions])
        if self.ignore_label == 0:
            raise ValueError("ignore_label is 0, which is the background")
        foreground = {value for value in self.labels.values() if value not in (0, self.ignore_label)}
        for region in self.regions:
            if unknown := sorted((set(region.labels) | {region.value}) - foreground):
                known = ", ".join(map(str, sorted(foreground)))
                raise ValueError(f"region {region.name} names label values {unknown}; foreground labels are {known}")
        return self


class ImageFile(Record):
    """Where one channel of one case lies."""

    path: str
    """Absolute, or relative to where the command runs; a folder for a DICOM series of several files."""
    parts: tuple[str, ...] = ()
    """Files of a DICOM series, relative to the folder `path`; empty for an image of one file, or a folder of one series."""
    index: int | None = None
    """Volume along the last axis of a 4D file; null for a file of one volume."""
    num_volumes: int | None = None
    """Volumes that the file must have; null for as many as there are."""


class Case(Record):
    """One study."""

    case_id: FileName
    """Unique in the dataset; results are called so."""
    images: tuple[ImageFile, ...]
    """One per channel of the dataset, in its order."""
    label: str | None = None
    """File of the reference segmentation; null where there is none."""
    more_labels: tuple[str, ...] = ()
    """Further files of it: a DICOM study may have one per structure."""
    group: str | None = None
    """Cases of one group (a patient) must not be split between training and validation."""
    site: str | None = None
    """Where the case was acquired."""

    @property
    def label_files(self) -> tuple[str, ...]:
        """Return every file of the reference segmentation."""
        return () if self.label is None else (self.label, *self.more_labels)


class Dataset(DatasetDescription):
    """A dataset on disk, as a source read it."""

    cases: tuple[Case, ...]
    """Sorted by case_id."""

    @model_validator(mode="after")
    def _check_cases(self) -> "Dataset":
        _check_unique("case_id", [case.case_id for case in self.cases])
        return self

    def description(self) -> DatasetDescription:
        """Return what is common to all cases."""
        return DatasetDescription(**{name: getattr(self, name) for name in DatasetDescription.model_fields})


def _check_unique(what: str, values: Iterable[Any]) -> None:
    if repeated := repeated_values(values):
        raise ValueError(f"{what} given twice: {repeated[:5]}")


def repeated_values(values: Iterable[Any]) -> list[Any]:
    """Return the values that stand more than once, sorted."""
    return sorted(value for value, count in Counter(values).items() if count > 1)
