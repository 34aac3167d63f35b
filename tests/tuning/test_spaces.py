"""Spaces are data: read, fitted to a plan, and refused in one line where they do not fit."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tuning.reference_plans import EACH, SOME, families_of, reference_plan, space_of
from tumorseg.errors import PlanError
from tumorseg.planning.overrides import apply_overrides, parse_override
from tumorseg.schema.augmentation import CUSTOM
from tumorseg.schema.base import parse_record, record_hash, to_json
from tumorseg.schema.tuning import ChoiceParameter, RealParameter, Space, WholeParameter
from tumorseg.tuning.changes import document_of, places_in
from tumorseg.tuning.conditions import completed, counting, counts, middle
from tumorseg.tuning.spaces import DEFAULT_SPACE, own_values, read_space, resolved
from tumorseg.tuning.trial_plans import with_values

FAST = "BrainTumour__fast_prototyping"
FULL = "3d_fullres"


def resolved_with(*parameters, plan=FAST, starts=()):
    document = {"parameters": list(parameters), "starts": list(starts)}
    found = reference_plan(plan) if isinstance(plan, str) else plan
    return resolved(read_space(document, found, FULL), found, FULL)


def real(field, low, high, **fields):
    return {"name": "real", "field": field, "low": low, "high": high, **fields}


def choice(field, *options, **fields):
    return {"name": "choice", "field": field, "options": list(options), **fields}


def parameters_of(space):
    return {parameter.field: parameter for parameter in space.parameters}


@pytest.mark.parametrize(("name", "configuration"), EACH)
def test_the_plans_own_values_give_the_plans_own_configuration(name, configuration):
    plan = reference_plan(name)
    space = read_space(families_of(name), plan, configuration)
    own = own_values(space, plan, configuration)
    trial = with_values(plan, configuration, own)
    assert record_hash(trial.configurations[configuration]) == record_hash(plan.configurations[configuration])
    assert len(own) > 15


def assert_centred(name, configuration):
    plan, space = reference_plan(name), space_of(name, configuration, families_of(name))
    parameters = parameters_of(space)
    for field, value in own_values(space, plan, configuration).items():
        assert middle(parameters[field]) == value, field


@pytest.mark.parametrize(("name", "configuration"), SOME)
def test_every_range_and_option_holds_the_plans_own_value_as_its_centre(name, configuration):
    assert_centred(name, configuration)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "configuration"), [one for one in EACH if one not in SOME])
def test_the_families_fit_every_plan(name, configuration):
    assert_centred(name, configuration)


@pytest.mark.parametrize(("name", "configuration"), SOME[:1])
def test_a_resolved_space_survives_json_and_stays_as_it_is(name, configuration):
    plan, space = reference_plan(name), space_of(name, configuration)
    read = parse_record(Space, to_json(space), source="space", error=PlanError)
    assert read == space
    assert resolved(read, plan, configuration) == space


def drawn(space, data):
    values = {}
    for parameter in space.parameters:
        if not counts(parameter, values):
            continue
        if isinstance(parameter, ChoiceParameter):
            strategy = st.sampled_from(parameter.options)
        elif isinstance(parameter, WholeParameter):
            strategy = st.integers(parameter.low, parameter.high)
        else:
            strategy = st.floats(parameter.low, parameter.high)
        values[parameter.field] = data.draw(strategy, label=parameter.field)
    return values


def assert_sound(name, configuration, data):
    plan, space = reference_plan(name), space_of(name, configuration)
    values = drawn(space, data)
    trial = with_values(plan, configuration, values)
    document = document_of(trial)
    held = {field: places_in(document, configuration, field)[-1].value for field in values}
    # The list of a preset of which a transform was changed is a list of its own.
    if held["augmentation.preset"] == CUSTOM:
        held["augmentation.preset"] = plan.configurations[configuration].augmentation.preset
    assert held == values


DRAWING = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(("name", "configuration"), SOME)
@settings(DRAWING, max_examples=2)
@given(data=st.data())
def test_whatever_is_drawn_from_a_familys_space_is_a_sound_plan_that_holds_it(name, configuration, data):
    assert_sound(name, configuration, data)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "configuration"), SOME)
@settings(DRAWING, max_examples=40)
@given(data=st.data())
def test_whatever_is_drawn_often_is_sound_too(name, configuration, data):
    assert_sound(name, configuration, data)


def test_the_default_space_leaves_the_network_alone():
    fields = parameters_of(space_of(FAST, families=DEFAULT_SPACE))
    assert {field.split(".")[0] for field in fields} == {"loss", "optimizer", "schedule", "augmentation", "sampling"}


def test_a_condition_on_a_field_that_no_trial_changes_is_settled_by_the_plan():
    when = {"field": "optimizer.name", "values": ["adamw"]}
    space = resolved_with(real("optimizer.lr", 1e-4, 1e-2, when=when))
    assert space.parameters[0].when is None


def test_a_range_is_widened_and_options_are_extended_to_the_plans_own():
    whole = {"name": "whole", "field": "batch_size", "low": 3, "high": 6}
    space = resolved_with(
        real("optimizer.lr", 1e-4, 1e-3, scale="log"), choice("loss.preset", "dice_topk", "dice_focal"), whole
    )
    lr, preset, batch = space.parameters
    assert (lr.low, lr.high, lr.center) == (1e-4, 2e-3, 2e-3)
    assert (preset.options, preset.center) == (("dice_ce", "dice_topk", "dice_focal"), "dice_ce")
    assert (batch.low, batch.high, batch.center) == (2, 6, 2)


def test_a_centre_of_the_users_stays():
    assert resolved_with(real("optimizer.lr", 1e-4, 1e-1, center=0.05)).parameters[0].center == 0.05


def test_a_users_starts_get_a_value_of_every_parameter_that_counts():
    momentum = real("optimizer.momentum", 0.5, 0.9, when={"field": "optimizer.name", "values": ["sgd"]})
    parameters = [choice("optimizer.name", "sgd", "adamw"), momentum, real("optimizer.lr", 1e-4, 1e-1)]
    start = {"title": "mine", "source": "me", "values": {"optimizer.name": "sgd"}}
    space = resolved_with(*parameters, starts=[start])
    assert space.starts[0].values == {"optimizer.name": "sgd", "optimizer.momentum": 0.7, "optimizer.lr": 2e-3}


def test_the_middle_of_a_prior_without_centre_is_that_of_the_range_on_its_scale():
    fields = {"field": "x", "low": 1, "high": 100}
    assert middle(RealParameter(**fields)) == 50.5
    assert middle(RealParameter(**fields, scale="log")) == pytest.approx(10)
    assert middle(WholeParameter(**fields, scale="log")) == 10
    assert middle(ChoiceParameter(field="x", options=("a", "b"))) == "a"


def test_values_that_lack_are_the_plans_own_or_the_middle():
    space = resolved_with(real("optimizer.lr", 1e-4, 1e-1), real("sampling.foreground_fraction", 0.1, 0.9))
    own = own_values(space, reference_plan(FAST), FULL)
    assert completed(space, {"optimizer.lr": 0.01}, own) == {"optimizer.lr": 0.01, "sampling.foreground_fraction": 0.33}


UNREADABLE = [
    ("loss,optimiser", r"--space loss,optimiser: 'optimiser' is unknown; known are loss, .*did you mean optimizer\?"),
    ("loss,loss", "loss stands twice"),
    ("", "'' is unknown"),
    (["loss"], "the space: document"),
    ({"parameters": []}, "the space: parameters: expected at least 1"),
    ({"parameters": [real("optimizer.lr", 1, 1)]}, r"the range of optimizer\.lr is empty: from 1 to 1"),
]


@pytest.mark.parametrize(("given", "message"), UNREADABLE)
def test_what_is_no_space_is_refused(given, message):
    with pytest.raises(PlanError, match=message):
        read_space(given, reference_plan(FAST), FULL)


BY_SGD = {"field": "optimizer.name", "values": ["sgd"]}
UNFIT = [
    (
        [real("optimizer.momentm", 0, 0.9)],
        r"the space's configurations.3d_fullres.optimizer.momentm: .*known here: name, lr",
    ),
    ([real("training.epochs", 1, 9)], r"the space's configurations.3d_fullres.training: there is no such field"),
    ([real("optimizer.momentum", 0.5, 0.9, when=BY_SGD)], "the plan's is 'adamw' and no trial changes it"),
    (
        [choice("optimizer.name", "sgd", "adamw"), real("optimizer.momentum", 0.5, 0.9)],
        r"optimizer.momentum: there is no such field",
    ),
    (
        [choice("optimizer.name", "sgd", "adamw"), real("optimizer.beta", 0.5, 0.9, when=BY_SGD)],
        r"optimizer.beta: there is no such field; .* \(while optimizer.name is 'sgd'\)",
    ),
    (
        [
            real("optimizer.weight_decay", 0, 1),
            choice("optimizer.name", "sgd", "adamw"),
            real("optimizer.betas.0", 0.5, 0.9),
        ],
        r"optimizer.betas: there is no such field; .* \(while optimizer.name is 'sgd'\)",
    ),
    (
        [
            choice("loss.preset", "dice_ce", "dice_topk"),
            real("optimizer.lr", 0, 1, when={"field": "loss.preset", "values": ["x"]}),
        ],
        r"depends on loss.preset being 'x', which the space does not let it be",
    ),
    (
        [
            real("optimizer.lr", 1e-3, 1),
            real("optimizer.eps", 1e-9, 1, when={"field": "optimizer.lr", "values": [0.1]}),
        ],
        "depends on optimizer.lr, a real number",
    ),
    (
        [real("optimizer.lr", 1e-3, 1000)],
        r"the space's optimizer.lr cannot be 1000.0: .*optimizer.lr: expected 100 or less",
    ),
    (
        [choice("loss.preset", "dice_ce", "dice")],
        r"the space's loss.preset cannot be 'dice': there is no loss preset 'dice'",
    ),
    ([choice("network.deep_supervision", True, "perhaps")], "network.deep_supervision cannot be 'perhaps'"),
    ([real("network.deep_supervision", 0, 1)], "is a real number, but the plan's own value is true; make it a choice"),
    (
        [{"name": "whole", "field": "optimizer.lr", "low": 1, "high": 2}],
        "is a whole number, but the plan's own value is 0.002",
    ),
    ([real("optimizer.lr", 1e-3, 1, center=2)], "has its center at 2.0, which is not among its values"),
    ([real("spacing_mm.0", 0.5, 2)], "decides how cases are prepared, which all trials share"),
    (
        [
            real("optimizer.betas.0", 0.5, 0.9),
            real("loss.components.dice.smooth", 0, 1),
            real("loss.components.0.smooth", 0, 1),
        ],
        "the space's loss.components.dice.smooth and loss.components.0.smooth are one field",
    ),
]


@pytest.mark.parametrize(("parameters", "message"), UNFIT)
def test_what_does_not_fit_the_plan_is_refused(parameters, message):
    with pytest.raises(PlanError, match=message) as caught:
        resolved_with(*parameters)
    assert "\n" not in str(caught.value)


def test_a_log_scale_without_the_plans_own_value_is_refused():
    plan = apply_overrides(reference_plan(FAST), [parse_override("optimizer.weight_decay=0")])
    with pytest.raises(
        PlanError, match="on a log scale, which the plan's own value 0 is not on; make the scale linear"
    ):
        resolved_with(real("optimizer.weight_decay", 1e-6, 1e-2, scale="log"), plan=plan)


START = {"title": "mine", "source": "me"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer.l": 1e-3}, r"start mine: optimizer.l is not in the space; did you mean optimizer.lr\?"),
        ({"optimizer.lr": 9.0}, r"start mine: the space's optimizer.lr cannot be 9.0; widen it"),
        ({"optimizer.lr": True}, r"start mine: the space's optimizer.lr cannot be true; widen it"),
    ],
)
def test_a_start_outside_of_the_space_is_refused(values, message):
    with pytest.raises(PlanError, match=message):
        resolved_with(real("optimizer.lr", 1e-4, 1e-1), starts=[{**START, "values": values}])


def test_a_whole_number_that_others_depend_on_is_walked_at_the_values_that_they_name():
    whole = {"name": "whole", "field": "batch_size", "low": 1, "high": 4}
    space = resolved_with(whole, real("optimizer.lr", 1e-4, 1e-1, when={"field": "batch_size", "values": [4]}))
    assert space.parameters[1].center is None
    plan = reference_plan(FAST)
    assert own_values(space, plan, FULL) == {"batch_size": 2}
    assert counting(space, {"batch_size": 4, "optimizer.lr": 0.1}) == {"batch_size": 4, "optimizer.lr": 0.1}


@pytest.mark.parametrize("verb", [read_space, resolved])
def test_a_cascade_and_an_unknown_configuration_are_refused(verb):
    plan, space = reference_plan("LiverCT__optimized"), "optimizer" if verb is read_space else space_of(FAST)
    with pytest.raises(PlanError, match=r"configuration 3d_cascade_fullres is a cascade.*tune 3d_lowres or another"):
        verb(space, plan, "3d_cascade_fullres")
    with pytest.raises(PlanError, match="has no configuration 4d; choose one of 2d, "):
        verb(space, plan, "4d")
