"""Published settings as far as a space and a plan can say them."""

import pytest

from tests.tuning.reference_plans import ALL_FAMILIES, REGIONS, SOME, reference_plan, space_of
from tumorseg.tuning.conditions import counting, fits
from tumorseg.tuning.spaces import own_values, read_space, resolved
from tumorseg.tuning.starts import PUBLISHED, with_starts
from tumorseg.tuning.trial_plans import with_values

FULL = "3d_fullres"
FAST, NNUNET, LIVER = "BrainTumour__fast_prototyping", "BrainTumour__nnunet", "LiverCT__optimized"
HIPPOCAMPUS, MEDNEXT, OWN = (published.title for published in PUBLISHED)


def started(name, families=ALL_FAMILIES, configuration=FULL):
    plan = reference_plan(name)
    return with_starts(space_of(name, configuration, families), plan, configuration)


def starts_of(*given, **options):
    return {start.title: start.values for start in started(*given, **options).starts}


@pytest.mark.parametrize(("name", "configuration"), SOME)
def test_two_or_three_starts_differ_from_the_plan_and_give_sound_plans(name, configuration):
    plan, space = reference_plan(name), started(name, configuration=configuration)
    assert 2 <= len(space.starts) <= 3
    own = own_values(space, plan, configuration)
    by_field = {parameter.field: parameter for parameter in space.parameters}
    seen = [own]
    for start in space.starts:
        assert start.values not in seen
        seen.append(start.values)
        assert counting(space, start.values) == start.values
        assert all(fits(by_field[field], value) for field, value in start.values.items())
        trial = with_values(plan, configuration, start.values)
        assert own_values(space, trial, configuration) == start.values


def test_auto_nnunets_winner_is_said_as_nearly_as_fields_can():
    plan = reference_plan(LIVER)
    trial = with_values(plan, FULL, starts_of(LIVER)[HIPPOCAMPUS]).configurations[FULL]
    assert (trial.optimizer.name, trial.optimizer.lr) == ("adamw", 0.0106)
    assert (trial.schedule.name, trial.sampling.foreground_fraction) == ("constant", 0.8)
    assert [component.weight for component in trial.loss.components] == [1.0, 0.25]


def test_nnunets_own_training_is_left_out_where_the_plan_is_it():
    assert OWN not in starts_of(NNUNET)
    start = starts_of(FAST, configuration="2d")[OWN]
    trial = with_values(reference_plan(FAST), "2d", start).configurations["2d"]
    nnunet = reference_plan(NNUNET).configurations["2d"]
    assert (trial.optimizer, trial.schedule) == (nnunet.optimizer, nnunet.schedule)
    told = [(component.name, component.weight) for component in trial.loss.components]
    assert told == [(component.name, component.weight) for component in nnunet.loss.components]
    # The plan mirrors nothing, and so no trial does.
    told = [one.name for one in trial.augmentation.transforms]
    assert told == [one.name for one in nnunet.augmentation.transforms if one.name != "mirror"]


def test_fields_outside_of_the_space_are_not_said():
    space = started(NNUNET, families="sampling")
    assert [start.values for start in space.starts] == [{"sampling.foreground_fraction": 0.8}]


def test_a_learning_rate_of_another_optimizer_is_not_said():
    plan = reference_plan(FAST)
    document = {"parameters": [{"name": "real", "field": "optimizer.lr", "low": 1e-4, "high": 0.1}]}
    space = with_starts(resolved(read_space(document, plan, FULL), plan, FULL), plan, FULL)
    # The plan's own optimizer is AdamW: SGD's rate means nothing to it.
    assert [start.values["optimizer.lr"] for start in space.starts] == [0.0106, 0.001]


def test_an_augmentation_that_does_not_suit_the_channels_is_not_said():
    plan, space = reference_plan(LIVER), started(LIVER)
    own = own_values(space, plan, FULL)
    for start in space.starts:
        assert start.values["augmentation.preset"] == own["augmentation.preset"] == "ct"


def test_regions_get_the_weight_of_their_own_cross_entropy():
    assert starts_of(REGIONS)[HIPPOCAMPUS]["loss.components.binary_cross_entropy.weight"] == 0.25


def test_a_users_own_starts_are_the_only_ones():
    plan = reference_plan(FAST)
    start = {"title": "mine", "source": "me", "values": {"optimizer.lr": 0.01}}
    lr = {"name": "real", "field": "optimizer.lr", "low": 1e-4, "high": 0.1}
    space = resolved(read_space({"parameters": [lr], "starts": [start]}, plan, FULL), plan, FULL)
    assert with_starts(space, plan, FULL) == space


def test_every_start_names_who_published_it():
    assert all(published.source and published.values for published in PUBLISHED)
