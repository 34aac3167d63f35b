"""Spaces: read from names or a document, and fitted to the plan whose fields they name."""

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from tumorseg.errors import PlanError
from tumorseg.schema.base import parse_record
from tumorseg.schema.fields import nearest
from tumorseg.schema.plan import Plan
from tumorseg.schema.tuning import AnyParameter, ChoiceParameter, RealParameter, Space, Start, Values, WholeParameter
from tumorseg.schema.wording import shown
from tumorseg.tuning.changes import document_of, parsed_configuration, places_in, set_values, tuned_configuration
from tumorseg.tuning.conditions import branches, completed, counts, fits
from tumorseg.tuning.space_presets import FAMILIES

DEFAULT_SPACE = "loss,optimizer,augmentation,sampling"
"""What trials may change unless the user says otherwise."""
PREPARED = ("spacing_mm", "median_shape", "normalization", "resampling", "previous_configuration")
"""Fields of a configuration that decide how cases are prepared, once for all trials."""


def read_space(names_or_json: JsonValue, plan: Plan, configuration: str) -> Space:
    """Return the space of families' names with commas between, fitted to a plan, or of a user's document.

    Raises:
        PlanError: an unknown family, a family that has nothing to offer, or no space.
    """
    tuned = tuned_configuration(plan, configuration)
    if not isinstance(names_or_json, str):
        return parse_record(Space, names_or_json, source="the space", error=PlanError)
    names = [name.strip() for name in names_or_json.split(",")]
    known = ", ".join(FAMILIES)
    parameters: list[AnyParameter] = []
    for name in names:
        if name not in FAMILIES:
            raise PlanError(f"--space {names_or_json}: {name!r} is unknown; known are {known}{nearest(name, FAMILIES)}")
        if names.count(name) > 1:
            raise PlanError(f"--space {names_or_json}: {name} stands twice; name it once")
        found = FAMILIES[name](plan, tuned)
        if not found:
            raise PlanError(f"--space {names_or_json}: there is nothing of the plan's {name} to tune; leave {name} out")
        parameters += found
    return Space(parameters=tuple(parameters))


def resolved(space: Space, plan: Plan, configuration: str) -> Space:
    """Return a space with the plan's own values filled in as centres and within its ranges and options.

    Conditions on fields that the space does not hold are settled by the plan; starts have all values. Each parameter is
    looked for in every branch that its condition allows, and the ends of its range are tried there, the other fields as
    they are. A resolved space stays as it is.

    Args:
        space: of families, or of a user.
        plan: that is refined.
        configuration: its name.

    Raises:
        PlanError: a field that does not exist, belongs to the preparation of cases, or cannot be what the space says.
    """
    tuned_configuration(plan, configuration)
    document = document_of(plan)
    own: Values = {}
    parameters: list[AnyParameter] = []
    for parameter in space.parameters:
        settled = _settled(parameter, space, document, configuration)
        _check_tunable(settled)
        if counts(settled, own):
            value = places_in(document, configuration, settled.field)[-1].value
            settled = _around(settled, value)
            own[settled.field] = value
        _check_center(settled)
        parameters.append(settled)
    filled = space.changed(parameters=tuple(parameters), starts=())
    _check_conditions(filled)
    _check_spellings(own, document, configuration)
    for parameter in filled.parameters:
        _check_branches(parameter, filled, document, configuration)
    return filled.changed(starts=tuple(_started(start, filled, own) for start in space.starts))


def own_values(space: Space, plan: Plan, configuration: str) -> Values:
    """Return the plan's own value of every parameter of a resolved space that counts: trial 0."""
    document = document_of(plan)
    own: Values = {}
    for parameter in space.parameters:
        if counts(parameter, own):
            own[parameter.field] = places_in(document, configuration, parameter.field)[-1].value
    return own


def _settled(parameter: AnyParameter, space: Space, document: Mapping[str, Any], configuration: str) -> AnyParameter:
    """Return a parameter without a condition that the plan fulfils whatever the trial."""
    when = parameter.when
    if when is None or any(when.field == other.field for other in space.parameters):
        return parameter
    value = places_in(document, configuration, when.field)[-1].value
    if value not in when.values:
        raise PlanError(
            f"the space's {parameter.field} counts while {when.field} is {_listed(when.values)}, but the plan's is {shown(value)} "
            f"and no trial changes it; leave {parameter.field} out, or have the space hold {when.field}"
        )
    return parameter.changed(when=None)


