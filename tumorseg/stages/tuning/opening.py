"""Begin a study as a request asks for it, or find again what was begun."""

import json
import logging
from collections.abc import Mapping
from typing import NamedTuple

from tumorseg import __version__
from tumorseg.errors import PlanError
from tumorseg.planning.memory.rehearsal import setting_of
from tumorseg.planning.memory.totals import plan_setting
from tumorseg.planning.options import check_plan_name
from tumorseg.schema.base import record_hash
from tumorseg.schema.fingerprint import CaseMeasurement, Fingerprint
from tumorseg.schema.plan import Plan
from tumorseg.schema.tuning import InnerSplit, Proxy, Space, Study
from tumorseg.stages.opening.environment import begin_environment
from tumorseg.stages.opening.loaded import choose_configuration, open_planned_dataset
from tumorseg.stages.planning.rehearse import step_seconds
from tumorseg.stages.tuning.request import TuneRequest
from tumorseg.storage.json_files import read_record
from tumorseg.storage.layout import work_folder
from tumorseg.storage.study_folder import StudyFolder, begin_study, read_study
from tumorseg.tuning.lengths import Time, final_iterations_of, proxy_of
from tumorseg.tuning.spaces import read_space, resolved
from tumorseg.tuning.splits import SplitRules, inner_split, patients_of
from tumorseg.tuning.starts import with_starts

logger = logging.getLogger(__name__)

MAY_CHANGE = ("most_trials", "hours")
"""Fields of a study that the same command may raise or lower when it goes on."""
NUM_FINAL_SEEDS = 2
"""With one alone nobody would see how much of a gain is the luck of a seed."""


class Opened(NamedTuple):
    """A study that was begun."""

    study: Study
    plan: Plan
    """That it refines, as it is when trials are trained."""
    patients: dict[str, str]
    """Of cases, by case_id."""


def study_folder(request: TuneRequest) -> StudyFolder:
    """Return the folder of the study that is asked for.

    Raises:
        PlanError: its name can be none of a folder.
    """
    name = request.study or request.plan.name
    check_plan_name(name)
    return StudyFolder(work_folder(request.roots.work, request.plan.dataset.name).studies / name)


def open_study(request: TuneRequest, folder: StudyFolder, device: str) -> Opened:
    """Begin a study, or go on with the one that is there; the caller holds its folder.

    Args:
        request: what is asked for.
        folder: of the study.
        device: that trials are trained on.

    Raises:
        PlanError: the folder holds another study, or what is asked for does not go with the plan.
        InputError: the dataset is not there.
    """
    fine_tuning = request.plan.training.fine_tuning
    if fine_tuning is not None and fine_tuning.needs_weights:
        raise PlanError(
            f"plan {request.plan.name} has training.fine_tuning with freeze or layer_decay, and trials begin with random weights; tune "
            "the plan with training.fine_tuning=null, and set it again in the plan that comes of it"
        )
    if request.plan.training.distillation is not None:
        raise PlanError(
            f"plan {request.plan.name} has training.distillation, and trials have no teachers; tune the plan that it was made from, and "
            "distill into the plan that comes of it"
        )
    dataset = open_planned_dataset(request.plan, request.roots, request.dataset)
    groups = {case.case_id: case.group for case in dataset.cases}
    before = read_study(folder, __version__) if folder.is_there() else None
    # Another plan's study first: nothing else would tell the user what is wrong.
    if before is not None and before.plan_hash != record_hash(request.plan):
        raise PlanError(
            f"{folder.root} holds a study of plan {before.plan_name} ({before.plan_hash}), not of plan {request.plan.name} "
            f"({record_hash(request.plan)}); begin another study with --study NAME"
        )
    proxy = None if before is None or request.proxy_iterations else before.proxy
    # A fingerprint that came or went since would deal the cases otherwise.
    split = None if before is None else before.split
    study = _study(request, groups, proxy or _proxy(request, device), split)
    if before is not None:
        _check_same(folder, before, study, has_final=request.final_iterations is not None)
        study = before.changed(**{field: getattr(study, field) for field in MAY_CHANGE})
    # What has its result stays as it is.
    if study != before and not folder.result.is_file():
        begin_study(folder, study, request.plan)
    if not folder.environment.is_file():
        begin_environment(folder, device)
    return Opened(study, request.plan, patients_of(groups))


