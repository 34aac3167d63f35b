"""What a model's settings cost and bring: `settings.json` of a model that `select` made."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.plan import InferencePrecision
from tumorseg.schema.training import Count

Engine = Literal["torch", "compile", "openvino"]
"""What runs networks: torch, torch.compile or OpenVINO."""
SETTINGS_VERSION = 1
"""Of the document's form; raised when its fields change."""

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


class Setting(Record):
    """How a model predicts, as far as that is a choice between time and quality."""

    num_folds: Count
    """Folds of each member that are averaged; a member that has fewer averages all of its own."""
    mirroring: bool
    """Whether mirrored views are averaged, by members whose plans say so."""
    overlap: float = Field(ge=0, lt=1)
    """Share of a tile that the next one covers again."""
    precision: InferencePrecision
    """Of the networks."""
    engine: Engine
    """What runs them."""

    def __str__(self) -> str:
        folds = f"{self.num_folds} fold{'s' if self.num_folds > 1 else ''}"
        views = "mirrored views" if self.mirroring else "one view"
        return f"{folds}, {views}, overlap {self.overlap:g}, {self.precision}, {self.engine}"


class BesideSeconds(Record):
    """Seconds of a case in which no network computes: reading, preparing, restoring, writing."""

    per_case: Seconds = 0.0
    """However small the case is."""
    per_megavoxel: Seconds = 0.0
    """For each million voxels of the input."""

    def of(self, megavoxels: float) -> float:
        """Return the seconds of an input of so many million voxels."""
        return self.per_case + self.per_megavoxel * megavoxels


class MeasuredSetting(Record):
    """What one setting was found to bring and to cost, on held-out cases."""

    setting: Setting
    dsc: Share | None
    """Mean over cases, then over labels or regions; null where it was not measured or is not defined."""
    nsd: Share | None
    """Likewise, at the tolerance of the rules."""
    is_of_one_fold: bool
    """Whether both are those of one fold though the setting has several: on a case that one has not seen, the others were trained."""
    seconds: Seconds
    """Of a case as it is cropped, on average: tiles times views times folds times `tile_s`, and what is beside it."""
    peak_bytes: int | None = Field(ge=0)
    """The most that was held while the largest of the cases was predicted: main memory of the process on a processor, reserved memory of
    the device on a GPU; measured with one view, or two where cases are judged by votes: more take no more. null where that was not measured."""
    tile_s: tuple[Seconds, ...]
    """Of one patch through one network, for each of the table's `networks`."""
    beside: BesideSeconds
    """What a case takes beside its networks."""
    num_cases: int = Field(ge=0)
    """Cases on which DSC and NSD were measured."""


class MachineNote(Record):
    """Where something was measured."""

    processor: str
    """Its name."""
    cores: Count
    """That the process could use."""
    device: str
    """Where the networks were: `cpu`, or the name of a GPU."""
    versions: dict[str, str]
    """Of packages."""


class SettingsTable(Record):
    """`settings.json`: what `predict --budget` chooses from."""

    schema_version: Literal[1] = 1
    machine: MachineNote
    """All seconds and bytes are this machine's."""
    networks: tuple[str, ...] = Field(min_length=1)
    """Whose tiles were timed, as plan/configuration: each member's, followed by that of its cascade's previous model."""
    cases: tuple[str, ...]
    """Held-out cases on which DSC and NSD were measured, each segmented by the folds that had not seen it."""
    tolerance_mm: float = Field(ge=0)
    """Of the NSD."""
    rows: tuple[MeasuredSetting, ...] = Field(min_length=1)
    """Best first."""

    @model_validator(mode="after")
    def _check(self) -> "SettingsTable":
        for row in self.rows:
            if len(row.tile_s) != len(self.networks):
                raise ValueError(
                    f"rows: found seconds of {len(row.tile_s)} networks, expected {len(self.networks)}, those of networks"
                )
        return self
