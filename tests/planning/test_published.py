"""Counting elements."""

import pytest

from tumorseg.planning.presets import PLAIN_REFERENCE, RESIDUAL_L_REFERENCE
from tumorseg.planning.published import GB, elements_budget, feature_map_elements, predicted_bytes
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


@pytest.mark.parametrize(("num_axes", "elements"), [(2, 85e6), (3, 560e6)])
def test_the_budget_grows_with_the_memory(num_axes, elements):
    assert elements_budget(PLAIN_REFERENCE, num_axes, 8) == elements
    assert elements_budget(PLAIN_REFERENCE, num_axes, 12) == pytest.approx(1.5 * elements)


@pytest.mark.parametrize(("num_axes", "elements", "batch_size"), [(2, 380e6, 12), (3, 2.1e9, 2)])
def test_the_reference_itself_is_predicted_to_need_its_memory(num_axes, elements, batch_size):
    assert predicted_bytes(RESIDUAL_L_REFERENCE, num_axes, elements, batch_size) == 24 * GB
    assert predicted_bytes(RESIDUAL_L_REFERENCE, num_axes, elements, 2 * batch_size) == 48 * GB