def _study(request: TuneRequest, groups: Mapping[str, str | None], proxy: Proxy, split: InnerSplit | None) -> Study:
    plan = request.plan
    name, _ = choose_configuration(plan, request.configuration)
    judges = _judges(request)
    rules = SplitRules(judges, proxy.most_cases, request.seed, request.spared)
    seed = plan.training.seed
    return Study(
        tumorseg_version=__version__,
        name=request.study or plan.name,
        plan_name=plan.name,
        plan_hash=record_hash(plan),
        configuration=name,
        objectives=request.objectives,
        sampler=request.sampler,
        pruner=request.pruner,
        seed=request.seed,
        space=space_of(request, name),
        proxy=proxy,
        split=split or inner_split(plan, groups, rules, _measured(request)),
        judges=judges,
        spared=request.spared,
        final_iterations=final_iterations_of(plan.training, proxy, request.final_iterations),
        final_seeds=tuple((seed + number) % 2**63 for number in range(1, 1 + NUM_FINAL_SEEDS)),
        most_trials=request.trials,
        hours=request.hours,
    )


def space_of(request: TuneRequest, configuration: str) -> Space:
    """Return the space that is asked for, fitted to the plan, with published settings to begin with.

    Raises:
        PlanError: it names what is no field of the plan, or what that cannot be.
    """
    space = resolved(read_space(request.space, request.plan, configuration), request.plan, configuration)
    return with_starts(space, request.plan, configuration)


def _judges(request: TuneRequest) -> tuple[int, ...]:
    """Return the folds that judge: those asked for, else 1, or the only one."""
    return request.judges or (min(1, len(request.plan.folds) - 1),)


def _proxy(request: TuneRequest, device: str) -> Proxy:
    """Return the length of trials: as asked for, by the time there is, or by the planned length."""
    plan = request.plan
    if request.proxy_iterations is not None or request.hours is None:
        proxy = proxy_of(plan.training, asked=request.proxy_iterations)
    else:
        _, configuration = choose_configuration(plan, request.configuration)
        precision = plan.training.precision.cpu if device == "cpu" else plan.training.precision.cuda
        setting = setting_of(plan_setting(plan), configuration)._replace(precision=precision)
        # Once, when the study begins: it stands in the study's file from then on.
        step_s = step_seconds(configuration, setting, device)
        logger.info("%.3f s a step", step_s)
        num_each = len(_judges(request)) * NUM_FINAL_SEEDS
        proxy = proxy_of(plan.training, time=Time(request.hours, step_s, num_each))
    logger.info("trials of %d steps, scored after %s", proxy.iterations, ", ".join(map(str, proxy.rungs)))
    return proxy


def _measured(request: TuneRequest) -> tuple[CaseMeasurement, ...]:
    """Return the cases of the fingerprint that the plan was made from, if it is still there."""
    path = work_folder(request.roots.work, request.plan.dataset.name).fingerprint
    if not path.is_file():
        return ()
    found = read_record(Fingerprint, path, error=PlanError)
    return found.cases if record_hash(found) == request.plan.fingerprint.hash else ()


def _check_same(folder: StudyFolder, before: Study, study: Study, *, has_final: bool) -> None:
    """Raise where the same study is asked for in another way."""
    for field in Study.model_fields:
        # What was not asked for stays as it was found then.
        if field in MAY_CHANGE or (field == "final_iterations" and not has_final):
            continue
        old, new = (one.model_dump(mode="json")[field] for one in (before, study))
        if old != new:
            told = f"with {field} {json.dumps(old)}, now {json.dumps(new)} is asked for"
            if isinstance(old, dict):
                # A space, a split: too long for a line.
                told = f"with another {field} than is asked for now"
            raise PlanError(
                f"{folder.root} was begun {told}; give the same options to go on, or begin another study with --study NAME"
            )
