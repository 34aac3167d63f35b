"""Transforms and what they drew in words and as JSON, whatever fields they have."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

from tumorseg.schema.base import Record
from tumorseg.schema.extensions import External
from tumorseg.schema.transforms.base import CountRange, Range
from tumorseg.types import Json

MOST_NUMBERS = 9
"""Of more only the least and the greatest are told."""
MOST_PARTS = 3
"""Parts of a draw, such as movements, that are told one by one."""
UNITS = {"deg": "deg", "mm": "mm", "hu": "HU"}
"""What stands for the last word of a field that is a unit."""
SEEDS = ("seed", "seeds")
"""Fields of a draw that say nothing to people."""


def settings_text(transform: Record, channels: Sequence[str]) -> str:
    """Return the parameters of a plan's transform, in the order of its fields.

    Args:
        transform: the record.
        channels: names of the channels.
    """
    if isinstance(transform, External):
        given = [f"{name} {value}" for name, value in transform.parameters.items()]
        return "; ".join([f"of {transform.distribution} {transform.version}", *given])
    parts = []
    for field in type(transform).model_fields:
        value = getattr(transform, field)
        if field != "name" and value is not None:
            parts.append(_setting(field, value, channels))
    return "; ".join(parts)


def _setting(field: str, value: Any, channels: Sequence[str]) -> str:
    words, unit = _words(field)
    if field == "channels":
        return f"channels {_names(value, channels)}"
    if isinstance(value, bool):
        return f"{words} {'yes' if value else 'no'}"
    if isinstance(value, Range | CountRange):
        return f"{words} {_number_text(value.low)} to {_number_text(value.high)}{unit}"
    if value == ():
        return f"{words} none"
    return f"{words} {_numbers_text(value)}{unit}"


def draw_text(draw: Any, channels: Sequence[str]) -> str:
    """Return what was drawn, without what nobody can read: `angles 12, -8, 27 deg; scaling 1.2`.

    Args:
        draw: NamedTuple of a transform.
        channels: names of the channels; where all of them are changed, they are not named.
    """
    parts = list(_drawn_parts(draw, channels))
    if not parts:
        # Better than nothing: it tells draws apart.
        parts = [f"{field} {getattr(draw, field)}" for field in SEEDS if hasattr(draw, field)]
    return "; ".join(parts)


def _drawn_parts(draw: Any, channels: Sequence[str]) -> Iterator[str]:
    for field, value in draw._asdict().items():
        words, unit = _words(field)
        if field == "channels":
            if len(value) < len(channels):
                yield f"{_names(value, channels)}"
        elif isinstance(value, bool):
            if value:
                yield words
        elif _is_draw(value):
            yield from (f"{words} {part}" for part in _drawn_parts(value, channels))
        elif inner := list(_draws_in(value)):
            yield f"{words} {_list_text(inner, channels)}"
        elif field not in SEEDS and _is_told(value):
            yield f"{words} {_numbers_text(value)}{unit}"


def _draws_in(value: Any) -> Iterator[Any]:
    """Yield the draws that stand in a tuple, or in tuples in it."""
    if _is_draw(value):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _draws_in(part)


def _list_text(draws: Sequence[Any], channels: Sequence[str]) -> str:
    """Return several draws, each in brackets; of many the first ones."""
    told = ["({})".format("; ".join(_drawn_parts(draw, channels))) for draw in draws[:MOST_PARTS]]
    return _with_rest(told, len(draws))


def _with_rest(told: Sequence[str], count: int) -> str:
    """Return what is told of some things, and how many more there are."""
    more = [f"and {count - len(told)} more"] if count > len(told) else []
    return " ".join([*told, *more])


def _words(field: str) -> tuple[str, str]:
    """Return a field's name in words, and its unit with a blank before it."""
    *words, last = field.split("_")
    if words and last in UNITS:
        return " ".join(words), f" {UNITS[last]}"
    return field.replace("_", " "), ""


def _names(numbers: Sequence[int], channels: Sequence[str]) -> str:
    return ", ".join(channels[number] for number in numbers)


def _is_draw(value: Any) -> TypeGuard[Any]:
    return isinstance(value, tuple) and hasattr(value, "_asdict")


def _is_told(value: Any) -> bool:
    """Return whether a value is a number or a text, or a tuple of them; images that were drawn are not."""
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_told, value))
    return isinstance(value, int | float | str)


def _numbers_text(value: Any) -> str:
    if not isinstance(value, tuple):
        return _number_text(value)
    if isinstance(value[0], tuple):
        # Numbers of one place may mean something else than those of the next, so that they have no common range.
        told = [f"({_numbers_text(part)})" for part in value[:MOST_PARTS]]
        return _with_rest(told, len(value))
    if len(value) > MOST_NUMBERS:
        return f"{len(value)} from {_number_text(min(value))} to {_number_text(max(value))}"
    return ", ".join(map(_number_text, value))


def _number_text(value: Any) -> str:
    """Return a number in three digits or more; anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    if abs(value) >= 100:
        return f"{value:.0f}"
    # Negative zeros lose their sign when 0 is added.
    return f"{float(f'{value:.3g}') + 0.0:g}"


def draw_json(draw: Any) -> Json:
    """Return everything that was drawn, seeds included, but for records of the plan and for images.

    Args:
        draw: NamedTuple of a transform; None if it left the patch alone.
    """
    if _is_draw(draw):
        told = {field: value for field, value in draw._asdict().items() if _is_json(value)}
        return {field: draw_json(value) for field, value in told.items()}
    if isinstance(draw, tuple):
        return [draw_json(value) for value in draw]
    assert draw is None or isinstance(draw, str | int | float)
    return draw


def _is_json(value: Any) -> bool:
    """Return whether a value can be told as JSON."""
    if isinstance(value, tuple) and not _is_draw(value):
        return all(map(_is_json, value))
    if _is_draw(value):
        # Of a draw without any such field nothing is left to tell.
        return any(map(_is_json, value))
    return value is None or isinstance(value, str | int | float)