def _check_tunable(parameter: AnyParameter) -> None:
    if parameter.field.split(".")[0] in PREPARED:
        raise PlanError(
            f"the space's {parameter.field} decides how cases are prepared, which all trials share; leave it out, and make "
            "another plan for another value"
        )


def _around(parameter: AnyParameter, own: JsonValue) -> AnyParameter:
    """Return a parameter that may have the plan's own value, around which its prior is."""
    if isinstance(parameter, ChoiceParameter):
        options = parameter.options if own in parameter.options else (own, *parameter.options)
        return parameter.changed(options=options, center=own if parameter.center is None else parameter.center)
    kind = "whole" if isinstance(parameter, WholeParameter) else "real"
    if isinstance(own, bool) or not isinstance(own, int if kind == "whole" else int | float):
        raise PlanError(
            f"the space's {parameter.field} is a {kind} number, but the plan's own value is {shown(own)}; make it a choice "
            "with that value among its options"
        )
    if parameter.scale == "log" and own <= 0:
        raise PlanError(
            f"the space's {parameter.field} is on a log scale, which the plan's own value {own:g} is not on; make the scale linear"
        )
    center = own if parameter.center is None else parameter.center
    return parameter.changed(low=min(parameter.low, own), high=max(parameter.high, own), center=center)


def _check_center(parameter: AnyParameter) -> None:
    if parameter.center is not None and not fits(parameter, parameter.center):
        raise PlanError(
            f"the space's {parameter.field} has its center at {shown(parameter.center)}, which is not among its values; "
            "leave center out for the plan's own"
        )


def _check_conditions(space: Space) -> None:
    """Raise for a condition that cannot hold."""
    by_field = {parameter.field: parameter for parameter in space.parameters}
    for parameter in space.parameters:
        if parameter.when is None:
            continue
        other = by_field[parameter.when.field]
        if isinstance(other, RealParameter):
            raise PlanError(
                f"the space's {parameter.field} depends on {other.field}, a real number, which has the same value hardly ever "
                "twice; make that one a choice"
            )
        if strange := [value for value in parameter.when.values if not fits(other, value)]:
            raise PlanError(
                f"the space's {parameter.field} depends on {other.field} being {_listed(strange)}, which the space does not "
                "let it be"
            )


def _check_spellings(own: Values, document: Mapping[str, Any], configuration: str) -> None:
    """Raise for one field under two names, such as those of an entry of a list by name and by number."""
    found: dict[str, str] = {}
    for field in own:
        place = places_in(document, configuration, field)[-1].field
        if place in found:
            raise PlanError(f"the space's {found[place]} and {field} are one field; leave one of them out")
        found[place] = field


def _check_branches(parameter: AnyParameter, space: Space, document: Mapping[str, Any], configuration: str) -> None:
    """Raise where a parameter is no field, or an end of its range or an option is unsound."""
    for branch in branches(space, parameter):
        try:
            changed = set_values(document, configuration, branch).document
            places_in(changed, configuration, parameter.field)
        except PlanError as error:
            raise PlanError(f"{error}{_while(branch)}") from None
        for value in _ends(parameter):
            try:
                ended = set_values(changed, configuration, {parameter.field: value}).document
                parsed_configuration(ended, configuration)
            except PlanError as error:
                raise PlanError(
                    f"the space's {parameter.field} cannot be {shown(value)}{_while(branch)}: {error}"
                ) from None


def _ends(parameter: AnyParameter) -> tuple[JsonValue, ...]:
    return parameter.options if isinstance(parameter, ChoiceParameter) else (parameter.low, parameter.high)


def _while(branch: Values) -> str:
    told = " and ".join(f"{field} is {shown(value)}" for field, value in branch.items())
    return f" (while {told})" if told else ""


def _listed(values: tuple[JsonValue, ...] | list[JsonValue]) -> str:
    return " or ".join(shown(value) for value in values)


def _started(start: Start, space: Space, own: Values) -> Start:
    """Return a start with a value of every parameter that counts."""
    by_field = {parameter.field: parameter for parameter in space.parameters}
    for field, value in start.values.items():
        if field not in by_field:
            raise PlanError(f"start {start.title}: {field} is not in the space{nearest(field, by_field)}")
        if not fits(by_field[field], value):
            raise PlanError(f"start {start.title}: the space's {field} cannot be {shown(value)}; widen it")
    return start.changed(values=completed(space, start.values, own))
