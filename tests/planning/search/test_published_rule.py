"""Counting elements."""

import pytest

from tumorseg.planning.presets import PRESETS
from tumorseg.planning.search.patch import Candidate, Grid, Relief, build_topology
from tumorseg.planning.search.published_rule import PublishedRule, feature_map_elements
from tumorseg.planning.search.topology import choose_topology
from tumorseg.schema.networks import PlainUNet, ResidualUNet

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
    assert feature_map_elements(network, (8, 8), 5) == encoder + decoder + 5 * 64


def test_a_residual_encoder_counts_stem_blocks_and_projections():
    network = ResidualUNet(**TOPOLOGY, blocks_per_stage=(1, 2, 1), decoder_convs_per_stage=(1, 1))
    stem = 4 * 64
    blocks = 2 * 4 * 64 + (4 + 1) * 8 * 16 + (2 + 1) * 8 * 8
    decoder = 2 * 8 * 16 + 2 * 4 * 64
    assert feature_map_elements(network, (8, 8), 5) == stem + blocks + decoder + 5 * 64


def test_a_stage_that_changes_neither_features_nor_size_has_no_projection():
    topology = TOPOLOGY | {"strides": ((1, 1), (2, 2), (1, 1))}
    network = ResidualUNet(**topology, blocks_per_stage=(1, 1, 1), decoder_convs_per_stage=(1, 1))
    changed = ResidualUNet(
        **(topology | {"features_per_stage": (4, 4, 8)}), blocks_per_stage=(1, 1, 1), decoder_convs_per_stage=(1, 1)
    )
    assert feature_map_elements(network, (8, 8), 2) == 4 * 64 * 3 + 8 * 16 * 3 + 8 * 16 * 2 + 16 * 16 + 8 * 64 + 128
    assert feature_map_elements(changed, (8, 8), 2) == 4 * 64 * 3 + 4 * 16 * 3 + 8 * 16 * 3 + 8 * 16 + 8 * 64 + 128


@pytest.mark.parametrize("preset", ["nnunet", "nnunet_resenc_m", "nnunet_resenc_l", "nnunet_resenc_xl"])
def test_the_published_estimate_scales_with_budget_and_patch(preset):
    chosen = PRESETS[preset]
    grid = Grid((1.0, 1.0, 1.0), (128.0, 128.0, 128.0), 1e9, 2)
    topology = choose_topology(grid.spacing_mm, grid.median_shape)
    candidate = Candidate(build_topology(topology, chosen), topology.patch_size, 2, Relief())
    rule = PublishedRule(chosen.memory, chosen, 8, 1)
    needed = rule.needed_gb(candidate, grid, is_rough=False)
    assert PublishedRule(chosen.memory, chosen, needed, 1).fits(candidate, grid, is_rough=False)
    assert not PublishedRule(chosen.memory, chosen, 0.98 * needed, 1).fits(candidate, grid, is_rough=False)
    twice = PublishedRule(chosen.memory, chosen, 10 * needed, 2).largest_batch(candidate, grid, 1000)
    assert twice == 2 * PublishedRule(chosen.memory, chosen, 10 * needed, 1).largest_batch(candidate, grid, 1000)
