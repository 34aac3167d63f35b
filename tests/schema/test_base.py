"""What all records share, and their JSON form."""

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.planning.measured import planned
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
    load_json,
    parse_record,
    record_hash,
    to_json,
)
from tumorseg.schema.optimizers import AdamW, Sgd
from tumorseg.schema.training import Training
from tumorseg.schema.transforms.base import Range
from tumorseg.schema.wording import problems_of

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
        if isinstance(kind, type) and issubclass(kind, Record) and not inspect.isabstract(kind)
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
        refused.value, {"colour": 1}, most=99
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
            "plan.json: epochs: expected 1 or more, found 0",
        ),
        (
            TRAINING | {"epochs": []},
            "plan.json: epochs: expected a whole number, found a list",
        ),
        (
            TRAINING | {"epochs": "x" * 200, "seed": -1},
            f"plan.json: epochs: expected a whole number, found '{'x' * 80}'; seed: expected 0 or more, found -1",
        ),
        (
            "[]",
            "plan.json: document: expected an object, {…}, found a list",
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
        parse_record(Range, {"low": 2, "high": 1}, source="p", error=PlanError)


def test_many_problems_are_counted():
    document = TRAINING | {f"key_{number}": 1 for number in range(11)}
    with pytest.raises(ValidationError) as refused:
        Training.model_validate(document)
    line = describe_validation(refused.value, document)
    assert line.endswith("; and 3 more")
    assert line.count("unknown key") == 8


def test_a_record_is_read_from_text_and_from_a_value():
    for value in (TRAINING, json.dumps(TRAINING), json.dumps(TRAINING).encode()):
        assert parse_record(Training, value, source="f", error=PlanError) == Training(**TRAINING)


def test_json_has_sorted_keys_and_one_final_newline():
    text = to_json(AdamW())
    assert text == (
        '{\n  "betas": [\n    0.9,\n    0.999\n  ],\n  "decay_norms_and_biases": true,\n  "eps": 1e-08,\n  "lr": 0.001,\n  "name": "adamw",\n'
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


ODD_VALUES = (
    None, True, -3, 1.5, "", "x", "a/b", " x ", "x" * 300, [], [1, "x", None], ["x"] * 40, {}, {"x": 1}, {"name": "x"}, b"\xff", "\ud800"
)  # fmt: skip
SCHEMA_WORDS = ("should", "pattern", "Input", "^", "tuple[", "dict", "valid", "function-", "str_", "parse", "Field")


def is_refused(kind, document):
    try:
        kind.model_validate(document)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_no_message_speaks_of_schemas_or_regular_expressions(kind):
    documents = [[], 3, "x", {}, *({field: value} for field in kind.model_fields for value in ODD_VALUES)]
    for document in documents:
        wrong = document if is_refused(kind, document) else {"colour": 1}
        with pytest.raises(ValidationError) as refused:
            kind.model_validate(wrong)
        told = problems_of(refused.value, wrong)
        assert told, document
        for place, message in told:
            assert not [word for word in SCHEMA_WORDS if word in message.partition(", found ")[0]], (document, message)
            assert "[" not in place, (document, place)
            assert "\n" not in message


class _Forms(Record):
    """Values that may have several forms."""

    entries: dict[str, int | tuple[int, ...]] | None = None
    parts: tuple[str | Sgd, ...] = ()
    numbered: dict[int, str] | None = None
    size: float = 1.0
    flag: bool = False


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"entries": {"a": "one"}}, "entries.a: expected a whole number or a list, found 'one'"),
        ({"entries": {"a": [1, "x"]}}, "entries.a.1: expected a whole number, found 'x'"),
        ({"entries": {"int": "one", "b": 1}}, "entries.int: expected a whole number or a list, found 'one'"),
        ({"parts": [3]}, "parts.0: expected text or an object, {…}, found 3"),
        ({"parts": [{"lr": "x"}]}, "parts.0.lr: expected a number, found 'x'"),
        ({"parts": [{"rate": 1}]}, "parts.0.rate: unknown key (misspelt, or from another version of tumorseg)"),
        ({"numbered": {"x": "y"}}, "numbered.x: expected a whole number as its key, found 'x'"),
        ({"size": None, "flag": "perhaps"}, "size: expected a number, found null; flag: expected true or false, found 'perhaps'"),
        ('{"size": nay}', "document: is not JSON (Expecting value: line 1 column 10 (char 9))"),
        ('{"entries": {"a": {}}}', "entries.a: expected a whole number or a list, found an object"),
    ],
)  # fmt: skip
def test_a_value_of_several_forms_is_told_once_and_by_the_form_it_nearly_has(document, message):
    with pytest.raises(InputError) as refused:
        parse_record(_Forms, document, source="f", error=InputError)
    assert str(refused.value) == f"f: {message}"


