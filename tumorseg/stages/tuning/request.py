"""Options of `tune`."""

from pathlib import Path

from pydantic import Field, JsonValue

from tumorseg.schema.base import Record
from tumorseg.schema.plan import Plan
from tumorseg.schema.training import Count
from tumorseg.schema.tuning import Objective, Pruner, Sampler
from tumorseg.stages.opening.loaded import Roots
from tumorseg.tuning.spaces import DEFAULT_SPACE


class TuneRequest(Record):
    """Options of `tune`."""

    roots: Roots = Roots()
    """Data and work folder."""
    plan: Plan
    """What to refine."""
    configuration: str | None = None
    """The plan's default if None."""
    trials: Count | None = None
    """Trials at most."""
    hours: float | None = Field(default=None, gt=0)
    """Time for all of it, the honest end included."""
    objectives: tuple[Objective, ...] = Field(default=("dsc",), min_length=1)
    """The first decides about the child plan."""
    sampler: Sampler = "tpe"
    """Who draws what trials try."""
    pruner: Pruner = "median"
    """Who stops trials that fall behind."""
    space: JsonValue = DEFAULT_SPACE
    """Names of families with commas between, or a document."""
    proxy_iterations: Count | None = None
    """Steps of a trial; by the time, or the planned length, if None."""
    final_iterations: Count | None = None
    """Steps of each training that judges; likewise."""
    study: str | None = None
    """The plan's name if None."""
    storage: str | None = Field(default=None, repr=False)
    """URL of a database, which may hold a password; a file in the study's folder if None."""
    jobs: Count = 1
    """Workers on this machine."""
    judges: tuple[int, ...] | None = None
    """Folds whose held-out cases judge; 1, or the only one, if None."""
    spared: tuple[int, ...] = ()
    """Folds whose held-out cases enter no trial either."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the study."""
    device: str | None = None
    """The best there is if None."""
    dataset: str | None = None
    """Where the dataset is, if it moved."""
    mlflow: str | None = None
    """Where the study is mirrored to; nowhere if None."""
    output: Path
    """The child plan."""
    force: bool = False
    """Whether the child plan may replace any file."""
