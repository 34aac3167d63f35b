"""The selection document: what was chosen from what, on which cases, and what may be claimed of it."""

from typing import Annotated, Literal

from pydantic import Field

from tumorseg.schema.base import Record
from tumorseg.schema.ensembles import Combination, PostprocessingStep
from tumorseg.schema.training import Count

Share = Annotated[float, Field(ge=0, le=1)]
Stage = Literal["ensemble", "names", "thresholds", "steps"]
"""What was being chosen: members for all names together; for each by itself; thresholds of regions; postprocessing."""
Verdict = Literal["taken", "outdone", "no gain", "harms", "within noise"]
"""outdone: sound, but another proposal of the round gained more."""


class CandidateEntry(Record):
    """A model that could become a member."""

    name: str
    """Plan/configuration."""
    plan: str
    configuration: str
    folds: tuple[str, ...]
    """Names of those that are trained to their end."""
    weights: tuple[str, ...]
    """Hash of each one's checkpoint."""
    dsc: dict[str, Share]
    """By itself: label or region to its mean over all cases, each predicted by the fold that did not see it."""


class ChoiceEntry(Record):
    """An ensemble with all that is done to its answer."""

    members: dict[str, tuple[int, ...]]
    """Name of each member to how often it counts: once for all labels or regions, or for each."""
    thresholds: dict[str, Share]
    """Of regions, where it is not 0.5."""
    steps: tuple[PostprocessingStep, ...]
    text: str
    """The same in words."""


class PartEntry(Record):
    """What was chosen for one part of the cases, on all others."""

    part: int
    num_cases: Count
    choice: ChoiceEntry
    baseline: str
    """The candidate that was best on the others."""


class TrialEntry(Record):
    """A proposal that was compared with what stood then, on all cases."""

    stage: Stage
    round: int
    """Proposals of the same number were compared at once."""
    text: str
    """The proposal in words."""
    name: str | None
    """Label or region that was to gain; null: the mean over all."""
    gain: float
    """Of the mean DSC."""
    error: float | None
    """Standard error of the gain; null where one case, or patient, has none."""
    p: Share
    """Chance of as large a gain by noise alone, shared by the proposals of the round."""
    verdict: Verdict
    harmed: str | None
    """The first label or region whose mean falls."""


class GainEntry(Record):
    """What the choice gains on cases that it was not chosen on."""

    name: str | None
    """Label or region; null: the mean over all of them in each case."""
    num_cases: Count
    baseline: Share
    """Mean DSC of the best single candidate, chosen on the other parts as well."""
    selected: Share
    gain: float
    """Mean paired difference."""
    ci95: tuple[float, float] | None
    """Of the gain; null for fewer than two cases, or patients."""
    is_claimed: bool
    """Whether a gain may be claimed; only that of the mean is tested."""


class CaseScores(Record):
    """DSC of one case; 1 where neither mask has the label or region, 0 where one alone has it."""

    case_id: str
    part: int
    baseline: tuple[Share, ...]
    """In the order of `names`, by what was best on the other parts."""
    selected: tuple[Share, ...]
    """By what was chosen on the other parts."""


class CalibrationEntry(Record):
    """What the temperature changes. Parts divide it alone: the choice that it scales was made on all cases."""

    temperature: float = Field(gt=0)
    """Fitted on all cases."""
    num_voxels: int = Field(ge=0)
    """Around what is in the reference or the prediction."""
    nll: tuple[float, float] | None
    """Negative log-likelihood a voxel before and after, each part by the temperature of the others; null without voxels."""
    ece: tuple[Share, Share] | None
    """Expected calibration error, likewise."""
    fitted_nll: tuple[float, float] | None
    """Where it was fitted."""
    fitted_ece: tuple[Share, Share] | None


class Selection(Record):
    """`selection.json`."""

    schema_version: Literal[1] = 1
    identity: str
    """Hash of candidates, weights, cases and rules: the same identity is the same selection."""
    dataset: str
    """Name of the dataset."""
    names: tuple[str, ...]
    """Labels or regions that are scored."""
    has_regions: bool
    candidates: tuple[CandidateEntry, ...]
    num_left_out: int = Field(ge=0)
    """Cases of the dataset that some candidate has no fold for, or that have no reference."""
    cases: tuple[CaseScores, ...]
    choice: ChoiceEntry
    combination: Combination
    """The same as `predict` does it, with the temperature."""
    dsc: dict[str, Share]
    """Means of the choice over the cases that it was chosen on: too good on average."""
    baseline: str
    """The best single candidate on all cases."""
    by_part: tuple[PartEntry, ...]
    gains: tuple[GainEntry, ...]
    """Of the mean first."""
    claim: str
    """The sentence that may be said of it."""
    trials: tuple[TrialEntry, ...]
    """All that was compared, in order."""
    calibration: CalibrationEntry

    @property
    def gain(self) -> GainEntry:
        """Return that of the mean over labels or regions."""
        return self.gains[0]
