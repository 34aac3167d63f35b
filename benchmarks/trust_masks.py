"""Predicted against real DSC of a plan's trained folds; called by benchmarks.trust."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tumorseg.ops.geometry import orient
from tumorseg.ops.labels import to_indices
from tumorseg.ops.preprocessing import axis_order
from tumorseg.ops.trust.fitting import dealt_parts, fit_trust
from tumorseg.ops.trust.predicted_dsc import predict_dsc
from tumorseg.ops.trust.verdict import judge_case
from tumorseg.schema.base import to_json
from tumorseg.schema.cases import reading_of
from tumorseg.schema.dataset import Case, Dataset
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.schema.trust import DscRule, TrustCase, TrustProfile, TrustSubject
from tumorseg.sources.registry import open_dataset
from tumorseg.stages.inference.folds import is_finished
from tumorseg.stages.inference.models import load_model
from tumorseg.stages.inference.segment_case import RunOptions, segment_case
from tumorseg.stages.inference.trained_model import Model
from tumorseg.stages.inference.trusting import TrustObserver, profile_of, subject_of, trust_case
from tumorseg.stages.opening.fold_folders import model_folds
from tumorseg.stages.opening.loaded import read_plan
from tumorseg.stages.opening.reading import read_case_image, read_case_indices
from tumorseg.storage.layout import work_folder
from tumorseg.types import FloatArray, Segmentation

NUM_RESAMPLES = 5000
ALL_FOLDS = -1
"""Part of cases that no fold knows, seen by all folds together, as later ones are."""
FEATURES = ("expected_dsc", "agreement", "entropy", "volume_mm3")


class Judged(NamedTuple):
    """A case that was judged by what the others teach."""

    case_id: str
    name: str
    predicted: float
    low: float | None
    high: float | None
    real: float


class Limits(NamedTuple):
    """Of what is done."""

    records: Path | None
    """Folder in which what was seen of each case is kept, so that it is segmented once; None: not kept."""
    num_strangers: int | None
    """Cases that no fold knows at most; None for all."""


def study_masks(plan_path: Path, work: Path, data_root: Path, limits: Limits) -> dict[str, Any]:
    """Return how predicted DSC go with real ones, out of fold, and of cases that no fold knows.

    Args:
        plan_path: of the model.
        work: where its default configuration's folds are trained.
        data_root: where the dataset lies.
        limits: of what is done.
    """
    plan = read_plan(plan_path)
    # With the cases that the plan leaves out: no fold knows them.
    dataset = open_dataset(plan.dataset.name, data_root, labels=plan.dataset.labels)
    model_folder = work_folder(work, plan.dataset.name).model(plan.name, plan.default_configuration)
    finished = {int(folder.root.name.removeprefix("fold_")): folder for folder in model_folds(model_folder)}
    finished = {number: folder for number, folder in finished.items() if is_finished(folder)}
    cases: list[TrustCase] = []
    for number, folder in finished.items():
        cases += _observe([folder.root], _cases_of(dataset, plan.folds[number]), number, limits.records)
    cases.sort(key=lambda case: case.case_id)
    subject = subject_of(plan)
    profile = fit_trust(cases, subject)
    judged = list(_left_out(cases, dealt_parts(cases).tolist(), subject))
    found: dict[str, Any] = {
        "folds": sorted(finished),
        "out_of_fold": _summary(judged, cases),
        "spearman_within_folds": _within_folds(cases, judged),
        "networks_unknown": _summary(list(_left_out(cases, [case.part for case in cases], subject)), cases),
        "review_below": {name: rule.threshold for name, rule in profile.dsc.items()},
        "sound_flagged_of": [profile.num_flagged, profile.num_sound],
        "rank_correlation_of_single_features": _single_features(cases),
    }
    known = {case_id for fold in plan.folds for case_id in fold}
    strangers = [case.case_id for case in dataset.cases if case.case_id not in known and case.label is not None]
    if strangers:
        folders = [folder.root for folder in finished.values()]
        others = _observe(folders, _cases_of(dataset, strangers[: limits.num_strangers]), ALL_FOLDS, limits.records)
        found["unknown_to_all_folds"] = _strangers(profile, others)
    return found


def _strangers(profile: TrustProfile, cases: Sequence[TrustCase]) -> dict[str, Any]:
    """Return how a profile does on cases that it was not learned from."""
    reviews = [judge_case(profile, case.image, case.features).review for case in cases]
    judged = [one for case in cases for one in _judged(profile.dsc, case)]
    told = [review for review in reviews if review is not None]
    return _summary(judged, cases) | {"flagged": len(told), "reasons": told[:12]}


def _observe(folders: Sequence[Path], cases: Iterable[Case], part: int, records: Path | None) -> list[TrustCase]:
    """Segment and score cases with some folds, but for those of which there is a record."""
    model: Model | None = None
    found = []
    for case in cases:
        path = None if records is None else records / f"{part} {case.case_id}.json"
        if path is not None and path.is_file():
            found.append(TrustCase.model_validate_json(path.read_text()))
            continue
        model = model or load_model(folders, "cpu")
        found.append(_observed(model, case, part))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(to_json(found[-1]))
    return found


def _cases_of(dataset: Dataset, case_ids: Sequence[str]) -> Iterator[Case]:
    wanted = set(case_ids)
    yield from (case for case in dataset.cases if case.case_id in wanted)


def _observed(model: Model, case: Case, part: int) -> TrustCase:
    """Segment and score a case."""
    plan = model.plan
    targets, reading = targets_of(plan.dataset), reading_of(plan.dataset)
    found = read_case_image(case, reading, axis_order(plan))
    observer = TrustObserver(targets, found)
    values = segment_case(model, found, options=RunOptions(with_votes=True), observers=[observer])
    reference = read_case_indices(case, found, targets, reading)
    dsc = dict(_dsc(to_indices(orient(values, found.orientation), targets), reference, targets))
    image = profile_of(found, subject_of(plan))
    return trust_case(case.case_id, part, image, observer.features()).changed(dsc=dsc)


def _dsc(prediction: Segmentation, reference: Segmentation, targets: Targets) -> Iterator[tuple[str, float | None]]:
    for name, members in zip(targets.scored_names, targets.scored_classes, strict=True):
        one, other = np.isin(prediction, members), np.isin(reference, members)
        both = int(one.sum()) + int(other.sum())
        yield name, 2 * int((one & other).sum()) / both if both else None


def _left_out(cases: Sequence[TrustCase], parts: Sequence[int], subject: TrustSubject) -> Iterator[Judged]:
    """Yield each case as a profile judges it that knows the other parts alone."""
    for part in sorted(set(parts)):
        others = [case for case, its in zip(cases, parts, strict=True) if its != part]
        rules = fit_trust(others, subject).dsc
        for case, its in zip(cases, parts, strict=True):
            if its == part:
                yield from _judged(rules, case)


def _within_folds(cases: Sequence[TrustCase], judged: Sequence[Judged]) -> dict[str, list[float]]:
    """Return the rank correlation of predicted and real DSC of each fold by itself."""
    fold_of = {case.case_id: case.part for case in cases}
    found: dict[str, list[float]] = {}
    for name in dict.fromkeys(one.name for one in judged):
        for fold in sorted(set(fold_of.values())):
            rows = [(one.predicted, one.real) for one in judged if one.name == name and fold_of[one.case_id] == fold]
            predicted, real = np.array(rows).T
            found.setdefault(name, []).append(round(_spearman(predicted, real), 3))
    return found


def _judged(rules: Mapping[str, DscRule], case: TrustCase) -> Iterator[Judged]:
    for name, features in case.features.items():
        real = case.dsc.get(name)
        predicted = predict_dsc(rules[name], features, case.image) if name in rules else None
        if predicted is not None and real is not None:
            yield Judged(case.case_id, name, predicted.value, predicted.low, predicted.high, real)


def _summary(judged: Sequence[Judged], cases: Sequence[TrustCase]) -> dict[str, Any]:
    found: dict[str, Any] = {"num_cases": len(cases)}
    for name in dict.fromkeys(one.name for one in judged):
        rows = [one for one in judged if one.name == name]
        predicted, real = (np.array([getattr(one, field) for one in rows]) for field in ("predicted", "real"))
        told = [(one.low, one.high, one.real) for one in rows if one.low is not None and one.high is not None]
        ends = _interval(predicted, real)
        found[name] = {
            "num": len(rows),
            "mean_dsc": round(float(real.mean()), 4),
            "spearman": round(_spearman(predicted, real), 3),
            "spearman_ci95": [round(end, 3) for end in ends],
            "mean_error": round(float(np.abs(predicted - real).mean()), 4),
            "mean_predicted_minus_real": round(float((predicted - real).mean()), 4),
            "covered_by_90": [sum(low <= value <= high for low, high, value in told), len(told)],
            "mean_width": round(float(np.mean([high - low for low, high, _ in told])), 3) if told else None,
        }
    return found


def _single_features(cases: Sequence[TrustCase]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name in cases[0].features:
        rows = [(case.features[name], case.dsc[name]) for case in cases if case.dsc[name] is not None]
        for feature in FEATURES:
            pairs = [(getattr(one, feature), real) for one, real in rows if getattr(one, feature) is not None]
            if pairs:
                values, real = np.array(pairs, np.float64).T
                found.setdefault(name, {})[feature] = round(_spearman(values, real), 3)
    return found


def _spearman(one: FloatArray, other: FloatArray) -> float:
    from scipy.stats import rankdata

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _interval(one: FloatArray, other: FloatArray) -> tuple[float, float]:
    """Return the 95 % interval of the rank correlation, by a bootstrap of cases."""
    random = np.random.default_rng(0)
    drawn = (random.integers(len(one), size=len(one)) for _ in range(NUM_RESAMPLES))
    low, high = np.percentile([_spearman(one[rows], other[rows]) for rows in drawn], (2.5, 97.5))
    return float(low), float(high)
