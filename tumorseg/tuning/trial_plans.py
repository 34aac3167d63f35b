"""The plan of a trial: the study's plan with other values, a short training and an inner split of the cases."""

import math
from itertools import chain
from typing import Any

from tumorseg.errors import PlanError
from tumorseg.planning.memory.budgets import needed_bytes
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.rehearsal import setting_of
from tumorseg.planning.memory.totals import plan_setting
from tumorseg.planning.overrides import Override, apply_overrides
from tumorseg.schema.base import parse_record
from tumorseg.schema.extensions import External
from tumorseg.schema.plan import Plan
from tumorseg.schema.training import Training
from tumorseg.schema.tuning import InnerSplit, Study, Task, Values
from tumorseg.tuning.changes import document_of, parsed_configuration, set_values, tuned_configuration
from tumorseg.tuning.soundness import check_changed

FEWEST_EPOCHS = 20
"""Of a short training: schedules go by finished epochs, and in fewer of them a learning rate would hardly fall."""


def with_values(plan: Plan, configuration: str, values: Values) -> Plan:
    """Return the plan with fields of one of its configurations set, as `--set` would.

    The plan's own values change nothing. The loss follows a network that has another number of outputs.

    Args:
        plan: whose values are changed.
        configuration: its name.
        values: by field, dotted, within the configuration.

    Raises:
        PlanError: a field that does not exist, or a value that makes the configuration unsound.
    """
    tuned_configuration(plan, configuration)
    changed = set_values(document_of(plan), configuration, values)
    # Checked by itself first: the message then names the field at fault alone, and not all that were set.
    parsed_configuration(changed.document, configuration)
    overrides = []
    for field, value in changed.values.items():
        overrides.append(Override(field=f"configurations.{configuration}.{field}", value=value))
    return apply_overrides(plan, overrides)


def trial_plan(study: Study, plan: Plan, task: Task) -> Plan:
    """Return the plan that a task trains by.

    A trial has one fold, which holds out the study's scored cases and trains on its training cases alone; a training
    that is judged in the end has the folds of the study's plan. The task is scored at ends of epochs.

    Args:
        study: that the task is of.
        plan: that the study refines.
        task: values, length, seed and, in the end, fold.

    Raises:
        PlanError: a value makes the plan unsound, or the plan has not the task's fold.
    """
    changed = with_values(plan, study.configuration, task.values)
    fields = dict(changed) | {
        "default_configuration": study.configuration,
        "training": _training(plan.training, task),
    }
    if task.fold is None:
        fields |= _inner_folds(plan, study.split)
    elif not 0 <= task.fold < len(plan.folds):
        raise PlanError(
            f"{task.stem} is to train fold {task.fold}, but plan {plan.name} has {len(plan.folds)} folds from 0 on"
        )
    trial = parse_record(Plan, fields, source=f"plan {plan.name} of {task.stem}", error=PlanError)
    check_changed(trial, plan)
    return trial


def _training(training: Training, task: Task) -> Training:
    """Return a training of which some epochs end where the task is scored."""
    total, part = task.rungs[-1], math.gcd(*task.rungs)
    wanted = min(training.iterations_per_epoch, total / FEWEST_EPOCHS)
    # Rather too many epochs than too few: those a schedule bears.
    fitting = [length for length in range(1, part + 1) if part % length == 0 and length <= wanted]
    length = max(fitting, default=1)
    # A trial is as long as its study says, whatever its loss does.
    own = {"max_hours": None, "early_stop": None, "extension": None, "seed": task.seed}
    return training.changed(epochs=total // length, iterations_per_epoch=length, validation_iterations=1, **own)


def _inner_folds(plan: Plan, split: InnerSplit) -> dict[str, Any]:
    """Return the one fold of the study's inner split, which keeps all other cases from training, whether the plan names them or not."""
    named = {*chain.from_iterable(plan.folds), *chain.from_iterable(plan.kept_from_training)}
    named.update(plan.dataset.listed or (), split.kept)
    kept = tuple(sorted(named.difference(split.training, split.scored)))
    return {"folds": (split.scored,), "kept_from_training": (kept,) if kept else ()}


def over_budget(plan: Plan, counter: MemoryCounter) -> int:
    """Return the bytes that the plan's default configuration needs beyond the budget; at most 0 if it fits.

    Of another package's network nothing can be counted: 0.

    Raises:
        PlanError: another package's loss is not installed in the plan's version.
    """
    configuration = plan.configurations[plan.default_configuration]
    if isinstance(configuration.network, External):
        return 0
    setting = setting_of(plan_setting(plan), configuration)
    count = counter.count(configuration, setting, num_gpus=plan.budget.num_gpus)
    return needed_bytes(count) - plan.budget.vram_bytes
