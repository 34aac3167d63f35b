"""What a cross-evaluation is asked to do."""

from pathlib import Path

from pydantic import Field, model_validator

from tumorseg.errors import InputError
from tumorseg.schema.base import Record
from tumorseg.schema.crossing import CrossReport, MissingChannels
from tumorseg.schema.plan import Plan
from tumorseg.schema.score_rules import ScoreRules
from tumorseg.schema.wording import ExpectationError
from tumorseg.stages.crossing.leaving_out import PartKind
from tumorseg.stages.opening.loaded import Roots
from tumorseg.stages.opening.stated import Stated
from tumorseg.storage.cross_folders import CrossFolder
from tumorseg.storage.json_files import read_record


class Shard(Record):
    """A share of the cells, for one of several processes."""

    number: int = Field(ge=1)
    """From 1."""
    count: int = Field(ge=1)
    """Shares in all."""

    @model_validator(mode="after")
    def _check(self) -> "Shard":
        if self.number > self.count:
            raise ExpectationError(f"expected a number from 1 to {self.count}, and found {self.number}")
        return self

    def has(self, position: int) -> bool:
        """Return whether the work at a position in a list is part of this share."""
        return position % self.count == self.number - 1


class CrossEvaluateRequest(Record):
    """Options of `cross_evaluate`."""

    roots: Roots = Roots()
    """Data and work folder."""
    models: tuple[Path, ...] = ()
    """Model folders, or those of single folds: the matrix's rows."""
    datasets: tuple[str, ...] = ()
    """Names, folders or manifests: its columns."""
    output: Path
    """Folder of the results."""
    missing_channels: MissingChannels = "refuse"
    """What becomes of a dataset that lacks a channel of a model."""
    labels: Path | None = None
    """JSON file that says which labels of the datasets are the same."""
    scoring: ScoreRules = ScoreRules()
    """Which metrics, and how they are measured."""
    leave_out: PartKind | None = None
    """Parts of the plan's dataset that models are trained without, and tested on."""
    plan: Plan | None = None
    """What to train with."""
    drop_channels: bool = False
    """Whether channels are left out in turn."""
    shard: Shard | None = None
    """This process's share of the cells; all if None."""
    device: str | None = None
    """The best there is if None."""
    jobs: int | None = None
    """Processes that read and score; as many as the machine holds if None."""
    has_pages: bool = True
    """Whether each cell gets a report of its own, with pictures of its worst and best cases."""
    stated: Stated = Stated()
    """What is stated of files that leave it open."""

    def is_mine(self, position: int) -> bool:
        """Return whether the work at a position in a list is this process's."""
        return self.shard is None or self.shard.has(position)


def check_request(request: CrossEvaluateRequest) -> None:
    """Refuse options that leave nothing to do, or contradict each other.

    Raises:
        InputError: they do, or the document would take the place of another file.
    """
    if (request.leave_out is None) != (request.plan is None):
        raise InputError("--leave-out and -p belong together; give both, or neither")
    if request.leave_out is None and not (request.models and request.datasets):
        raise InputError(
            f"found {len(request.models)} times -m and {len(request.datasets)} times -d, expected each at least once; give both, or "
            "--leave-out site -p PLAN"
        )
    report = CrossFolder(request.output).report
    if report.exists():
        # What is no document of ours is somebody's file.
        read_record(CrossReport, report, error=InputError)
