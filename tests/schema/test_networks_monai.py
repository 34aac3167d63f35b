"""Records of networks through MONAI."""

import pytest
from pydantic import ValidationError

from tests.networks.monai.specs import CUBES, ROWS
from tumorseg.schema.networks import NETWORKS
from tumorseg.schema.networks_monai import AttentionUnet, Dints, DynUNet, SegResNet, SwinUnetr, Unetr


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
class TestEveryRecord:
    def test_axes_divisors_and_patch_belong_together(self, row):
        assert row.spec.num_axes == len(row.spec.divisors) == len(row.patch)
        assert row.spec.patch_problem(row.patch) is None

    def test_patches_that_cannot_be_trained_are_told_in_one_line(self, row):
        *others, last = row.patch
        for wrong in ((*others, last + 1), (32,)):
            problem = row.spec.patch_problem(wrong)
            assert problem
            assert "\n" not in problem

    def test_json_gives_the_same_record(self, row):
        assert NETWORKS[row.spec.name].model_validate_json(row.spec.model_dump_json()) == row.spec


def test_a_window_above_the_patch_is_named():
    network = SwinUnetr(window=(7, 7, 20))
    assert network.patch_problem((32, 32, 64)) is None
    assert "window of [7, 7, 20] tokens is larger than patch_size [64, 64, 32]" in network.patch_problem((64, 64, 32))


@pytest.mark.parametrize(
    "network",
    [
        SwinUnetr(window=(4, 4, 4)),
        SegResNet(halved_first=(0, 0, 0)),
        AttentionUnet(features_per_stage=(4, 4, 4), strides=CUBES, kernel_size=(3, 3, 3)),
    ],
    ids=lambda network: network.name,
)
def test_a_single_voxel_at_the_bottleneck_is_named(network):
    assert "one voxel at the bottleneck" in network.patch_problem(network.divisors)


def test_a_unetr_takes_one_patch():
    network = Unetr(patch_size=(32, 32, 32))
    assert "learned positions for patches of [32, 32, 32]" in network.patch_problem((32, 32, 48))


def test_fine_axes_of_a_segresnet_are_halved_first():
    network = SegResNet(halved_first=(0, 2, 1), blocks_per_stage=(1, 2, 2, 4))
    assert network.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 1), (2, 2, 2))
    assert network.divisors == (2, 8, 4)
    assert network.num_supervised == 3


STAGES = {"features_per_stage": (4, 4, 4), "strides": CUBES}
DYNUNET = {**STAGES, "kernel_sizes": ((3, 3, 3),) * 3, "decoder_convs_per_stage": (2, 2)}


@pytest.mark.parametrize(
    ("record", "fields", "message"),
    [
        (SwinUnetr, {"window": (7,)}, "2 or 3 axes"),
        (SwinUnetr, {"window": (7, 0)}, "at least 1 token"),
        (SwinUnetr, {"window": (7, 7), "features": 20}, "multiple of 12"),
        (SwinUnetr, {"window": (7, 7), "heads": (3, 5, 12, 24)}, "do not divide 48 features"),
        (Unetr, {"patch_size": (32, 40)}, "multiples of 16"),
        (Unetr, {"patch_size": (32, 32), "heads": 7}, "7 heads do not divide 768"),
        (SwinUnetr, {"window": (7, 7), "features": 12 * 2**59}, "less than or equal to 4096"),
        (SwinUnetr, {"window": (7, 12 * 2**40)}, "has 92358976733184 tokens, expected 4096 at most"),
        (SwinUnetr, {"window": (7, 7), "depths": (400, 400, 200, 1)}, "have 1001 blocks"),
        (Unetr, {"patch_size": (32, 2**62)}, "must be 65536 at most along each axis"),
        (Unetr, {"patch_size": (32, 32), "hidden": 12 * 2**59}, "less than or equal to 65536"),
        (Unetr, {"patch_size": (32, 32), "hidden_between": 12 * 2**59}, "less than or equal to 65536"),
        (Unetr, {"patch_size": (32, 32), "features": 12 * 2**59}, "less than or equal to 4096"),
        (Dints, {"features": 12 * 2**59}, "less than or equal to 4096"),
        (SegResNet, {"halved_first": (11988, 0)}, "less than or equal to 32"),
        (
            SegResNet,
            {"halved_first": (0, 0), "features": 2**14},
            "are 131072 at the bottleneck, expected 65536 at most",
        ),
        (SegResNet, {"halved_first": (0, 0), "blocks_per_stage": (400, 400, 200, 1)}, "have 1004 blocks"),
        (
            SegResNet,
            {"halved_first": (0, 0), "blocks_per_stage": (1,) * 33, "decoder_blocks_per_stage": (1,) * 32},
            "at most 32 items",
        ),
        (SegResNet, {"halved_first": (1, 2)}, "0 for the coarsest"),
        (SegResNet, {"halved_first": (0, 0), "blocks_per_stage": (1, 2)}, "one entry fewer"),
        (DynUNet, DYNUNET | {"decoder_convs_per_stage": (2, 1)}, "has 2 convolutions"),
        (DynUNet, DYNUNET | {"strides": ((1, 1, 1), (2, 2, 2), (5, 2, 2))}, "at most its kernel plus 1"),
        (DynUNet, DYNUNET | {"strides": ((1, 1, 1), (2, 2, 2), (3, 2, 2)), "residual": True}, "2 at most"),
        (AttentionUnet, STAGES | {"kernel_size": (3, 3)}, "2 axes, or all 3"),
        (AttentionUnet, STAGES | {"kernel_size": (3, 3, 3), "features_per_stage": (4, 4, 2**62)}, "less than or equal"),
        (
            AttentionUnet,
            {"kernel_size": (3, 3), "features_per_stage": (4,) * 33, "strides": ((1, 1),) * 33},
            "at most 32 items",
        ),
        (AttentionUnet, STAGES | {"kernel_size": (3, 2, 3)}, "odd"),
        (AttentionUnet, STAGES | {"kernel_size": (3, 3, 2**62 + 1)}, "kernel sizes must be 99 at most"),
        (DynUNet, DYNUNET | {"decoder_convs_per_stage": (2, 2**40)}, "less than or equal to 1000"),
        (AttentionUnet, STAGES | {"kernel_size": (3, 3, 3), "features_per_stage": (4, 4)}, "differ in length"),
        (AttentionUnet, STAGES | {"kernel_size": (3, 3, 3), "features_per_stage": (1, 4, 4)}, "2 features"),
        (AttentionUnet, STAGES | {"kernel_size": (3, 3, 3), "strides": CUBES[::-1]}, "first stage 1"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_reason(record, fields, message):
    with pytest.raises(ValidationError, match=message):
        record(**fields)


def test_a_dynunet_of_two_stages_is_refused():
    fields = {"features_per_stage": (4, 4), "strides": CUBES[:2], "kernel_sizes": ((3, 3, 3),) * 2}
    with pytest.raises(ValidationError, match="3 stages at least"):
        DynUNet(**fields, decoder_convs_per_stage=(2,))
