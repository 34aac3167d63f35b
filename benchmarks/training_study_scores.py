"""What the rows of benchmarks/training_study.py come to: each arm against another, case by case."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tumorseg.ops.significance.effects import holm
from tumorseg.ops.significance.intervals import mean_intervals
from tumorseg.ops.significance.paired_tests import permutation_tests
from tumorseg.ops.significance.scores import cluster_numbers
from tumorseg.types import FloatArray

Row = dict[str, Any]
"""Of one arm: `dataset`, `arm`, `seed`, `fold`, `steps`, `step_s`, and `dsc` by label and case."""
MEAN = "mean"
"""Stands beside the labels for their mean."""


class ArmSettings(NamedTuple):
    """What an arm sets, and what it is held against."""

    settings: tuple[str, ...]
    """Of `plan --set`."""
    against: str | None
    """Another arm; None: it is what others are held against."""
    preset: Mapping[str, Any] = {}
    """Fields of the preset that it changes."""


def _augmented(preset: str, *, precision: str = "fp32", against: str | None = "none") -> ArmSettings:
    return ArmSettings((f"augmentation.preset={preset}", f"training.precision.cpu={precision}"), against)


def _changed(*settings: str, **preset: Any) -> ArmSettings:
    """Return an arm that changes `fast_prototyping`, in bf16, to be held against the preset as it is."""
    return ArmSettings((*settings, "training.precision.cpu=bf16"), "usual", preset)


def _wide(features: int) -> ArmSettings:
    """Return an arm with so many features at full resolution, of a network of four stages."""
    stages = [features * 2**stage for stage in range(4)]
    return _changed(f"network.features_per_stage={stages}")


CHANGES: Mapping[str, ArmSettings] = {
    "usual": ArmSettings(("training.precision.cpu=bf16",), None),
    "12_features": _wide(12),
    "24_features": _wide(24),
    "32_features": _wide(32),
    "wide_below": _changed("network.features_per_stage=[16, 48, 96, 192]"),
    "fewer_convolutions": _changed("network.convs_per_stage=[1, 2, 2, 2]", "network.decoder_convs_per_stage=[2, 2, 1]"),
    "batch_of_one": _changed("batch_size=1"),
    "residual": _changed(network="residual_unet"),
    "lr_0.005": _changed("optimizer.lr=0.005"),
    "cosine": _changed("schedule.name=cosine"),
    "sgd_poly": _changed("optimizer.name=sgd", "schedule.name=poly"),
    "average": _changed("training.ema.decay=0.99"),
    "mirrored": _changed(mirroring=True),
    "batch_dice": _changed("loss.components.0.batch=true"),
    "more_foreground": _changed("sampling.foreground_fraction=0.6"),
    "one_output": _changed("network.deep_supervision=false", "loss.deep_supervision_weights=[1]"),
}
"""Of the preset as it is, one at a time."""
AUGMENTATIONS: Mapping[str, ArmSettings] = {
    "none": _augmented("none", against=None),
    "basic": _augmented("basic"),
    "nnunet": _augmented("nnunet"),
    "basic_bf16": _augmented("basic", precision="bf16", against="basic"),
    "none_bf16": _augmented("none", precision="bf16", against="none"),
    "nnunet_bf16": _augmented("nnunet", precision="bf16", against="none_bf16"),
    "light": _augmented("light"),
    "mri": _augmented("mri"),
    "strong": _augmented("strong"),
}
STUDIES = {"augmentation": AUGMENTATIONS, "presets": CHANGES}
ARMS: Mapping[str, ArmSettings] = {**AUGMENTATIONS, **CHANGES}


def patient_of(case_id: str) -> str:
    """Return whose case it is: ACDC has two frames of a heart."""
    return case_id.partition("_frame")[0]


class Scores(NamedTuple):
    """DSC of held-out cases, or what two trainings differ by in it."""

    labels: tuple[str, ...]
    """Those of the dataset, then `MEAN`."""
    case_ids: tuple[str, ...]
    table: FloatArray
    """(N cases, labels), NaN where a label is in neither segmentation."""


def scores_of(row: Row) -> Scores:
    """Return the scores of a row."""
    labels, first = tuple(row["dsc"]), next(iter(row["dsc"].values()))
    case_ids = tuple(sorted(first))
    columns = []
    for label in labels:
        columns.append([row["dsc"][label][case_id] for case_id in case_ids])
    # numpy reads None as NaN.
    table = np.array(columns, dtype=np.float64).T
    return Scores((*labels, MEAN), case_ids, np.column_stack([table, _mean(table, axis=1)]))


def _mean(table: FloatArray, axis: int) -> FloatArray:
    """Return the means of what is defined; NaN where nothing is."""
    defined = ~np.isnan(table)
    counts, sums = defined.sum(axis=axis), np.where(defined, table, 0.0).sum(axis=axis)
    found: FloatArray = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return found


def summary(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return for each dataset and length each arm's means, and its differences to the arm that it is held against."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"{row['dataset']}, {row['steps']} steps", []).append(row)
    return {name: _summarized(group) for name, group in groups.items()}


def _summarized(rows: Sequence[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for arm, chosen in ARMS.items():
        own = _by_run(rows, arm)
        if own:
            found[arm] = _figures(own) | (compared(own, _by_run(rows, chosen.against)) if chosen.against else {})
    _adjust(found)
    return found


def _by_run(rows: Sequence[Row], arm: str) -> dict[tuple[int, int], Row]:
    """Return the rows of an arm by fold and seed."""
    return {(row["fold"], row["seed"]): row for row in rows if row["arm"] == arm}


def _figures(own: Mapping[tuple[int, int], Row]) -> dict[str, Any]:
    runs = list(own.values())
    scores = [scores_of(row) for row in runs]
    means = np.array([_mean(one.table, axis=0) for one in scores]).mean(axis=0)
    return {
        "trainings": len(runs),
        "dsc": dict(zip(scores[0].labels, np.round(means, 4).tolist(), strict=True)),
        "step_s": round(float(np.mean([row["step_s"] for row in runs])), 4),
    }


def compared(own: Mapping[tuple[int, int], Row], other: Mapping[tuple[int, int], Row]) -> dict[str, Any]:
    """Return the mean differences over cases, of the trainings that both arms have with the same fold and seed."""
    shared = sorted(own.keys() & other.keys())
    if not shared:
        return {}
    by_case: dict[str, list[FloatArray]] = {}
    by_training = {}
    for fold, seed in shared:
        ours, theirs = scores_of(own[fold, seed]), scores_of(other[fold, seed])
        apart = ours.table - theirs.table
        by_training[f"fold {fold}, seed {seed}"] = round(float(_mean(apart[:, -1], axis=0)), 4)
        for case_id, row in zip(ours.case_ids, apart, strict=True):
            by_case.setdefault(case_id, []).append(row)
    # Over the trainings first: a case that was scored three times is one case all the same.
    means = np.array([_mean(np.array(several), axis=0) for several in by_case.values()])
    differences = _differences(Scores(ours.labels, tuple(by_case), means))
    return {"cases": len(by_case), "differences": differences, "by_training": by_training}


def _differences(apart: Scores) -> dict[str, dict[str, Any]]:
    """Return by label the mean of differences, its interval and the p of no difference; patients are drawn as wholes."""
    patients = {case_id: {"patient": patient_of(case_id)} for case_id in apart.case_ids}
    clusters = cluster_numbers(apart.case_ids, patients, "patient")
    intervals = mean_intervals(apart.table, clusters=clusters)
    tests = permutation_tests(apart.table, clusters=clusters)
    found: dict[str, dict[str, Any]] = {}
    for label, column, interval, p in zip(apart.labels, apart.table.T, intervals, tests, strict=True):
        bounds = None if interval is None else [round(bound, 4) for bound in interval]
        found[label] = {"difference": round(float(_mean(column, axis=0)), 4), "ci95": bounds, "p": p}
    return found


def _adjust(found: Mapping[str, dict[str, Any]]) -> None:
    """Add to each arm the p of its mean over labels, adjusted over all arms of a dataset."""
    means = [arm["differences"][MEAN] for arm in found.values() if "differences" in arm]
    for one, adjusted in zip(means, holm([one["p"] for one in means]), strict=True):
        one["p_holm"] = adjusted


def table(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table of mean DSC, and of the differences with their intervals."""
    for name, by_arm in found.items():
        yield f"\n{name}"
        for arm, figures in by_arm.items():
            line = (
                f"  {arm:11} x{figures['trainings']}  DSC {figures['dsc'][MEAN]:.4f}  {figures['step_s']:.3f} s a step"
            )
            one = figures.get("differences", {}).get(MEAN)
            if one is not None:
                interval = "" if one["ci95"] is None else f" [{one['ci95'][0]:+.4f}, {one['ci95'][1]:+.4f}]"
                line += f"  {one['difference']:+.4f}{interval} to {ARMS[arm].against}, p {one['p_holm']:.3f}"
            yield line
