"""What every family of networks promises, and the elements of the U-Nets' feature maps counted by hand."""

import itertools
import math

import pytest

from tests.networks.rows import NUM_OUTPUTS, OWN, SHAPES, spec_of
from tests.planning.measured import planned
from tumorseg.errors import PlanError
from tumorseg.networks.registry import BUILDERS
from tumorseg.planning.families.base import Ends, Grid, initial_patch
from tumorseg.planning.families.registry import FAMILIES, converted, family_of
from tumorseg.planning.presets import PRESETS, extend_preset
from tumorseg.schema.extensions import External
from tumorseg.schema.networks import NETWORKS, PlainUNet, ResidualUNet

GRIDS = {
    "2d": Grid((0.7, 0.9), (301.0, 203.0), 1e7, 3),
    "3d anisotropic": Grid((5.0, 0.8, 0.8), (24.0, 250.0, 180.0), 1e8, 2),
}

BOTTLENECK_HEADS = {"mednext": 1}
"""Heads that families have below the decoder."""


def test_every_network_of_the_schema_has_a_builder_and_a_family():
    assert set(FAMILIES) == set(NETWORKS) == set(BUILDERS)
    assert all(family.name == name for name, family in FAMILIES.items())


def test_presets_and_options_name_families_only():
    assert {preset.network for preset in PRESETS.values()} <= set(FAMILIES)
    with pytest.raises(PlanError, match=rf"network: .*no network 'unext'; known are {', '.join(NETWORKS)}"):
        extend_preset({"name": "own", "network": "unext"}, source="own.json")
    with pytest.raises(PlanError, match=rf"'unext' is unknown to the planner; choose {' or '.join(FAMILIES)}"):
        planned(network="unext")


def check_falling(name, grid, preset):
    """Check that a family's networks run from the largest patch down, and take their own patches."""
    found = list(FAMILIES[name].networks(grid, preset))
    assert math.prod(found[0].patch_size) >= math.prod(initial_patch(grid, preset))
    for larger, smaller in itertools.pairwise(found):
        assert math.prod(smaller.patch_size) < math.prod(larger.patch_size)
    for sized in found:
        assert isinstance(sized.network, NETWORKS[name])
        # The smallest patches of all may leave a single voxel to normalise.
        if math.prod(sized.patch_size) > math.prod(sized.network.divisors):
            assert sized.network.patch_problem(sized.patch_size) is None


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("grid", GRIDS)
class TestEveryFamily:
    def test_networks_run_from_the_largest_patch_down_and_take_theirs(self, name, grid):
        preset = PRESETS["optimized"].model_copy(update={"network": name})
        check_falling(name, GRIDS[grid], preset)

    def test_what_stands_for_another_network_keeps_its_patch_and_outputs(self, name, grid):
        other = FAMILIES[FAMILIES[name].rival]
        preset = PRESETS["optimized"].model_copy(update={"network": other.name})
        theirs, patch = next(other.networks(GRIDS[grid], preset))
        own = converted(theirs, name)
        assert isinstance(own, NETWORKS[name])
        assert own.patch_problem(patch) is None
        assert own.deep_supervision == theirs.deep_supervision
        beyond = [network.num_supervised - BOTTLENECK_HEADS.get(network.name, 0) for network in (own, theirs)]
        assert beyond[0] == beyond[1] - (theirs.num_stages - own.num_stages) == own.num_stages - 1
        assert own == next(FAMILIES[name].networks(GRIDS[grid], preset)).network

    def test_the_reason_names_the_rival(self, name, grid):
        family, preset = FAMILIES[name], PRESETS["optimized"].model_copy(update={"network": name})
        sized = next(family.networks(GRIDS[grid], preset))
        reason = family.reason(sized, GRIDS[grid], preset, rival=FAMILIES[family.rival])
        assert reason.rule
        assert reason.alternative.startswith(f"--network {family.rival}")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OWN)
def test_feature_maps_are_a_lower_bound_of_what_autograd_keeps(name, shape):
    spec, patch = spec_of(name, shape, deep_supervision=True), SHAPES[shape][0]
    stages = FAMILIES[name].stages(spec, patch, Ends(2, NUM_OUTPUTS, is_checkpointed=False))
    bound = FAMILIES[name].feature_maps(spec, patch, NUM_OUTPUTS)
    assert bound is None or bound <= sum(stage.saved_elements for stage in stages) + NUM_OUTPUTS * math.prod(patch)


def test_another_packages_network_has_nothing_to_take_over():
    with pytest.raises(PlanError, match=r"my_net has no stages .* plan again with --network"):
        converted(External(name="my_net", distribution="pkg", version="2"), next(iter(FAMILIES)))


def feature_maps(network, patch_size, num_outputs):
    return family_of(network.name).feature_maps(network, patch_size, num_outputs)


TOPOLOGY = {
    "features_per_stage": (4, 8, 8),
    "strides": ((1, 1), (2, 2), (1, 2)),
    "kernel_sizes": ((3, 3),) * 3,
}
SIZES = (64, 16, 8)  # voxels of an 8 x 8 patch at each stage


def test_a_plain_u_net_is_counted_by_hand():
    network = PlainUNet(**TOPOLOGY, convs_per_stage=(2, 2, 3), decoder_convs_per_stage=(1, 2))
    encoder = 2 * 4 * 64 + 2 * 8 * 16 + 3 * 8 * 8
    decoder = (1 + 1) * 8 * 16 + (2 + 1) * 4 * 64
    assert feature_maps(network, (8, 8), 5) == encoder + decoder + 5 * 64


def test_a_residual_encoder_counts_stem_blocks_and_projections():
    network = ResidualUNet(**TOPOLOGY, blocks_per_stage=(1, 2, 1), decoder_convs_per_stage=(1, 1))
    stem = 4 * 64
    blocks = 2 * 4 * 64 + (4 + 1) * 8 * 16 + (2 + 1) * 8 * 8
    decoder = 2 * 8 * 16 + 2 * 4 * 64
    assert feature_maps(network, (8, 8), 5) == stem + blocks + decoder + 5 * 64


def test_a_stage_that_changes_neither_features_nor_size_has_no_projection():
    topology = TOPOLOGY | {"strides": ((1, 1), (2, 2), (1, 1))}
    network = ResidualUNet(**topology, blocks_per_stage=(1, 1, 1), decoder_convs_per_stage=(1, 1))
    changed = ResidualUNet(
        **(topology | {"features_per_stage": (4, 4, 8)}), blocks_per_stage=(1, 1, 1), decoder_convs_per_stage=(1, 1)
    )
    assert feature_maps(network, (8, 8), 2) == 4 * 64 * 3 + 8 * 16 * 3 + 8 * 16 * 2 + 16 * 16 + 8 * 64 + 128
    assert feature_maps(changed, (8, 8), 2) == 4 * 64 * 3 + 4 * 16 * 3 + 8 * 16 * 3 + 8 * 16 + 8 * 64 + 128
