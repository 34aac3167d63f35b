"""Class weights that count the voxels of the dataset."""

import pytest

from tests.planning.measured import case, fingerprint, planned
from tumorseg.errors import PlanError
from tumorseg.planning.choices.class_counts import output_voxels
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.options import Machine, PlanOptions
from tumorseg.planning.overrides import parse_override
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.targets import targets_of

LABELS = {"background": 0, "edema": 1, "core": 2}
REGIONS = [{"name": "whole", "labels": [1, 2], "value": 1}, {"name": "core", "labels": [2], "value": 2}]
WEIGHTS = 'loss.components.1.class_weights={"name": "inverse_frequency"}'


def measured(*, counts=({"edema": 900, "core": 100}, {"edema": 100, "core": 0}), **options):
    cases = [
        case(f"case_{number}", (1.0, 1.0, 1.0), (20, 40, 40)).model_copy(update={"label_voxels": found})
        for number, found in enumerate(counts)
    ]
    return fingerprint(cases, labels=LABELS, **options)


def test_the_planner_writes_the_datasets_voxels_into_the_plan():
    plan = planned(measured(), WEIGHTS)
    for configuration in plan.configurations.values():
        weights = configuration.loss.components[1].class_weights
        assert weights.voxels == (2 * 20 * 40 * 40 - 1100, 1000, 100)


def test_of_regions_the_voxels_of_their_labels_are_added_up():
    plan = planned(measured(regions=REGIONS), WEIGHTS)
    assert plan.configurations["2d"].loss.components[1].class_weights.voxels == (1100, 100)


@pytest.mark.parametrize(
    "weights",
    [
        '{"name": "inverse_frequency", "of": "batch"}',
        '{"name": "effective_number", "voxels": [5, 4, 3]}',
        '{"name": "given", "values": [1, 2, 3]}',
    ],
)
def test_what_needs_no_counting_stays_as_it_is(weights):
    plan = planned(measured(counts=(None, None)), f"loss.components.1.class_weights={weights}")
    found = plan.configurations["2d"].loss.components[1].class_weights
    assert getattr(found, "voxels", None) in (None, (5, 4, 3))


def test_a_fingerprint_without_counts_is_refused_with_what_to_do():
    with pytest.raises(PlanError, match=r'no label_voxels of 1 cases \(case_1\); .*"of": "batch"'):
        planned(measured(counts=({"edema": 900, "core": 500}, None)), WEIGHTS)


def test_background_is_what_no_label_has():
    found = measured(counts=({"edema": 40_000},))
    assert output_voxels(found, targets_of(found.dataset)) == (0, 40_000, 0)


@pytest.mark.parametrize(
    "weights",
    ['{"name": "inverse_frequency"}', '{"name": "effective_number"}', '{"name": "given", "values": [1, 2, 3]}'],
)
def test_the_memory_of_class_weights_is_counted_like_any_other(weights):
    options = PlanOptions(
        preset=PRESETS["fast_prototyping"],
        overrides=(parse_override(f"loss.components.1.class_weights={weights}"),),
    )
    plan = make_plan(measured(), "p", options, Machine(counter=MemoryCounter())).plan
    assert plan.budget.counts["2d"].peak_bytes > 0
