"""When the parameters of a space count, and what values they may have together."""

from collections.abc import Iterable, Iterator

from pydantic import JsonValue

from tumorseg.planning.deciding_fields import DECIDING
from tumorseg.schema.tuning import AnyParameter, ChoiceParameter, RealParameter, Space, Values


def counts(parameter: AnyParameter, values: Values) -> bool:
    """Return whether a parameter counts beside the values of those before it that count.

    A condition on a parameter that does not count itself does not hold.

    Args:
        parameter: of a resolved space, whose conditions are on its own fields alone.
        values: by field.
    """
    when = parameter.when
    return when is None or (when.field in values and values[when.field] in when.values)


def counting(space: Space, values: Values) -> Values:
    """Return the values of the parameters of a resolved space that count."""
    kept: Values = {}
    for parameter in space.parameters:
        if parameter.field in values and counts(parameter, kept):
            kept[parameter.field] = values[parameter.field]
    return kept


def completed(space: Space, given: Values, own: Values) -> Values:
    """Return a value of every parameter of a resolved space that counts.

    Args:
        space: resolved.
        given: values, which may lack some.
        own: the plan's own, that take the place of those that lack; where the plan has none, that is the middle of the prior.
    """
    values: Values = {}
    for parameter in space.parameters:
        if counts(parameter, values):
            field = parameter.field
            values[field] = given[field] if field in given else own.get(field, middle(parameter))
    return values


def middle(parameter: AnyParameter) -> JsonValue:
    """Return the value that the prior holds likeliest."""
    if isinstance(parameter, ChoiceParameter):
        return parameter.center if parameter.center in parameter.options else parameter.options[0]
    if parameter.center is not None:
        return parameter.center
    is_log = parameter.scale == "log"
    found = (parameter.low * parameter.high) ** 0.5 if is_log else (parameter.low + parameter.high) / 2
    return float(found) if isinstance(parameter, RealParameter) else round(found)


def fits(parameter: AnyParameter, value: JsonValue) -> bool:
    """Return whether a value is one that a parameter may have."""
    if isinstance(parameter, ChoiceParameter):
        return value in parameter.options
    # In Python true is a number.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    is_whole = isinstance(value, int) or isinstance(parameter, RealParameter)
    return is_whole and parameter.low <= value <= parameter.high


def branches(space: Space, parameter: AnyParameter) -> list[Values]:
    """Return what those parameters may be together that decide whether a parameter counts and where it stands.

    These are the parameters of its condition, and choices that put something else in the place of what it is part of.
    """
    deciding = set(_deciding(space, parameter))
    found: list[Values] = [{}]
    for other in space.parameters:
        if other.field in deciding:
            found = [grown for values in found for grown in _grown(space, other, values)]
    return [values for values in found if counts(parameter, values)]


def _deciding(space: Space, parameter: AnyParameter) -> Iterator[str]:
    """Yield the fields of the parameters that decide about one."""
    yield from _conditions(space, parameter)
    for other in space.parameters:
        whole, _, key = other.field.rpartition(".")
        if key in DECIDING and other is not parameter and parameter.field.startswith(f"{whole}."):
            yield other.field
            yield from _conditions(space, other)


def _conditions(space: Space, parameter: AnyParameter) -> Iterator[str]:
    """Yield the field that a parameter depends on, and what that one depends on."""
    if parameter.when is not None:
        yield parameter.when.field
        yield from _conditions(space, next(one for one in space.parameters if one.field == parameter.when.field))


def _grown(space: Space, parameter: AnyParameter, values: Values) -> Iterator[Values]:
    """Yield values with each that a parameter may have beside them; unchanged where it does not count."""
    if not counts(parameter, values):
        yield values
        return
    for value in _candidates(space, parameter):
        yield {**values, parameter.field: value}


def _candidates(space: Space, parameter: AnyParameter) -> Iterable[JsonValue]:
    if isinstance(parameter, ChoiceParameter):
        return parameter.options
    # Of a number only the values that something depends on matter.
    named: list[JsonValue] = []
    for other in space.parameters:
        if other.when is not None and other.when.field == parameter.field:
            named += other.when.values
    return named
