"""What is asked of the processes that measure settings, and what they answer."""

from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import Field

from tumorseg.schema.base import Record
from tumorseg.schema.dataset import Case
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.score_rules import ScoreRules
from tumorseg.schema.settings import MachineNote, Setting
from tumorseg.schema.trust import TrustProfile
from tumorseg.stages.inference.case_report import versions_here
from tumorseg.stages.inference.runtime import RuntimeOptions
from tumorseg.workers.machine import num_cores, processor_name

RULES = ScoreRules(metrics=("dsc", "nsd"))
"""What is measured of masks, at the tolerance of evaluation."""
BY_TORCH = RuntimeOptions(engine="torch")
"""Until a setting says otherwise; engines differ by rounding only, so that what they bring is measured with this one."""


class HeldOut(NamedTuple):
    """A case with its reference, and the folds that have not seen it."""

    case: Case
    """As the ensemble takes it."""
    folders: tuple[Path, ...]
    """Of each member, the fold that held it out."""


class CaseTask(NamedTuple):
    """A held-out case that is segmented with several settings."""

    held_out: HeldOut
    combination: Combination
    settings: tuple[Setting, ...]
    """Of one fold, run by torch."""
    device: str
    keep: Path
    """Folder of what was measured before."""
    trust: TrustProfile | None = None
    """Cases are judged by it, as they will be; None: they are not."""


class CostTask(NamedTuple):
    """An engine with a precision and so many folds, whose tiles are timed and whose memory is measured."""

    members: tuple[tuple[Path, ...], ...]
    """Folders of the folds of each member."""
    combination: Combination
    setting: Setting
    case: Case
    """The largest one."""
    device: str
    keep: Path
    cache: Path | None
    """Folder of converted networks."""
    most_s: float
    """A case that would take longer is not segmented, and its memory not measured."""
    trust: TrustProfile | None = None
    """As of `CaseTask`."""


class CaseNote(Record):
    """What one setting brought of one case, and what that took."""

    dsc: dict[str, float | None]
    """By label or region; null where neither mask has it."""
    nsd: dict[str, float | None]
    """Likewise."""
    seconds: float = Field(ge=0)
    """From the files to the written mask; of a cascade, by its previous model too."""
    beside_s: float
    """Of these, all but what the tiles by themselves take."""
    shapes: tuple[tuple[int, ...], ...]
    """Voxels (Z, Y, X) of the case, as it is cropped, on the grid of each network."""


class CaseNotes(Record):
    """What all settings brought of one case."""

    megavoxels: float = Field(gt=0)
    """Of the input, in millions."""
    notes: tuple[CaseNote, ...]
    """In the order of the settings."""


class CostNote(Record):
    """What an engine takes."""

    tile_s: tuple[float, ...]
    """Of each network."""
    peak_bytes: int | None
    """null where the case would have taken too long."""


def machine_note(device: str) -> MachineNote:
    """Return where something is measured."""
    place = torch.device(device)
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"
    return MachineNote(processor=processor_name(), cores=num_cores(), device=name, versions=versions_here())