def test_a_changed_record_is_validated():
    assert Sgd(lr=0.5).changed(momentum=0.9) == Sgd(lr=0.5, momentum=0.9)
    for wrong in ({"lr": -1}, {"colour": 1}, {"name": "adamw"}):
        with pytest.raises(ValidationError):
            Sgd().changed(**wrong)


def test_a_changed_record_keeps_what_nobody_said_and_the_records_inside():
    before = losses.LossSpec(preset="own", components=(losses.DiceLoss(),))
    after = before.changed(preset="other")
    assert after.model_fields_set == {"preset", "components"}
    assert after.components[0] is before.components[0]


def test_a_changed_configuration_is_checked_as_a_whole():
    configuration = planned().configurations["2d"]
    for wrong in ({"patch_size": (7, 9)}, {"batch_size": 0}):
        with pytest.raises(ValidationError):
            configuration.changed(**wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a\\u001b[2J": 1}', r"'a\\x1b\[2J' holds control"),
        ('{"a\\nerror: b": 1}', "holds control"),
        ('{"\\u202e": 1}', "holds control or format"),
        ("[1e999]", "found 1e999"),
        ("[-1e999]", "found -1e999"),
        ("[Infinity]", "found Infinity"),
        ("9" * 5000, "a whole number of 5000 digits"),
        ("9223372036854775808", "of 19 digits, .* to 9223372036854775807"),
        ("-9223372036854775809", "expected -9223372036854775808 to"),
        ('["\\ud800"]', "half a character"),
        ('["\\uDFFF"]', "half a character"),
        ('["\ud800"]', "half a character"),
        ("[" * 101 + "]" * 101, "more than 100 deep"),
        ('{"a":' * 101 + "1" + "}" * 101, "more than 100 deep"),
        ("[" * 100_000, "more than 100 deep"),
    ],
)
def test_what_no_document_can_hold_is_refused_in_one_printable_line(text, message):
    with pytest.raises(ValueError, match=message) as refused:
        load_json(text)
    assert str(refused.value).isprintable()
    with pytest.raises(PlanError) as told:
        parse_record(Training, text, source="f", error=PlanError)
    assert str(told.value).isprintable()


def test_what_documents_do_hold_is_read():
    deep = "[" * 100 + "1" + "]" * 100
    assert load_json(deep)[0][0] is not None
    assert load_json("0.5") == 0.5
    assert load_json("-9223372036854775808") == -(2**63)
    assert load_json('["\\ud83e\\udec1\\n\\u200b", 9223372036854775807, 1e308]') == ["🫁\n\u200b", 2**63 - 1, 1e308]


def test_names_that_are_not_utf_8_are_no_part_of_a_document_for_it_could_not_be_read():
    for write in (json_text, content_hash):
        with pytest.raises(InputError) as refused:
            write({"é": ["a", "b/caf\udce9.nii"]})
        assert str(refused.value) == r'found "b/caf\udce9.nii", which is not UTF-8; rename what is called so'
    assert load_json(json_text({"café🫁": "é\u200b"})) == {"café🫁": "é\u200b"}


@pytest.mark.parametrize(
    "document", [{"a" * 70_000: 1}, {"epochs": {"b" * 70_000: 1}}, {"optimizer": {"name": "c" * 70_000}}]
)
def test_what_a_message_quotes_is_cut(document):
    with pytest.raises(PlanError) as told:
        parse_record(Training, document, source="f", error=PlanError)
    assert len(str(told.value)) < 2500
