"""Networks of any valid plan are outlined; those beyond memory are refused, in one line."""

import pytest

from tumorseg.errors import PlanError
from tumorseg.networks import registry
from tumorseg.networks.registry import build_network, outline_network
from tumorseg.schema.network_base import MOST_FEATURES, MOST_KERNEL_EDGE, MOST_STAGES
from tumorseg.schema.networks import MedNext, PlainUNet, ResidualUNet
from tumorseg.schema.networks_mednext import MOST_EXPANSION
from tumorseg.schema.networks_monai import (
    MOST_DOUBLED,
    MOST_PATCH_EDGE,
    AttentionUnet,
    Dints,
    DynUNet,
    SegResNet,
    SwinUnetr,
    Unetr,
)

ENDS = {"num_channels": 4, "num_outputs": 100}
LARGEST_KERNEL, ONCE = (MOST_KERNEL_EDGE,) * 3, (1, 1, 1)
BELOW = MOST_STAGES - 1
STAGES = {
    "features_per_stage": (MOST_FEATURES,) * MOST_STAGES,
    "strides": (ONCE, *(LARGEST_KERNEL,) * BELOW),
    "kernel_sizes": (LARGEST_KERNEL,) * MOST_STAGES,
}
PARTS = {"attention": "cbam", "attention_reduction": 1, "attention_gates": True}
LARGEST = (
    PlainUNet(**STAGES, **PARTS, convs_per_stage=(1,) * MOST_STAGES, decoder_convs_per_stage=(1,) * BELOW),
    ResidualUNet(**STAGES, **PARTS, blocks_per_stage=(1,) * MOST_STAGES, decoder_convs_per_stage=(1,) * BELOW),
    MedNext(
        **STAGES,
        **PARTS,
        blocks_per_stage=(1,) * (MOST_STAGES + BELOW),
        expansion_per_stage=(MOST_EXPANSION,) * (MOST_STAGES + BELOW),
        global_response_norm=True,
    ),
    DynUNet(**STAGES, decoder_convs_per_stage=(2,) * BELOW),
    AttentionUnet(
        features_per_stage=STAGES["features_per_stage"], strides=STAGES["strides"], kernel_size=LARGEST_KERNEL
    ),
    SwinUnetr(features=MOST_DOUBLED // 12 * 12, window=(16, 16, 16), heads=(1, 1, 1, 1)),
    Unetr(
        patch_size=(MOST_PATCH_EDGE,) * 3,
        features=MOST_DOUBLED,
        hidden=MOST_FEATURES,
        hidden_between=MOST_FEATURES,
        heads=1,
    ),
    SegResNet(features=MOST_FEATURES // 8, halved_first=(0, MOST_STAGES, MOST_STAGES)),
    Dints(features=MOST_DOUBLED),
)
BEYOND_MEMORY = PlainUNet(
    features_per_stage=(MOST_FEATURES,) * 2,
    strides=(ONCE, ONCE),
    # The first stage alone would fit.
    kernel_sizes=(ONCE, LARGEST_KERNEL),
    convs_per_stage=(1, 1),
    decoder_convs_per_stage=(1,),
)


@pytest.mark.parametrize("spec", LARGEST, ids=lambda spec: spec.name)
def test_the_largest_network_of_a_valid_plan_is_outlined(spec):
    network = outline_network(spec, **ENDS)
    assert all(tensor.is_meta for tensor in network.parameters())


def test_the_largest_are_of_every_name():
    assert {spec.name for spec in LARGEST} == set(registry.BUILDERS)


def test_a_network_beyond_memory_is_refused_in_one_line():
    with pytest.raises(PlanError, match=r"plain_unet is too large to be made: its weights take \d+\.\d\d GB") as told:
        build_network(BEYOND_MEMORY, **ENDS)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("words", ["can't allocate memory", "mat1 and mat2 shapes cannot be multiplied"])
def test_other_faults_of_a_builder_keep_their_traceback_whatever_they_say(monkeypatch, words):
    small = PlainUNet(
        features_per_stage=(2, 2),
        strides=(ONCE, ONCE),
        kernel_sizes=(ONCE, ONCE),
        convs_per_stage=(1, 1),
        decoder_convs_per_stage=(1,),
    )
    build, calls = registry.BUILDERS["plain_unet"], []

    def failing_once(spec, **ends):
        calls.append(spec)
        if len(calls) == 1:
            raise RuntimeError(words)
        return build(spec, **ends)

    monkeypatch.setitem(registry.BUILDERS, "plain_unet", failing_once)
    with pytest.raises(RuntimeError, match=words):
        build_network(small, **ENDS)


def test_more_bytes_than_64_bits_count_have_no_room():
    assert not registry._has_room(2**70)
    assert registry._has_room(2**10)
