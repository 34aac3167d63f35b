"""Doubtful and absent labels: refused unless the user confirms them."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from tumorseg.errors import PlanError
from tumorseg.planning.evidence.doubts import MANY_LABELS
from tumorseg.schema.dataset import DatasetDescription, LabelDoubt
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Reason

REMEDY = "state the labels in a manifest with label:NAME=VALUE headings, or give --confirm-labels if they are meant so"
"""What to do about labels that were found in files and are doubtful."""
MOST_LISTED = 8
"""Labels that a message lists at most."""


def check_learnable(fingerprint: Fingerprint) -> None:
    """Refuse a dataset without foreground.

    Raises:
        PlanError: it has no label besides the background, or every case was counted and holds none.
    """
    dataset = fingerprint.dataset
    if not set(dataset.labels.values()) - {0, dataset.ignore_label}:
        raise PlanError(f"{dataset.name}: the dataset has no label besides the background; there is nothing to learn")
    counts = [case.label_voxels for case in fingerprint.cases]
    # A case that was not counted may hold foreground.
    if all(found is not None and not any(found.values()) for found in counts):
        raise PlanError(
            f"{dataset.name}: every case is all background; there is nothing to learn; check the label files"
        )


def judge_labels(fingerprint: Fingerprint, *, is_confirmed: bool) -> dict[str, Reason]:
    """Return why labels that are not certain are planned for, by dotted field; nothing where all are certain.

    Labels count as absent only where every case tells which it holds.

    Args:
        fingerprint: with its doubts.
        is_confirmed: whether the user says that the labels are meant so.

    Raises:
        PlanError: some are not certain, and nobody confirms them.
    """
    dataset, counts = fingerprint.dataset, [case.label_voxels for case in fingerprint.cases]
    absent = [] if None in counts else absent_labels(dataset, map(_held_labels, counts))
    fault = describe_uncertain(fingerprint.doubts, absent)
    if not fault:
        return {}
    if not is_confirmed:
        raise PlanError(f"{dataset.name}: {fault}")
    reason = Reason(
        source="user",
        rule="--confirm-labels: the user says that the labels are meant as they are",
        inputs={"doubts": [doubt.message for doubt in fingerprint.doubts], "absent": absent},
        alternative="other labels, stated in a manifest with label:NAME=VALUE headings",
    )
    return {"dataset.labels": reason}


def _held_labels(counts: Mapping[str, int] | None) -> set[str]:
    """Return the labels that have voxels in a case."""
    return {name for name, count in (counts or {}).items() if count}


def absent_labels(dataset: DatasetDescription, held: Iterable[Collection[str]]) -> list[str]:
    """Return the labels of a dataset that no case holds though some should, in its order.

    Args:
        dataset: what labels there are.
        held: the names of the labels in each case.
    """
    needless = set(dataset.optional_labels).union(*held)
    foreground = (name for name, value in dataset.labels.items() if value not in (0, dataset.ignore_label))
    return [name for name in foreground if name not in needless]


def describe_uncertain(doubts: Sequence[LabelDoubt], absent: Sequence[str] = ()) -> str:
    """Return a line on doubtful labels, on those that are in no case, and what to do; empty where all are certain."""
    parts = [doubt.message for doubt in doubts]
    if absent:
        more = f" and {len(absent) - MOST_LISTED} more" if len(absent) > MOST_LISTED else ""
        listed = ", ".join(absent[:MOST_LISTED]) + more
        parts.append(
            f"no case has a voxel of {listed}, which cannot be learnt; correct the label files or remove the label"
        )
    remedy = REMEDY if doubts else "or give --confirm-labels if this is meant so"
    return "; ".join([*parts, remedy]) if parts else ""


def many_labels(dataset: DatasetDescription) -> list[str]:
    """Return what to warn of where labels are many and were found in files, as their names tell; nothing elsewhere."""
    # A label that nothing names is called so by the source that found its value.
    found = [value for name, value in dataset.labels.items() if name == f"label_{value}"]
    if len(found) < MANY_LABELS:
        return []
    return [
        f"found {len(found)} labels in the label files, with values from {min(found)} to {max(found)}; if they number "
        "single objects or are intensities, they are no classes; name those that are meant in a manifest with "
        "label:NAME=VALUE headings"
    ]
