"""Which cases each fold trains on and holds out, which are not used at all, and what a plan says of that."""

from tumorseg.planning.folds.patients import describe_patients, parted_patients, suggest_patients
from tumorseg.planning.folds.split_lists import Division, SplitLists, divide
from tumorseg.planning.folds.splits import NAMED_SPLITS, split_folds
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Plan, Reason
from tumorseg.schema.planned_dataset import PlannedDataset


def choose_folds(fingerprint: Fingerprint, splits: SplitLists | str | None) -> Division:
    """Return the folds that are asked for.

    Args:
        fingerprint: of the cases that are used.
        splits: lists of cases; one of `NAMED_SPLITS`; or None for five random folds, of groups if there are any.

    Raises:
        PlanError: the lists are unsound, or the dataset does not say what the named split needs.
    """
    if isinstance(splits, SplitLists):
        return divide(splits, [case.case_id for case in fingerprint.cases])
    if splits is not None:
        return Division(NAMED_SPLITS[splits].split(fingerprint.cases))
    return Division(split_folds(_groups(fingerprint)))


def _groups(fingerprint: Fingerprint) -> dict[str, str | None]:
    return {case.case_id: case.group for case in fingerprint.cases}


def suggested_patients(fingerprint: Fingerprint) -> dict[str, str]:
    """Return the patients that case ids suggest, by case; none where the dataset states groups."""
    groups = _groups(fingerprint)
    return {} if any(groups.values()) else suggest_patients(groups)


def fold_reason(fingerprint: Fingerprint, splits: SplitLists | str | None) -> Reason:
    """Return why folds are what they are; arguments are those of `choose_folds`."""
    has_groups = any(_groups(fingerprint).values())
    if isinstance(splits, SplitLists):
        rule = "--splits: the lists of a file"
    elif splits is not None:
        rule = f"--splits {splits}: {NAMED_SPLITS[splits].rule}"
    else:
        rule = "nnU-Net's five folds (shuffled with seed 12345), fewer for fewer cases"
        rule += ", of whole groups" if has_groups else ""
    if splits == "group" and not has_groups:
        rule += (
            f"; the dataset states none, so that case ids tell: {describe_patients(suggested_patients(fingerprint))}"
        )
    return Reason(
        rule=rule,
        inputs={"num_cases": len(fingerprint.cases)},
        alternative=_other_folds(fingerprint, is_given=splits is not None, has_groups=has_groups),
    )


def _other_folds(fingerprint: Fingerprint, *, is_given: bool, has_groups: bool) -> str:
    if len(fingerprint.cases) == 1:
        return "none: a single case cannot be held out"
    if is_given:
        return "nnU-Net's five random folds (no --splits), which are comparable with its own"
    if has_groups:
        return "--splits with a file of one's own"
    return (
        "--splits with a file of one's own: where cases of one patient or site are alike, random folds score too well"
    )


def usage_reasons(dataset: PlannedDataset, division: Division) -> dict[str, Reason]:
    """Return why cases are not used, or not trained on, by dotted field.

    Args:
        dataset: of the plan.
        division: the folds.
    """
    rules = {
        "excluded": "--exclude: nothing reads these cases, whatever becomes of their files",
        "kept_back": "--splits: in no list of the file, as a test set is; neither statistics nor --fold all have them",
        "listed": "--splits: the file has `train` lists, so that a case which it does not name is not used",
    }
    counts = {field: len(getattr(dataset, field) or ()) for field in rules}
    reasons = {
        f"dataset.{field}": Reason(rule=rule, inputs={"num_cases": counts[field]})
        for field, rule in rules.items()
        if counts[field]
    }
    if division.kept_from_training:
        reasons["kept_from_training"] = Reason(
            rule="--splits: in neither list of a fold; --fold all, which leaves nothing out, trains on them",
            inputs={"num_cases": [len(cases) for cases in division.kept_from_training]},
        )
    return reasons


def fold_warnings(fingerprint: Fingerprint, plan: Plan) -> list[str]:
    """Tell of groups, and of patients that case ids suggest, on both sides of a fold.

    Args:
        fingerprint: of the cases that are used.
        plan: with its folds.
    """
    groups = {case_id: group for case_id, group in _groups(fingerprint).items() if group is not None}
    split = sorted(set(parted_patients(groups, plan.folds, plan.kept_from_training).values()))
    if split:
        return [f"groups are trained on and held out in one fold: {', '.join(split[:5])}; scores will be too good"]
    parted = parted_patients(suggested_patients(fingerprint), plan.folds, plan.kept_from_training)
    if not parted:
        return []
    return [
        f"case ids suggest {describe_patients(parted)}; they are trained on and held out in one fold, and scores will be too good; if they "
        "are of one patient, plan with --splits group, which keeps them together"
    ]
