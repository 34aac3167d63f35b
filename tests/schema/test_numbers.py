"""Numbers that change while training."""

import pytest
from pydantic import TypeAdapter, ValidationError

from tumorseg.schema.numbers import (
    CosineSchedule,
    LinearSchedule,
    NotNegative,
    Share,
    StepSchedule,
    WarmUpSchedule,
    number_at,
    number_values,
)


def at(number, *moments):
    return [number_at(number, moment) for moment in moments]


def test_a_plain_number_stays():
    assert at(0.3, 0.0, 0.5, 1.0) == [0.3] * 3
    assert number_values(2) == (2,)


def test_a_line_is_followed_within_its_part_of_the_training():
    line = LinearSchedule(start=1.0, end=3.0, begin=0.2, until=0.6)
    assert at(line, 0.0, 0.2, 0.4, 0.6, 1.0) == pytest.approx([1, 1, 2, 3, 3])


def test_half_a_cosine_is_slow_at_its_ends():
    cosine = CosineSchedule(start=0.0, end=1.0)
    assert at(cosine, 0.0, 0.25, 0.5, 1.0) == pytest.approx([0, 0.1464466, 0.5, 1])


def test_a_warm_up_rises_from_0():
    assert at(WarmUpSchedule(value=2.0, until=0.5), 0.0, 0.25, 0.5, 1.0) == [0, 1, 2, 2]


def test_steps_change_at_their_milestones():
    steps = StepSchedule(steps=(1.0, 0.5, 0.0), milestones=(0.3, 0.6))
    assert at(steps, 0.0, 0.29, 0.3, 0.6, 1.0) == [1, 1, 0.5, 0, 0]


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (NotNegative, -1, "must be 0 or more"),
        (NotNegative, {"name": "linear", "start": 1, "end": -2}, "the schedule reaches -2"),
        (NotNegative, {"name": "step", "steps": [1, 2], "milestones": []}, "need 1 rising milestones"),
        (NotNegative, {"name": "step", "steps": [1, 2, 3], "milestones": [0.5, 0.2]}, "need 2 rising milestones"),
        (NotNegative, {"name": "linear", "start": 0, "end": 1, "begin": 0.5, "until": 0.5}, "is not before until"),
        (NotNegative, {"name": "lin"}, "one of the names linear, cosine, warm_up, step"),
        (NotNegative, {"name": "cosine", "start": 0, "end": 1, "until": 1.5}, "less than or equal to 1"),
        (NotNegative, "fast", "valid number"),
        (Share, {"name": "warm_up", "value": 0.5}, "above 0 and at most 1, but the schedule reaches 0"),
        (Share, 1.5, "at most 1"),
    ],
)
def test_what_makes_no_sense_is_refused(kind, value, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(kind).validate_python(value)


def test_a_schedule_keeps_its_form_as_json():
    adapter = TypeAdapter(NotNegative)
    document = {"name": "linear", "start": 0.0, "end": 1.0, "begin": 0.2, "until": 1.0}
    assert adapter.dump_python(adapter.validate_python(document), mode="json") == document
