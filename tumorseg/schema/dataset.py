"""Datasets as sources return them: channels, labels, regions and the files of each case."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, ValidationInfo, field_validator, model_validator

from tumorseg.errors import escaped, is_plain
from tumorseg.schema.base import Record
from tumorseg.schema.codes import LabelCode
from tumorseg.schema.wording import ExpectationError

ChannelKind = Literal["ct", "mr", "pet", "rgb", "other"]

# For other programs: the checks below ask Unicode itself, which knows a few more, most of them of scripts that nobody writes now.
COMMANDS = r"\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
"""Control and format characters, as in a pattern."""
NAME_PATTERN = rf"^[^/\\{COMMANDS}]+$"
"""What a channel or region may be called: no separators."""
FILE_NAME_PATTERN = rf"^[^/\\{COMMANDS}.\s]([^/\\{COMMANDS}]*[^/\\{COMMANDS}\s])?$"
"""What becomes the name of a file or folder of its own: besides, no leading dot (`..`, hidden files), no outer blanks."""


def _check_name(name: str) -> str:
    if re.fullmatch(r"[^/\\]+", name) is None or not is_plain(name):
        raise ExpectationError("expected a name of at least one letter, without / or \\ and without control characters")
    return name


def _check_label(name: str) -> str:
    if not name.strip():
        raise ExpectationError("expected a name of at least one letter for each label")
    return _check_plain(name)


def _check_plain(name: str) -> str:
    if not is_plain(name):
        raise ExpectationError("expected a name without control and format characters")
    return name


MOST_LETTERS = 200
"""Of a name."""
MOST_BYTES = 230
"""Of a name that becomes a file's, which may take 255 with its ending and while it is written."""


def name_fault(name: str) -> str | None:
    """Return why a name cannot be a file's, as what follows `the name`, or None."""
    if len(name) > MOST_LETTERS:
        return f"has {len(name)} letters, expected at most {MOST_LETTERS}"
    # Lone surrogates stand for bytes that are no UTF-8; they have to be counted here to be reported below.
    num_bytes = len(name.encode(errors="surrogatepass"))
    # Of several faults the first is reported.
    faults = {
        "is empty": not name,
        "holds bytes that are no text in UTF-8": re.search(r"[\ud800-\udfff]", name),
        f"takes {num_bytes} bytes, expected at most {MOST_BYTES}": num_bytes > MOST_BYTES,
        "holds / or \\": re.search(r"[/\\]", name),
        "holds a line break or another control or format character": not is_plain(name),
        "begins with a dot": name.startswith("."),
        "begins with a blank": name[:1].isspace(),
        "ends with a blank": name[-1:].isspace(),
    }
    return next((fault for fault, is_so in faults.items() if is_so), None)


def _check_file_name(name: str) -> str:
    if (fault := name_fault(name)) is not None:
        raise ExpectationError(f"expected a name that a file can bear, and this one {fault}")
    return name


# The patterns stand in the published schema; what breaks one is reported in words.
Name = Annotated[
    str, Field(max_length=MOST_LETTERS, json_schema_extra={"pattern": NAME_PATTERN}), AfterValidator(_check_name)
]
FileName = Annotated[
    str,
    Field(max_length=MOST_LETTERS, json_schema_extra={"pattern": FILE_NAME_PATTERN}),
    AfterValidator(_check_file_name),
]

PlainName = Annotated[str, AfterValidator(_check_plain)]
"""A name of something that is only shown, such as a group of patients."""
ShownText = Annotated[str, AfterValidator(escaped)]
"""What is said of a case in words of any kind, notes of several lines among them: its control characters become escapes."""
LabelName = Annotated[str, AfterValidator(_check_label)]
"""A dataset's own name of a label, which may hold separators."""
# Text and true are no label values, even where they could be read as numbers.
Labels = dict[LabelName, StrictInt]


AXIS_LETTERS = ("RL", "AP", "SI")
"""Where an axis may point to, a pair for each world axis: right or left, anterior or posterior, superior or inferior."""


def check_orientation(code: str) -> str:
    """Return an orientation code in capitals.

    Raises:
        ValueError: it is none.
    """
    code = code.upper()
    # Of three letters, one of each pair leaves none that is unknown or repeats an axis.
    has_all_axes = all(set(code) & set(pair) for pair in AXIS_LETTERS)
    if len(code) != 3 or not has_all_axes:
        raise ExpectationError(
            "expected where axes x, y and z point to, one letter each of R/L, A/P and S/I, such as RAS or LPS"
        )
    return code


OrientationCode = Annotated[str, AfterValidator(check_orientation)]
"""Where the stored axes x, y, z point to: `RAS`, `LPS`, …"""


class Channel(Record):
    """One input image of every case."""

    name: Name
    """As the dataset calls it: `T1`, `CT`, `FLAIR`, …"""
    kind: ChannelKind | None = None
    """What made the intensities; decides the normalisation. null: not known yet, planning decides."""
    outside_value: float | None = Field(default=None, allow_inf_nan=False)
    """Intensity of voxels that this image does not cover, where channels lie on different grids; null: -1024 for CT, else its least."""


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


