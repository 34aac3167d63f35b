"""From what was found to the selection document."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tumorseg.ops.calibration import Calibration
from tumorseg.ops.choosing.evidence import Trial
from tumorseg.ops.choosing.nested import Gain, Nested, honest_gains
from tumorseg.ops.choosing.protocol import Choice, single
from tumorseg.reports.selection_words import step_text
from tumorseg.schema.ensembles import Combination
from tumorseg.schema.selection import (
    CalibrationEntry,
    CandidateEntry,
    CaseScores,
    ChoiceEntry,
    GainEntry,
    PartEntry,
    Selection,
    TrialEntry,
)
from tumorseg.stages.selection.calibrating import Temperature
from tumorseg.stages.selection.candidates import Candidate
from tumorseg.stages.selection.scorer import PoolScorer


class Findings(NamedTuple):
    """All that a selection found."""

    identity: str
    dataset: str
    candidates: Sequence[Candidate]
    num_left_out: int
    nested: Nested
    combination: Combination
    """Of the final choice, with its temperature."""
    temperature: Temperature


def selection_of(found: Findings, scorer: PoolScorer) -> Selection:
    """Return the document.

    Args:
        found: what it tells.
        scorer: that the choice was made by.
    """
    nested = found.nested
    gains = [_gain(gain) for gain in honest_gains(nested, scorer)]
    words = Words(scorer.names, [candidate.name for candidate in found.candidates])
    parts = [
        PartEntry(
            part=part,
            num_cases=int((scorer.parts == part).sum()),
            choice=words.entry(chosen.choice),
            baseline=words.single(chosen.baseline),
        )
        for part, chosen in sorted(nested.by_part.items())
    ]
    return Selection(
        identity=found.identity,
        dataset=found.dataset,
        names=scorer.names,
        has_regions=scorer.has_regions,
        candidates=tuple(_candidates(found.candidates, scorer)),
        num_left_out=found.num_left_out,
        cases=tuple(_cases(nested, scorer)),
        choice=words.entry(nested.final.choice),
        combination=found.combination,
        dsc=dict(zip(scorer.names, nested.apparent.mean(axis=0).tolist(), strict=True)),
        baseline=words.single(nested.final.baseline),
        by_part=tuple(parts),
        gains=tuple(gains),
        claim=claim_of(gains[0], num_parts=len(parts)),
        trials=tuple(_trial(trial, words) for trial in nested.final.trials),
        calibration=_calibration(found.temperature),
    )


class Words:
    """Choices as records and in words."""

    def __init__(self, names: Sequence[str], candidates: Sequence[str]) -> None:
        """Take up the names of what is scored, and those of the candidates."""
        self._names, self._candidates = names, candidates

    def entry(self, choice: Choice) -> ChoiceEntry:
        """Return the record of a choice."""
        members = {self._candidates[number]: tuple(row[number] for row in choice.counts) for number in choice.used}
        thresholds = choice.combination(self._names).thresholds
        return ChoiceEntry(members=members, thresholds=thresholds, steps=choice.steps, text=self.text(choice))

    def single(self, choice: Choice) -> str:
        """Return the name of the only member."""
        return self._candidates[choice.used[0]]

    def text(self, choice: Choice) -> str:
        """Return a choice in words: members, thresholds, postprocessing."""
        if len(choice.counts) == 1:
            members = [self._members(choice, 0)]
        else:
            members = [f"{name}: {self._members(choice, place)}" for place, name in enumerate(self._names)]
        thresholds = choice.combination(self._names).thresholds
        painted = [f"{name} above {threshold:g}" for name, threshold in thresholds.items()]
        return "; ".join([*members, *painted, *map(step_text, choice.steps)])

    def _members(self, choice: Choice, place: int) -> str:
        row = choice.row(place)
        counted = [(count, self._candidates[number]) for number, count in enumerate(row) if count]
        return " + ".join(name if count == 1 else f"{count} x {name}" for count, name in counted)


def claim_of(gain: GainEntry, *, num_parts: int) -> str:
    """Return the one sentence that may be said of a choice."""
    measured = (
        f"on {gain.num_cases} held-out cases, each scored by what was chosen without its part ({num_parts} parts), the mean DSC is "
        f"{gain.selected:.4f}, that of the best single model {gain.baseline:.4f}"
    )
    interval = (
        f"95 % interval {gain.ci95[0]:+.4f} to {gain.ci95[1]:+.4f}" if gain.ci95 else "too few cases for an interval"
    )
    difference = f"{gain.gain:+.4f} ({interval})"
    if gain.is_claimed:
        return f"The choice is better than the best single model: {measured}, a gain of {difference}."
    return f"No gain over the best single model may be claimed: {measured}, a difference of {difference}."


def _candidates(candidates: Sequence[Candidate], scorer: PoolScorer) -> list[CandidateEntry]:
    alone = scorer.scores([single(number, len(candidates)) for number in range(len(candidates))])
    entries = []
    for candidate, table in zip(candidates, alone, strict=True):
        folds = candidate.folds.values()
        entry = CandidateEntry(
            name=candidate.name,
            plan=candidate.plan.name,
            configuration=candidate.configuration_name,
            folds=tuple(str(fold.number) for fold in folds),
            weights=tuple(fold.weights for fold in folds),
            dsc=dict(zip(scorer.names, table.mean(axis=0).tolist(), strict=True)),
        )
        entries.append(entry)
    return entries


def _cases(nested: Nested, scorer: PoolScorer) -> list[CaseScores]:
    entries = []
    for place, case_id in enumerate(scorer.case_ids):
        baseline, selected = np.asarray(nested.baseline[place]), np.asarray(nested.selected[place])
        entry = CaseScores(
            case_id=case_id,
            part=int(scorer.parts[place]),
            baseline=tuple(baseline.tolist()),
            selected=tuple(selected.tolist()),
        )
        entries.append(entry)
    return entries


def _gain(gain: Gain) -> GainEntry:
    return GainEntry(
        name=gain.name,
        num_cases=gain.num_cases,
        baseline=gain.baseline,
        selected=gain.selected,
        gain=gain.gain,
        ci95=None if gain.interval is None else (float(gain.interval[0]), float(gain.interval[1])),
        is_claimed=gain.is_claimed,
    )


def _trial(trial: Trial, words: Words) -> TrialEntry:
    return TrialEntry(
        stage=trial.stage,
        round=trial.round,
        text=words.text(trial.choice),
        name=trial.name,
        gain=trial.gain,
        error=trial.error if math.isfinite(trial.error) else None,
        p=trial.p,
        verdict=trial.verdict,
        harmed=trial.harmed,
    )


def _calibration(found: Temperature) -> CalibrationEntry:
    honest, fitted = _before_and_after(found.honest), _before_and_after(found.fitted)
    return CalibrationEntry(
        temperature=found.fitted.temperature,
        num_voxels=found.num_voxels,
        nll=honest[0],
        ece=honest[1],
        fitted_nll=fitted[0],
        fitted_ece=fitted[1],
    )


def _before_and_after(found: Calibration) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Return NLL and ECE before and after; None for both without voxels."""
    if math.isnan(found.nll_before):
        return None, None
    return (found.nll_before, found.nll_after), (found.ece_before, found.ece_after)
