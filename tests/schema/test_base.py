"""What all records share, and their JSON form."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tumorseg.errors import InputError, PlanError
from tumorseg.schema import (
    augmentation,
    cases,
    dataset,
    fingerprint,
    logs,
    losses,
    metrics,
    networks,
    optimizers,
    plan,
    preprocessing,
    targets,
)
from tumorseg.schema.base import (
    Record,
    content_hash,
    describe_validation,
    json_text,
    parse_record,
    record_hash,
    to_json,
)
from tumorseg.schema.optimizers import AdamW, Sgd
from tumorseg.schema.plan import Training

MODULES = (
    augmentation,
    cases,
    dataset,
    fingerprint,
    logs,
    losses,
    metrics,
    networks,
    optimizers,
    plan,
    preprocessing,
    targets,
)
RECORDS = sorted(
    {
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Record)
    },
    key=lambda kind: kind.__name__,
)
TRAINING = {"epochs": 4, "iterations_per_epoch": 5, "validation_iterations": 2}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(-1e6, 1e6) | st.text("aé☃\n", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abä", max_size=2), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_every_record_is_frozen_and_forbids_other_keys(kind):
    assert kind.model_config["frozen"]
    assert kind.model_config["extra"] == "forbid"
    assert kind.model_config["allow_inf_nan"] is False


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_an_unknown_key_is_named(kind):
    with pytest.raises(ValidationError) as refused:
        kind.model_validate({"colour": 1})
    assert "colour: unknown key (misspelt, or from another version of tumorseg)" in describe_validation(
        refused.value, most=99
    )


def test_a_record_does_not_change():
    training = Training(**TRAINING)
    with pytest.raises(ValidationError, match="frozen"):
        training.epochs = 5
    assert hash(training) == hash(Training(**TRAINING))


@pytest.mark.parametrize("lr", [float("nan"), float("inf")])
def test_numbers_that_json_cannot_hold_are_refused(lr):
    with pytest.raises(ValidationError, match="finite"):
        Sgd(lr=lr)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (TRAINING | {"epoch": 1}, "plan.json: epoch: unknown key (misspelt, or from another version of tumorseg)"),
        ({"epochs": 4, "iterations_per_epoch": 5}, "plan.json: validation_iterations: missing"),
        (
            TRAINING | {"epochs": 0},
            "plan.json: epochs: Input should be greater than or equal to 1, found '0'",
        ),
        (
            TRAINING | {"epochs": []},
            "plan.json: epochs: Input should be a valid integer",
        ),
        (
            TRAINING | {"epochs": "x" * 200, "seed": -1},
            f"plan.json: epochs: Input should be a valid integer, unable to parse string as an integer, found '{'x' * 80}'; "
            "seed: Input should be greater than or equal to 0, found '-1'",
        ),
        (
            "[]",
            "plan.json: document: Input should be an object",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(document, message):
    with pytest.raises(PlanError) as refused:
        parse_record(Training, document, source="plan.json", error=PlanError)
    assert str(refused.value) == message


@pytest.mark.parametrize("text", ["", "{", '{"epochs": NaN}', b"\xff"])
def test_text_that_is_no_json_is_told_in_one_line(text):
    with pytest.raises(InputError, match=r"^f\.json: ") as refused:
        parse_record(Training, text, source="f.json", error=InputError)
    assert "\n" not in str(refused.value)


def test_a_check_of_several_fields_is_told_without_pydantics_words():
    with pytest.raises(PlanError, match=r"^p: document: low 2\.0 is above high 1\.0$"):
        parse_record(augmentation.Range, {"low": 2, "high": 1}, source="p", error=PlanError)


def test_many_problems_are_counted():
    with pytest.raises(ValidationError) as refused:
        Training.model_validate(TRAINING | {f"key_{number}": 1 for number in range(11)})
    line = describe_validation(refused.value)
    assert line.endswith("; and 3 more")
    assert line.count("unknown key") == 8


def test_a_record_is_read_from_text_and_from_a_value():
    for value in (TRAINING, json.dumps(TRAINING), json.dumps(TRAINING).encode()):
        assert parse_record(Training, value, source="f", error=PlanError) == Training(**TRAINING)


def test_json_has_sorted_keys_and_one_final_newline():
    text = to_json(AdamW())
    assert text == (
        '{\n  "betas": [\n    0.9,\n    0.999\n  ],\n  "eps": 1e-08,\n  "lr": 0.001,\n  "name": "adamw",\n'
        '  "weight_decay": 0.01\n}\n'
    )
    assert to_json(AdamW.model_validate_json(text)) == text


def test_json_is_written_in_utf_8_letters():
    assert json_text({"é": "☃"}) == '{\n  "é": "☃"\n}\n'


def test_json_holds_no_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(float("nan"))


@given(st.dictionaries(st.text("abcdé", max_size=3), JSON, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_keys_changes_neither_text_nor_hash(value, random):
    keys = list(value)
    random.shuffle(keys)
    shuffled = {key: value[key] for key in keys}
    assert json_text(shuffled) == json_text(value)
    assert content_hash(shuffled) == content_hash(value)
    assert json.loads(json_text(value)) == value


def test_a_hash_has_32_digits_and_follows_the_content():
    digest = content_hash({"a": 1, "b": [1, 2]})
    assert len(digest) == 32
    assert int(digest, 16) >= 0
    assert digest == content_hash({"b": [1, 2], "a": 1}) == "dfa78bb8697a5e09925c310f8b18bc8c"
    assert digest != content_hash({"a": 1, "b": [2, 1]})
    assert record_hash(Sgd()) == content_hash(Sgd().model_dump(mode="json")) != record_hash(Sgd(lr=1.0))