class Reading(Record):
    """Rules for reading files that leave something open: stated by the user or a manifest, kept in the plan."""

    assumed_orientation: OrientationCode | None = None
    """Orientation of the files that state none; null: what their format takes for usual, with a warning."""
    paint_order: tuple[str, ...] = ()
    """Labels in the order in which structures that overlap are painted, the last on top; where it says nothing, the smaller of
    two lies on top if that is beyond doubt."""
    grid_channel: Name | None = None
    """Channel on whose grid a case's label lies and results are written; null: the one that the label lies on, else the first."""


class LabelDoubt(Record):
    """Doubt whether labels that were found in files, not stated, are what is meant."""

    message: str
    """One line: what was found, in which groups of cases, what to do."""
    case_ids: tuple[str, ...] = ()
    """The cases that it is about."""


class DatasetDescription(Record):
    """Properties that all cases of a dataset share."""

    name: FileName
    """The registered one, else the manifest's, else the folder's; folders below the work folder are called so."""
    channels: tuple[NamedChannel, ...] = Field(min_length=1)
    """In the order in which networks see them."""
    labels: Labels
    """Label name to label value; any integers, 0 being the background."""
    optional_labels: tuple[str, ...] = ()
    """Names of labels that may be in no case: a layout that knows them says so, not this dataset's own files."""
    regions: tuple[Region, ...] = ()
    """If not empty, networks predict these with a sigmoid each, instead of labels with one softmax."""
    ignore_label: int | None = None
    """Voxels of this value carry no supervision and are not scored."""
    reading: Reading = Reading()
    """How files are read where they leave it open."""
    codes: dict[str, LabelCode] = Field(default_factory=dict)
    """Coded terms of labels, by name, for results in DICOM; a shipped table knows common names."""

    @property
    def foreground(self) -> dict[str, int]:
        """Return the labels but the background and the ignored one: name to value."""
        return {name: value for name, value in self.labels.items() if value not in (0, self.ignore_label)}

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
            # What a region is painted with must be a label too, or results would hold values that no label has.
            if unknown := sorted((set(region.labels) | {region.value}) - foreground):
                known = ", ".join(map(str, sorted(foreground)))
                raise ValueError(f"region {region.name} names label values {unknown}; foreground labels are {known}")
        _check_named(self)
        return self


class ImageFile(Record):
    """File, or files, of one channel of one case."""

    path: str
    """Absolute, or relative to where the command runs; a folder for a DICOM series of several files."""
    parts: tuple[str, ...] = ()
    """Files of a DICOM series, relative to the folder `path`; empty for an image of one file, or a folder of one series."""
    index: StrictInt | None = Field(default=None, ge=0)
    """Volume along the last axis of a 4D file; null for a file of one volume."""
    num_volumes: StrictInt | None = Field(default=None, ge=1)
    """Volumes that the file must have; null for as many as there are."""

    # Not of the record as a whole: where a path may stand instead, only a fault of a field is told as one of this form.
    @field_validator("index", "num_volumes")
    @classmethod
    def _check_alone(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("parts"):
            raise ExpectationError("expected none beside `parts`, as a series is one volume")
        return value


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
    group: PlainName | None = None
    """Cases of one group (a patient) must not be split between training and validation."""
    site: PlainName | None = None
    """Where the case was acquired."""
    columns: dict[PlainName, ShownText] = Field(default_factory=dict)
    """What else a table says of the case, such as `age`, by column."""

    @property
    def label_files(self) -> tuple[str, ...]:
        """Return every file of the reference segmentation."""
        return () if self.label is None else (self.label, *self.more_labels)


class Dataset(DatasetDescription):
    """A dataset on disk, as a source read it."""

    cases: tuple[Case, ...]
    """Sorted by case_id."""
    doubts: tuple[LabelDoubt, ...] = ()
    """What speaks against labels that were found in files; empty where the dataset states its labels."""

    @model_validator(mode="after")
    def _check_cases(self) -> "Dataset":
        _check_unique("case_id", [case.case_id for case in self.cases])
        return self

    def description(self) -> DatasetDescription:
        """Return what is common to all cases."""
        return DatasetDescription(**{name: getattr(self, name) for name in DatasetDescription.model_fields})


def _check_named(description: DatasetDescription) -> None:
    reading = description.reading
    if unknown := [name for name in description.optional_labels if name not in description.labels]:
        raise ValueError(f"optional_labels names {unknown}, labels are {', '.join(description.labels)}")
    if unknown := [name for name in description.codes if name not in description.labels]:
        raise ValueError(f"codes names {unknown}, labels are {', '.join(description.labels)}")
    if needless := [name for name in description.codes if name not in description.foreground]:
        raise ValueError(f"codes names {needless}, which are background or ignored; expected other labels")
    _check_unique("paint_order", reading.paint_order)
    if unknown := [name for name in reading.paint_order if name not in description.labels]:
        raise ValueError(f"paint_order names {unknown}, labels are {', '.join(description.labels)}")
    names = [channel.name for channel in description.channels]
    if reading.grid_channel is not None and reading.grid_channel not in names:
        raise ValueError(f"grid_channel is {reading.grid_channel!r}, channels are {', '.join(names)}")


def _check_unique(what: str, values: Iterable[Any]) -> None:
    if repeated := repeated_values(values):
        raise ValueError(f"{what} given twice: {repeated[:5]}")


def repeated_values(values: Iterable[Any]) -> list[Any]:
    """Return the values that stand more than once, sorted."""
    return sorted(value for value, count in Counter(values).items() if count > 1)
