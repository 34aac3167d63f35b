"""Patients guessed from case ids, used only where a dataset states no groups."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

VISIT = re.compile(
    r"""(?<![^\W\d_])(?:                           # a whole word for what is one of several
        (?:frame|visit|tp|time|timepoint|day|week|month|year|slice|phase
            |fu|followup|follow[-_]up|baseline|pre|post)[\W_]*\d
        |(?:ses|session)[\W_]*[^\W_]           # BIDS: ses-02, ses-preop
        |t\d+$
        |(?:pre|post|pre[-_]?op|post[-_]?op|baseline|followup|follow[-_]up|left|right|l|r|lt|rt|od|os|ed|es)(?![^\W\d_])
    )""",
    re.VERBOSE | re.IGNORECASE,
)
NUMBER = re.compile(r"[_-][^\W\d_]*(\d+)$")
"""How an id ends whose last number may be a visit's: `BraTS-GLI-00005-001`."""
SITE = re.compile(r"(?:site|cent(?:er|re)|hospital|scanner|batch)[\W_]*\d", re.IGNORECASE)
"""A number that is no patient's."""
FEWEST_PATIENTS = 5
"""Below, numbers alone tell nothing: they may be those of sites."""


def suggest_patients(case_ids: Iterable[str]) -> dict[str, str]:
    """Return the patient of each case that seems to share one with another; empty where ids suggest none, or only one.

    A word such as `frame`, `ses`, `post` or `L` behind a number tells; else a second number does, if there are many
    patients with few cases each: consecutive numbers, and those of a few sites or years, tell nothing.

    Args:
        case_ids: of a dataset.
    """
    # A set that keeps the order.
    ordered = dict.fromkeys(sorted(case_ids))
    by_word = {one: patient for one in ordered if (patient := _before_visit(one)) is not None}
    by_word |= {patient: patient for patient in by_word.values() if patient in ordered}  # `003` beside `003_post`
    found = _shared(by_word) or _shared_by_number(ordered)
    # Of a single patient nothing could be held out, whether the ids mean it or not.
    num_units = len(set(found.values())) + len(ordered) - len(found)
    return found if num_units > 1 else {}


def _shared_by_number(case_ids: Iterable[str]) -> dict[str, str]:
    """Return the patients of cases whose last number seems to be a visit's."""
    patients: dict[str, str] = {}
    numbers: set[str] = set()
    for case_id in case_ids:
        match = NUMBER.search(case_id)
        if match is None:
            continue
        numbers.add(match[1])
        patient = case_id[: match.start()]
        if _may_be_patient(patient):
            patients[case_id] = patient
    return _shared(patients) if _are_visits(patients, numbers) else {}


def _before_visit(case_id: str) -> str | None:
    """Return what stands before the first word that tells of several, if it has a number."""
    for match in VISIT.finditer(case_id):
        patient = case_id[: match.start()].rstrip("_-. ")
        if re.search(r"\d", patient):
            return patient
    return None


def _may_be_patient(text: str) -> bool:
    return re.search(r"\d", text) is not None and SITE.search(text) is None


def _shared(patients: Mapping[str, str]) -> dict[str, str]:
    """Return the cases whose patient has several."""
    members = members_of(patients)
    return {case_id: patient for case_id, patient in patients.items() if len(members[patient]) > 1}


def _are_visits(patients: Mapping[str, str], numbers: Iterable[str]) -> bool:
    """Tell whether last numbers are of visits: fewer than the patients, each of whom has few."""
    sizes = [len(cases) for cases in members_of(patients).values()]
    # Where cases are numbered throughout, there are more numbers than beginnings of ids.
    is_many = len(sizes) >= max(FEWEST_PATIENTS, 2 * max(sizes, default=0))
    return is_many and len(set(numbers)) <= len(sizes)


def members_of(patients: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the cases of each patient."""
    members: dict[str, list[str]] = defaultdict(list)
    for case_id, patient in patients.items():
        members[patient].append(case_id)
    return dict(members)


def describe_patients(patients: Mapping[str, str]) -> str:
    """Return how many patients were suggested, with an example."""
    members = members_of(patients)
    example = min(members)
    cases = " and ".join(sorted(members[example])[:2])
    return f"{len(members)} patients with several cases, such as {example} with {cases}"


def parted_patients(
    patients: Mapping[str, str], folds: Sequence[Sequence[str]], kept_from_training: Sequence[Sequence[str]] = ()
) -> dict[str, str]:
    """Return the suggested patients, by case, that some fold both trains on and holds out.

    Args:
        patients: by case_id.
        folds: held-out case_ids of each.
        kept_from_training: case_ids that each does not train on either; empty for none.
    """
    parted = set()
    for number, fold in enumerate(folds):
        out = {*fold, *(kept_from_training[number] if kept_from_training else ())}
        held_out = {patients[case_id] for case_id in fold if case_id in patients}
        parted |= held_out & {patient for case_id, patient in patients.items() if case_id not in out}
    return {case_id: patient for case_id, patient in patients.items() if patient in parted}
