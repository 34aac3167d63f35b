"""Whether what a checkpoint holds is the state of a training: looked at once, before any of it is taken up.

A file may be readable and yet be of another network, lack a part, or hold a text where a number belongs; a training that took it
up would end somewhere else in the middle of a step.
"""

from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from tumorseg.engine.ending import Length
from tumorseg.engine.learner import Learner
from tumorseg.engine.loop import Fit
from tumorseg.engine.optimisation import Optimisation
from tumorseg.engine.progress import Progress
from tumorseg.engine.weights import number_kind, weights_problem
from tumorseg.schema.training import Training

TAIL = ("start", "end", "lr_from", "lr_to")
WATCH = ("sum", "first", "last")
COUNTS = ("iteration", "skipped", "skipped_in_epoch", "lost", "division")
"""Fields of `Progress` that are whole numbers from 0 on."""


def state_problem(state: Mapping[str, Any], fit: Fit) -> str | None:
    """Return the first thing in a saved state that is not as a training has it; None if all of it is.

    Args:
        state: what `Fit.state` returned, perhaps of another training.
        fit: the training, at its beginning.
    """
    learner, expected = fit.learner, fit.learner.state()
    if (missing := next((name for name in (*expected, "progress") if name not in state), None)) is not None:
        return f"{missing} is missing"
    tensors = _tensors_problem(state, expected, learner)
    return tensors or course_problem(state, fit.training) or _optimisation_problem(state, learner.optimisation)


def course_problem(state: Mapping[str, Any], training: Training) -> str | None:
    """Return what is wrong with what a saved state says of the course of a training; None if nothing is.

    Args:
        state: what was saved.
        training: the plan's.
    """
    progress, length = state.get("progress"), state.get("length")
    if not isinstance(progress, dict) or not isinstance(length, dict):
        return "progress or length is missing"
    unknown = next((name for name in progress if name not in Progress.__dataclass_fields__), None)
    if unknown is not None:
        return f"progress.{unknown!a} is unknown"
    for name in ("iteration", *(name for name in COUNTS if name in progress)):
        if not _is_count(progress.get(name)):
            return f"progress.{name} is no whole number from 0 on"
    if not _are_numbers(progress.get("losses")):
        return "progress.losses are no numbers"
    return _means_problem(progress) or _length_problem(length, Length(training, 1.0))


def _means_problem(progress: dict[str, Any]) -> str | None:
    fresh = vars(Progress()) | progress
    components, seen = fresh["components"], fresh["seen"]
    if not isinstance(components, dict) or not _are_numbers(list(components.values())):
        return "progress.components are no numbers"
    if not isinstance(seen, dict) or not all(_are_numbers(found) and len(found) == 2 for found in seen.values()):
        return "progress.seen are no pairs of numbers"
    if not (fresh["seed"] is None or _is_count(fresh["seed"])):
        return "progress.seed is no whole number from 0 on"
    if not (fresh["running"] is None or _is_number(fresh["running"])) or not _is_number(fresh["best"]):
        return "progress.running or progress.best is no number"
    return None


def _length_problem(length: Mapping[str, Any], own: Length) -> str | None:
    tail, watch = length.get("tail"), length.get("watch")
    if not {"tail", "watch"} <= length.keys():
        return "length.tail or length.watch is missing"
    if tail is not None and not (_are_named(tail, TAIL) and _is_count(tail["start"]) and _is_count(tail["end"])):
        return "length.tail is no end of a training"
    # An early stop begins a tail only where that ends before the plan does.
    if tail is not None and not tail["start"] < tail["end"] <= own.num_planned:
        return f"length.tail is not within the {own.num_planned} steps of the plan"
    if watch is None and own.state()["watch"] is not None:
        return "length.watch is missing"
    if watch is not None and not _are_named(watch, WATCH, may_lack=True):
        return "length.watch is no watch over losses"
    return None


def _tensors_problem(state: Mapping[str, Any], expected: Mapping[str, Any], learner: Learner) -> str | None:
    """Look at everything that is loaded as tensors by name."""
    found: dict[str, tuple[Any, Any]] = {"network": (state["network"], expected["network"])}
    if learner.average is not None:
        average = state["average"]
        if not isinstance(average, dict) or not _is_count(average.get("updates")):
            return "average.updates is no whole number from 0 on"
        found["average.trained"] = average.get("trained"), expected["average"]["trained"]
    if "hints" in expected:
        found["hints"] = state["hints"], expected["hints"]
    loss = state["loss"]
    if not isinstance(loss, dict) or not _is_number(loss.get("progress")):
        return "loss.progress is no number"
    found["loss.weighting"] = loss.get("weighting"), expected["loss"]["weighting"]
    problems = ((name, weights_problem(*pair)) for name, pair in found.items())
    return next((f"{name}: {problem}" for name, problem in problems if problem is not None), None)


