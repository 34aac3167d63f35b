"""Cross-validation folds.

References:
    The same cases as nnU-Net, which calls scikit-learn's `KFold(5, shuffle=True, random_state=12345)` on sorted case_ids.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tumorseg.errors import PlanError

NUM_FOLDS = 5
SEED = 12345


def split_folds(groups: Mapping[str, str | None], num_folds: int = NUM_FOLDS) -> tuple[tuple[str, ...], ...]:
    """Return the held-out case_ids of each fold; fewer folds than asked for if there are fewer groups.

    Cases of one group stay together. A single group cannot be held out: no folds, only `--fold all`.

    Args:
        groups: each case_id's group; a case without one is a group of its own.
        num_folds: folds at most.
    """
    members: dict[tuple[bool, str], list[str]] = {}
    for case_id, group in sorted(groups.items()):
        members.setdefault((group is not None, group or case_id), []).append(case_id)
    ordered = [members[key] for key in sorted(members)]
    count = min(num_folds, len(ordered))
    if count < 2:
        return ()
    indices = np.arange(len(ordered))
    np.random.RandomState(SEED).shuffle(indices)
    return tuple(
        tuple(sorted(case_id for index in part for case_id in ordered[index]))
        for part in np.array_split(indices, count)
    )


def split_sites(sites: Mapping[str, str | None]) -> tuple[tuple[str, ...], ...]:
    """Return one fold per site, in the order of their names: each holds out all cases of its site.

    Args:
        sites: each case_id's site.

    Raises:
        PlanError: a case has no site, or there is only one.
    """
    if unknown := sorted(case_id for case_id, site in sites.items() if site is None):
        raise PlanError(
            f"--splits site: {len(unknown)} cases have no site: {', '.join(unknown[:5])}; name it in the manifest"
        )
    names = sorted({site for site in sites.values() if site is not None})
    if len(names) < 2:
        raise PlanError(f"--splits site: all cases are of the site {', '.join(names)}; leave the option out")
    return tuple(tuple(sorted(case_id for case_id, site in sites.items() if site == name)) for name in names)


def check_folds(folds: Sequence[Sequence[str]], case_ids: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return a user's folds, checked against the dataset.

    Raises:
        PlanError: an unknown case, a case held out twice, an empty fold, or a fold that leaves none to train on.
    """
    known, held_out = set(case_ids), [case_id for fold in folds for case_id in fold]
    if unknown := sorted(set(held_out) - known):
        raise PlanError(f"splits hold out cases that the dataset does not have: {', '.join(unknown[:5])}")
    if len(held_out) != len(set(held_out)):
        twice = sorted({case_id for case_id in held_out if held_out.count(case_id) > 1})
        raise PlanError(f"splits hold out a case in more than one fold: {', '.join(twice[:5])}")
    for number, fold in enumerate(folds):
        if not fold or len(fold) == len(known):
            raise PlanError(
                f"fold {number} of the splits holds out {len(fold)} of {len(known)} cases; leave some on both sides"
            )
    return tuple(tuple(sorted(fold)) for fold in folds)
