"""Sizes of MedNeXt as they were published, and what is taken over from other networks."""

import pytest

from tumorseg.planning.families.base import Ends, Grid
from tumorseg.planning.families.mednext import SIZES
from tumorseg.planning.families.registry import converted, family_of
from tumorseg.planning.presets import PRESETS
from tumorseg.schema.networks import MedNext

GRID = Grid((1.0, 1.0, 1.0), (128.0, 128.0, 128.0), 1e9, 3)
FAMILY = family_of("mednext")


def first(size, edge=128):
    preset = PRESETS["optimized"].model_copy(update={"network_size": size, "initial_edge_3d": edge})
    return next(FAMILY.networks(GRID, preset))


# Roy et al., table 1: millions of parameters with kernel 3, of 4 channels and 3 regions or thereabouts.
@pytest.mark.parametrize(("size", "millions"), [("s", 5.6), ("b", 10.5), ("m", 17.6), ("l", 61.8)])
def test_sizes_have_the_published_numbers_of_parameters(size, millions):
    network, patch = first(size)
    assert patch == (128, 128, 128)
    assert network.features_per_stage == (32, 64, 128, 256, 512)
    assert len(network.blocks_per_stage) == len(network.expansion_per_stage) == 9
    stages = FAMILY.stages(network, patch, Ends(4, 3, is_checkpointed=False))
    assert sum(stage.layout.parameters for stage in stages) / 1e6 == pytest.approx(millions, rel=0.02)
    reason = FAMILY.reason(first(size), GRID, PRESETS["optimized"], rival=family_of(FAMILY.rival))
    assert reason.alternative.startswith("--network residual_unet, with 0.")


def test_blocks_and_expansions_go_up_as_they_went_down():
    network = first("l").network
    assert network.blocks_per_stage == network.expansion_per_stage == (3, 4, 8, 8, 8, 8, 8, 4, 3)
    assert first("b").network.expansion_per_stage == (2, 3, 4, 4, 4, 4, 4, 3, 2)
    assert first("m").network.blocks_per_stage == (3, 4, 4, 4, 4, 4, 4, 4, 3)


def test_fewer_stages_keep_the_first_ones():
    network = first("b", edge=16).network
    assert network.num_stages == 3
    assert network.expansion_per_stage == (2, 3, 4, 3, 2)


def test_checkpointing_keeps_results_of_stages_only():
    network, patch = first("s", edge=16)
    kept = [s.saved_elements for s in FAMILY.stages(network, patch, Ends(1, 2, is_checkpointed=True))]
    maps = [features * 16**3 // 8**level for level, features in enumerate((32, 64, 128))]
    assert kept == [*maps, maps[1], maps[0]]


def test_a_u_net_on_its_stages_keeps_strides_and_widths():
    network = first("s", edge=32).network
    other = converted(network, "plain_unet")
    assert (other.strides, other.features_per_stage) == (network.strides, network.features_per_stage)
    assert converted(other, "mednext").strides == network.strides


def test_response_norms_add_a_scale_and_a_shift_for_each_widened_channel():
    network, patch = first("s", edge=16)
    ends = Ends(1, 2, is_checkpointed=False)
    plain, second = (FAMILY.stages(one, patch, ends) for one in (network, network.changed(global_response_norm=True)))
    # Two blocks of 32 features, twice as wide.
    assert second[0].layout.parameters - plain[0].layout.parameters == 2 * 2 * 64
    assert second[0].saved_elements - plain[0].saved_elements == 2 * (2 * 64 * 16**3 + 2 * 64 + 1)


@pytest.mark.parametrize("field", ["blocks_per_stage", "expansion_per_stage"])
def test_every_stage_there_and_back_needs_its_entry(field):
    network = first("s", edge=16).network
    with pytest.raises(ValueError, match="need 5 entries for 3 stages"):
        MedNext.model_validate(network.model_dump() | {field: (2, 2, 2)})


def test_sizes_are_those_that_a_preset_may_name():
    assert set(SIZES) == {"s", "b", "m", "l"}