def _optimisation_problem(state: Mapping[str, Any], own: Optimisation) -> str | None:
    schedule, scaler = own.schedule.state(), state["scaler"]
    if not _are_named(state["schedule"], schedule, may_lack=True):
        return f"schedule is not that of the plan, which keeps {', '.join(schedule) or 'nothing'}"
    # Empty after steps without a scaler, on the CPU or in another precision.
    is_named = isinstance(scaler, dict) and scaler.keys() in (set(), own.scaler.state_dict().keys() or scaler.keys())
    if not is_named or not _are_numbers(list(scaler.values())):
        return "scaler is none of a gradient's"
    problem = _optimizer_problem(state["optimizer"], own.optimizer)
    has_stepped = state["progress"]["iteration"] > state["progress"].get("skipped", 0)
    if problem is None and has_stepped and _moment_names(own.optimizer) and not state["optimizer"]["state"]:
        return "optimizer.state is empty after steps were taken"
    return problem


def _optimizer_problem(found: Any, own: torch.optim.Optimizer) -> str | None:
    """Look at groups, and at the moments of each parameter."""
    if not isinstance(found, dict) or not isinstance(found.get("state"), dict):
        return "optimizer.state is missing"
    groups, expected = found.get("param_groups"), own.state_dict()["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(expected):
        return f"optimizer.param_groups are not the {len(expected)} of the plan"
    for number, (group, wanted) in enumerate(zip(groups, expected, strict=True)):
        if not isinstance(group, dict) or group.get("params") != wanted["params"]:
            return f"optimizer.param_groups[{number}] is of other parameters"
        unlike = (name for name, value in wanted.items() if not _is_like(group.get(name), value))
        if (name := next(unlike, None)) is not None:
            return f"optimizer.param_groups[{number}].{name} is missing, or of another type"
    parameters = [one for group in own.param_groups for one in group["params"]]
    return _moments_problem(found["state"], parameters, own)


def _moments_problem(found: Mapping[Any, Any], parameters: list[Tensor], own: torch.optim.Optimizer) -> str | None:
    names = _moment_names(own)
    for number, moments in found.items():
        if not _is_count(number) or number >= len(parameters) or not isinstance(moments, dict):
            return f"optimizer.state[{number!a}] is of no parameter"
        # Some releases of torch keep None of what an optimizer has not.
        kept = {name: value for name, value in moments.items() if value is not None}
        if kept.keys() != names:
            return f"optimizer.state[{number}] holds {len(kept)} values, expected {', '.join(sorted(names))}"
        for name, value in kept.items():
            if not isinstance(value, Tensor):
                return f"optimizer.state[{number}].{name} is no tensor"
            if not _is_moment(value, parameters[number]):
                return f"optimizer.state[{number}].{name} is of another shape or type than its parameter"
    return None


def _is_moment(value: Tensor, parameter: Tensor) -> bool:
    # Counts of steps are single floats, whatever the parameter is.
    is_count = value.shape == () and value.is_floating_point()
    return is_count or (value.shape == parameter.shape and number_kind(value) == number_kind(parameter))


def _moment_names(own: torch.optim.Optimizer) -> set[str]:
    """Return what an optimizer keeps of each parameter, by a step of another one of its kind."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    parameter.grad = torch.zeros(())
    # Some defaults belong to the class, which its constructor does not take.
    options = {name: own.defaults[name] for name in signature(type(own)).parameters if name in own.defaults}
    other: torch.optim.Optimizer = type(own)([parameter], **options)
    other.step()
    return {name for name, value in other.state[parameter].items() if value is not None}


def _is_like(found: Any, wanted: Any) -> bool:
    """Tell whether a setting of a group is of the type of another: numbers, or lists of them, or switches, which an older torch had not."""
    if isinstance(wanted, tuple | list):
        return isinstance(found, tuple | list) and len(found) == len(wanted) and _are_numbers(list(found))
    if wanted is None or isinstance(wanted, bool):
        return found is None or isinstance(found, bool)
    return _is_number(found)


def _are_named(found: Any, names: Iterable[str], *, may_lack: bool = False) -> bool:
    """Tell whether a value is numbers of just these names; or None for some, where it may lack them."""
    if not isinstance(found, dict) or found.keys() != set(names):
        return False
    return all(_is_number(value) or (may_lack and value is None) for value in found.values())


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(map(_is_number, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
