"""Candidates for members: the trained configurations of each plan, with the folds that are trained to their end."""

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from tumorseg.errors import PlanError
from tumorseg.schema.base import record_hash
from tumorseg.schema.plan import Configuration, Plan
from tumorseg.schema.targets import Targets, targets_of
from tumorseg.stages.inference.agreement import Named, common_dataset
from tumorseg.stages.inference.folds import is_finished
from tumorseg.stages.opening.fold_folders import Run, fold_plan, read_run
from tumorseg.storage.hashing import hash_files
from tumorseg.storage.layout import ALL_CASES, FoldFolder, fold_folder, is_fold_folder, work_folder

logger = logging.getLogger(__name__)


class TrainedFold(NamedTuple):
    """A fold that is trained to its end."""

    number: int
    folder: FoldFolder
    run: Run
    plan: Plan
    """With train's own overrides resolved."""
    weights: str
    """Hash of its checkpoint."""


class Candidate(NamedTuple):
    """A configuration of a plan that may become a member."""

    plan: Plan
    """As it was given."""
    configuration_name: str
    folds: Mapping[int, TrainedFold]
    """Those that are trained to their end, by number, rising."""

    @property
    def name(self) -> str:
        """Return what reports call it."""
        return f"{self.plan.name}/{self.configuration_name}"

    @property
    def configuration(self) -> Configuration:
        """Return the one that predicts."""
        return self.plan.configurations[self.configuration_name]

    @property
    def targets(self) -> Targets:
        """Return what its networks predict."""
        return targets_of(self.plan.dataset)


def find_candidates(plans: Sequence[Plan], work: Path, configurations: Sequence[str] = ()) -> list[Candidate]:
    """Return what may become a member, in the order of plans and configurations; what is not trained is told and passed over.

    Args:
        plans: whose trainings lie below the work folder.
        work: that folder.
        configurations: those that may become members; all of each plan if empty.

    Raises:
        PlanError: no plan has such a configuration, nothing is trained, or plans cannot be combined.
    """
    _check_plans(plans, configurations)
    found = []
    for plan in plans:
        for name in plan.configurations:
            if configurations and name not in configurations:
                continue
            candidate = _candidate(plan, name, work_folder(work, plan.dataset.name).model(plan.name, name))
            found += [] if candidate is None else [candidate]
    if not found:
        names = ", ".join(plan.name for plan in plans)
        raise PlanError(
            f"no fold of {names} is trained to its end below {work}; run `tumorseg train -p PLAN --fold K` for at least one fold first"
        )
    return found


def _check_plans(plans: Sequence[Plan], configurations: Sequence[str]) -> None:
    if len({plan.name for plan in plans}) < len(plans):
        raise PlanError("-p: a plan is given twice, or two of one name; give each once, under names of their own")
    for first, second in combinations(plans, 2):
        check_same_dataset(first, second)
    known = sorted(set().union(*(plan.configurations for plan in plans)))
    if missing := [name for name in configurations if name not in known]:
        raise PlanError(f"--configuration: no plan has {', '.join(missing)}; they have {', '.join(known)}")


def check_same_dataset(first: Plan, second: Plan) -> None:
    """Refuse plans whose models cannot answer the same question.

    Raises:
        PlanError: they are for other datasets, labels or regions.
    """
    one, other = first.dataset, second.dataset
    named = f"plans {first.name} and {second.name}"
    if one.name != other.name:
        raise PlanError(f"{named} are for {one.name} and {other.name}; give plans of one dataset")
    channels = [[channel.name for channel in dataset.channels] for dataset in (one, other)]
    # Where channels differ the hashes do too; each plan is compared with the files by itself later.
    if channels[0] == channels[1] and one.content_hash != other.content_hash:
        raise PlanError(
            f"{named} were made for different content of {one.name} ({one.content_hash}, {other.content_hash}); plan again, and train, "
            "on what is there now"
        )
    # Labels must be the same; those of regions may be joined to regions.
    common_dataset([Named(first.name, one), Named(second.name, other)])


def _candidate(plan: Plan, name: str, model: Path) -> Candidate | None:
    """Return a configuration with its finished folds; None, and a line that tells why, where there are none."""
    folds, left_out = {}, []
    for number in range(len(plan.folds)):
        folder = fold_folder(model, number)
        lack = _lack(plan, folder)
        if lack is None:
            folds[number] = _trained(number, folder)
        elif is_fold_folder(folder.root):
            left_out.append(f"fold {number} {lack}")
    if is_fold_folder(fold_folder(model, ALL_CASES).root):
        left_out.append("fold all holds no case out")
    for line in left_out:
        logger.warning("%s/%s: %s, and is left out", plan.name, name, line)
    if folds:
        return Candidate(plan, name, folds)
    logger.info("%s/%s is passed over: no fold of it is trained to its end", plan.name, name)
    return None


def _lack(plan: Plan, folder: FoldFolder) -> str | None:
    """Return what keeps a fold from predicting, or None."""
    if not is_fold_folder(folder.root):
        return "is not trained"
    if read_run(folder).plan_hash != record_hash(plan):
        return f"was trained with another plan than {plan.name} is now"
    return None if is_finished(folder) else "is not trained to its end"


def check_weights(name: str, trained: TrainedFold, weights: str) -> None:
    """Refuse weights that another training put where a fold's were.

    Args:
        name: of the candidate.
        trained: as the fold was found.
        weights: hash of the checkpoint that is there now.

    Raises:
        PlanError: they are others.
    """
    if weights != trained.weights:
        raise PlanError(
            f"fold {trained.number} of {name} was trained meanwhile, so that scores and model would be of different weights; give the "
            "command again when no training of it runs",
            file=trained.folder.root,
        )


def _trained(number: int, folder: FoldFolder) -> TrainedFold:
    state = hash_files([str(folder.latest)])[str(folder.latest)]
    return TrainedFold(number, folder, read_run(folder), fold_plan(folder), state.digest)
