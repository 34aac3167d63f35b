"""Folds of a plan, with the reasons for them and for the cases that are left out."""

from pydantic import JsonValue

from tumorseg.planning.decided import Decided
from tumorseg.planning.folds.patients import describe_patients, parted_patients, suggest_patients
from tumorseg.planning.folds.split_lists import Division, SplitLists, divide
from tumorseg.planning.folds.splits import NAMED_SPLITS, split_folds
from tumorseg.schema.fingerprint import Fingerprint
from tumorseg.schema.plan import Plan, Reason, ReasonSource
from tumorseg.schema.planned_dataset import CaseLists, PlannedDataset

NO_OTHER_FOLDS = "none: a single case cannot be held out"


def choose_folds(fingerprint: Fingerprint, splits: SplitLists | str | None) -> Decided[Division]:
    """Return the folds that are asked for.

    Args:
        fingerprint: of the cases that are used.
        splits: lists of cases; one of `NAMED_SPLITS`; or None for five random folds, of groups if there are any.

    Raises:
        PlanError: the lists are unsound, or the dataset does not say what the named split needs.
    """
    inputs: dict[str, JsonValue] = {"num_cases": len(fingerprint.cases)}
    if splits is None:
        folds, rule, alternative = _choose_random(fingerprint)
        return Decided(Division(folds), {"folds": Reason(rule=rule, inputs=inputs, alternative=alternative)})
    if isinstance(splits, SplitLists):
        division, rule = divide(splits, [case.case_id for case in fingerprint.cases]), "--splits: the lists of a file"
    else:
        division, rule = Division(NAMED_SPLITS[splits].split(fingerprint.cases)), _named_rule(fingerprint, splits)
    alternative = "nnU-Net's five random folds (no --splits), which are comparable with its own"
    if len(fingerprint.cases) == 1:
        alternative = NO_OTHER_FOLDS
    reason = Reason(source="user", rule=rule, inputs=inputs, alternative=alternative)
    return Decided(division, {"folds": reason} | kept_reasons(division))


def _choose_random(fingerprint: Fingerprint) -> tuple[CaseLists, str, str]:
    """Return random folds, of whole groups if there are any, with their rule and the next-best choice."""
    groups = _groups(fingerprint)
    rule = "nnU-Net's five folds (shuffled with seed 12345), fewer for fewer cases"
    alternative = (
        "--splits with a file of one's own: where cases of one patient or site are alike, random folds score too well"
    )
    if any(groups.values()):
        rule, alternative = f"{rule}, of whole groups", "--splits with a file of one's own"
    if len(groups) == 1:
        alternative = NO_OTHER_FOLDS
    return split_folds(groups), rule, alternative


def _named_rule(fingerprint: Fingerprint, name: str) -> str:
    rule = f"--splits {name}: {NAMED_SPLITS[name].rule}"
    if name != "group" or any(_groups(fingerprint).values()):
        return rule
    patients = describe_patients(suggested_patients(fingerprint))
    return f"{rule}; the dataset states none, so that case ids tell: {patients}"


def _groups(fingerprint: Fingerprint) -> dict[str, str | None]:
    return {case.case_id: case.group for case in fingerprint.cases}


def suggested_patients(fingerprint: Fingerprint) -> dict[str, str]:
    """Return the patients that case ids suggest, by case; none where the dataset states groups."""
    groups = _groups(fingerprint)
    return {} if any(groups.values()) else suggest_patients(groups)


def kept_reasons(division: Division, lists: str = "--splits", source: ReasonSource = "user") -> dict[str, Reason]:
    """Return why folds keep cases from training; nothing where none does.

    Args:
        division: the folds.
        lists: what to call the lists of cases.
        source: who gave the lists of cases.
    """
    if not division.kept_from_training:
        return {}
    reason = Reason(
        source=source,
        rule=f"{lists}: in neither list of a fold; --fold all, which leaves nothing out, trains on them",
        inputs={"num_cases": [len(cases) for cases in division.kept_from_training]},
    )
    return {"kept_from_training": reason}


def unused_reasons(
    dataset: PlannedDataset, lists: str = "--splits", source: ReasonSource = "user"
) -> dict[str, Reason]:
    """Return why cases of a dataset are not used, by dotted field.

    Args:
        dataset: of the plan.
        lists: what to call the lists of cases.
        source: who gave the lists of cases.
    """
    rules = {
        "excluded": "--exclude: nothing reads these cases, whatever becomes of their files",
        "kept_back": f"{lists}: in no list of the file, as a test set is; neither statistics nor --fold all have them",
        "listed": f"{lists}: the file has `train` lists, so that a case which it does not name is not used",
    }
    reasons = {}
    for field, rule in rules.items():
        if cases := getattr(dataset, field):
            reasons[f"dataset.{field}"] = Reason(source=source, rule=rule, inputs={"num_cases": len(cases)})
    return reasons


def fold_warnings(fingerprint: Fingerprint, plan: Plan) -> list[str]:
    """Return warnings of groups, and of patients that case ids suggest, on both sides of a fold.

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
        f"case ids suggest {describe_patients(parted)}; they are trained on and held out in one fold, and scores will "
        "be too good; if they are of one patient, plan with --splits group, which keeps them together"
    ]
