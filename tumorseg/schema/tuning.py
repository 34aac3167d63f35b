"""Tuning a plan: what may change, what a study is, and what came of its trials."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from tumorseg.schema.base import Record
from tumorseg.schema.training import Count

STUDY_VERSION = 1
"""Of a study's files; raised when their fields change."""

Objective = Literal["dsc", "nsd", "hd95", "seconds"]
"""What trials are judged by: mean over held-out cases of the mean over labels, or seconds of predicting a case."""
Sampler = Literal["tpe", "gp", "nsga2", "random"]
Pruner = Literal["median", "hyperband", "none"]
MAXIMISED: frozenset[Objective] = frozenset(("dsc", "nsd"))
"""Objectives of which more is better; of the others less is."""

Values = dict[str, JsonValue]
"""Dotted field of a configuration to its value."""


class Condition(Record):
    """When a parameter counts: while another field has one of some values."""

    field: str = Field(min_length=1)
    """Dotted, within the configuration: one that a parameter before this one names, or any other of the plan's own."""
    values: tuple[JsonValue, ...] = Field(min_length=1)


class Parameter(Record):
    """A field of a configuration that trials may change."""

    field: str = Field(min_length=1)
    """Dotted, within the configuration, such as `optimizer.lr`; entries of lists by name or number."""
    when: Condition | None = None
    """Trials in which it is changed; all if null."""


class RangeParameter(Parameter):
    """Base class: a number of a range, both ends included."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"
    """On which values are drawn evenly."""
    center: float | None = None
    """Where the prior is highest; the plan's own value if null, or the middle of the range where the plan has none."""
    spread: float = Field(default=0.25, gt=0)
    """Standard deviation of the prior, as a share of the range on its scale."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"the range of {self.field} is empty: from {self.low:g} to {self.high:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"the range of {self.field} begins at {self.low:g}; on a log scale it must begin above 0")
        return self


class RealParameter(RangeParameter):
    """A real number of a range."""

    name: Literal["real"] = "real"


class WholeParameter(RangeParameter):
    """A whole number of a range."""

    name: Literal["whole"] = "whole"
    low: int
    high: int
    center: int | None = None


class ChoiceParameter(Parameter):
    """One of some values."""

    name: Literal["choice"] = "choice"
    options: tuple[JsonValue, ...] = Field(min_length=2)
    """Any JSON values."""
    center: JsonValue = None
    """The option that the prior holds likeliest; the plan's own if null."""
    weight: float = Field(default=0.5, gt=0, lt=1)
    """Prior share of that option; the others share the rest."""

    @model_validator(mode="after")
    def _check(self) -> "ChoiceParameter":
        if any(option in self.options[:number] for number, option in enumerate(self.options)):
            raise ValueError(f"an option of {self.field} stands twice")
        return self


AnyParameter = Annotated[RealParameter | WholeParameter | ChoiceParameter, Field(discriminator="name")]


class Start(Record):
    """Values with which a trial begins, rather than drawn ones."""

    title: str = Field(min_length=1)
    source: str = Field(min_length=1)
    """Who published them."""
    values: Values
    """Of fields of the space; the others are the plan's own."""


class Space(Record):
    """What trials may change: data, so that a user can write one."""

    parameters: tuple[AnyParameter, ...] = Field(min_length=1)
    """In the order in which they are drawn: what a condition names stands before it."""
    starts: tuple[Start, ...] = ()
    """Tried right after the plan's own values."""

    @model_validator(mode="after")
    def _check(self) -> "Space":
        fields = [parameter.field for parameter in self.parameters]
        if twice := sorted({field for field in fields if fields.count(field) > 1}):
            raise ValueError(f"{', '.join(twice)} stands twice in the space")
        for number, parameter in enumerate(self.parameters):
            if parameter.when is not None and parameter.when.field in fields[number:]:
                raise ValueError(f"{parameter.field} depends on {parameter.when.field}, which must stand before it")
        return self


class Proxy(Record):
    """The short training of a trial."""

    iterations: Count
    """Steps of a trial that is not stopped."""
    rungs: tuple[Count, ...] = Field(min_length=1)
    """Steps after which it is scored, ascending; the last is `iterations`."""
    most_cases: Count
    """Cases at most that it is scored on."""

    @model_validator(mode="after")
    def _check(self) -> "Proxy":
        if list(self.rungs) != sorted(set(self.rungs)) or self.rungs[-1] != self.iterations:
            raise ValueError(f"rungs {list(self.rungs)} must ascend to iterations, {self.iterations}")
        return self


class InnerSplit(Record):
    """Which cases trials see; those of the judging folds are in neither list."""

    training: tuple[str, ...] = Field(min_length=1)
    """Cases that trials train on."""
    scored: tuple[str, ...] = Field(min_length=1)
    """Cases that trials are scored on."""
    kept: tuple[str, ...] = ()
    """Cases that trials neither train on nor are scored on."""


class Study(Record):
    """What a study is; written once, and the same whenever it is gone on with."""

    version: int = STUDY_VERSION
    tumorseg_version: str
    name: str
    plan_name: str
    plan_hash: str
    """Of the plan that is refined."""
    configuration: str
    objectives: tuple[Objective, ...] = Field(min_length=1)
    """The first decides about the child plan."""
    sampler: Sampler
    pruner: Pruner
    seed: int = Field(ge=0, lt=2**32)
    space: Space
    """With the plan's own values filled in."""
    proxy: Proxy
    split: InnerSplit
    judges: tuple[int, ...] = Field(min_length=1)
    """Folds whose held-out cases judge in the end."""
    spared: tuple[int, ...] = ()
    """Folds whose held-out cases enter no trial either."""
    final_iterations: Count
    """Steps of each training that is judged."""
    final_seeds: tuple[int, ...] = Field(min_length=1)
    """Seeds of these, none that of the trials."""
    most_trials: Count | None = None
    """Trials at most; null for as many as there is time for."""
    hours: float | None = Field(default=None, gt=0)
    """Time for all of it, the honest end included."""


class Task(Record):
    """A training that a worker takes on."""

    version: int = STUDY_VERSION
    tumorseg_version: str
    stem: str
    """Its name in the study's folder."""
    number: int | None = None
    """Of the trial; null for a training that is judged in the end."""
    values: Values
    """Changed fields of the configuration; none for the plan as it is."""
    fold: int | None = None
    """Judging fold of a final training; null for a trial, which has the study's inner split."""
    seed: int
    """Of the training."""
    rungs: tuple[Count, ...] = Field(min_length=1)
    """Steps after which it is scored, ascending; the last is its end."""


class CaseScores(Record):
    """Scores of one case, by label or region, with null where neither segmentation has it."""

    dsc: dict[str, float | None]
    nsd: dict[str, float | None] = Field(default_factory=dict)
    """Empty unless asked for."""
    hd95: dict[str, float | None] = Field(default_factory=dict)
    """mm, the image's diagonal where one segmentation is empty; empty unless asked for."""
    seconds: float | None = Field(default=None, ge=0)
    """That predicting the case took; null unless asked for."""


class Score(Record):
    """What a task came to after some of its steps: a line of its file of values."""

    iteration: Count
    values: tuple[float, ...]
    """Of the study's objectives, in their order."""
    cases: dict[str, CaseScores] = Field(default_factory=dict)
    """By case_id."""
    seconds: float = Field(default=0.0, ge=0)
    """Of training and scoring since the line before."""


Ending = Literal["finished", "stopped", "failed", "released"]
"""A task that reached its end, was told to stop, cannot be done, or was given back by a worker that had to go."""


class Ended(Record):
    """How a worker left a task."""

    state: Ending
    message: str = ""
    """One line, of a task that failed."""


TrialState = Literal["running", "finished", "pruned", "failed"]


class Trial(Record):
    """A trial as the report tells it."""

    number: int
    title: str = ""
    """Of the default and the published starts; nothing for one that was drawn."""
    state: TrialState
    values: Values
    scores: tuple[Score, ...] = ()
    """After each rung that it reached, without those of cases."""
    message: str = ""
    """Why it failed, or was left out."""
    seconds: float = 0.0
    """Of its training and scoring."""


class Judged(Record):
    """A candidate, or the plan as it was, trained again and judged."""

    title: str
    number: int
    """Of the trial whose values it has."""
    values: Values
    mean: float
    """First objective on the judging folds' held-out cases, mean over trainings."""
    by_training: dict[str, float]
    """The same by fold and seed."""


class Verdict(Record):
    """A candidate against the plan as it was, on cases that no trial has seen."""

    number: int
    """Of the candidate's trial."""
    gain: float
    """Mean difference over cases, in favour of the candidate if above 0."""
    ci95: tuple[float, float] | None
    """Interval of the gain over cases, or patients, and over what the luck of a seed adds; null of fewer than two."""
    p: float | None
    """One-sided, of no gain."""
    p_holm: float | None
    """The same, adjusted for the number of candidates."""
    is_gain: bool
    """Whether the interval excludes 0 and the adjusted p is below .025."""


class TrialsSoFar(Record):
    """The trials of a study that goes on, for those who watch it: `trials.json`."""

    trials: tuple[Trial, ...]
    """In the order of their numbers."""


class FinalState(Record):
    """How far a training of the honest end is."""

    score: Score | None = None
    """At its end."""
    is_over: bool = False
    """Whether it has ended, with a score or without."""
    message: str = ""
    """Why it has none."""


class StudyState(Record):
    """What a coordinator has to know again beside the trials: `state.json`."""

    seconds: float = 0.0
    """That the study has been at work."""
    rung_seconds: dict[int, tuple[float, ...]] = Field(default_factory=dict)
    """Of trials, by number, from rung to rung."""
    contenders: tuple[int, ...] | None = None
    """Trials that are judged in the end, the plan as it was first; null as long as there may be further trials."""
    finals: dict[str, FinalState] = Field(default_factory=dict)
    """Trainings of the honest end that were given out, by stem."""


class TuningResult(Record):
    """What a study found: `tuning.json`."""

    study: Study
    trials: tuple[Trial, ...]
    pareto: tuple[int, ...]
    """Numbers of the trials that no other is better than in every objective."""
    importances: dict[str, float]
    """Share of the spread of the first objective that a field accounts for."""
    judged: tuple[Judged, ...]
    """The plan as it was first."""
    verdicts: tuple[Verdict, ...]
    chosen: int | None
    """Trial whose values the child plan carries; null where none gained, so that it carries the plan's own."""
    claim: str
    """The same in a sentence."""
    seconds: float
    """From beginning to end, interruptions left out."""
    worker_seconds: float
    """Of trainings and their scoring, as far as they came to a score."""
