"""Stages that a run of a network shows, held to those that its family knows, and to the network itself."""

import pytest
import torch

from tests.networks.rows import spec_of
from tests.planning.reading.test_anatomy import anatomy_of, plan_with
from tumorseg.losses.presets import deep_supervision_weights
from tumorseg.networks.registry import build_network
from tumorseg.planning.families.base import Ends
from tumorseg.planning.families.registry import family_of
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.memory.rehearsal import setting_of
from tumorseg.planning.memory.totals import plan_setting
from tumorseg.planning.reading.anatomy import plan_anatomy
from tumorseg.planning.reading.stages import IMAGE
from tumorseg.planning.reading.traced import Batch, trace
from tumorseg.schema.networks_monai import AttentionUnet, SegResNet, SwinUnetr, Unetr

SQUARES = ((1, 1), (2, 2), (2, 2))
ENDS = Ends(2, 3, is_checkpointed=False)
SMALL = {
    "segresnet": SegResNet(
        features=8, halved_first=(0, 1), blocks_per_stage=(1, 1, 2), decoder_blocks_per_stage=(1, 1)
    ),
    "attention_unet": AttentionUnet(features_per_stage=(4, 6, 6), strides=SQUARES, kernel_size=(3, 3)),
    "swin_unetr": SwinUnetr(features=12, window=(7, 7), depths=(2, 1, 1, 1)),
    "unetr": Unetr(patch_size=(48, 32), features=4, hidden=24, hidden_between=32, heads=2),
}
PATCHES = {"segresnet": (16, 32), "attention_unet": (16, 24), "swin_unetr": (64, 128), "unetr": (48, 32)}


def pairs(flows):
    return {(flow.source, flow.target) for flow in flows}


@pytest.mark.parametrize("name", ["plain_unet", "residual_unet"])
def test_a_trace_finds_the_stages_that_a_family_knows(name):
    spec, patch = spec_of(name, "2d", deep_supervision=True), (16, 24)
    known = family_of(name).stages(spec, patch, ENDS)
    anatomy = anatomy_of(spec, patch)
    found = trace(spec, ENDS, Batch(patch, 1, "fp32"))
    assert [(stage.place.side, stage.place.shape) for stage in found.stages] == [
        (one.layout.side, one.layout.shape) for one in known
    ]
    assert [stage.parameters for stage in found.stages] == [one.layout.parameters for one in known]
    assert [stage.features for stage in found.stages] == [one.layout.features for one in known]
    assert pairs(found.flows) == pairs(anatomy.flows) == {(IMAGE, 0), (0, 1), (1, 2), (2, 3), (3, 4), (1, 3), (0, 4)}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
class TestEachWrapped:
    def test_weights_are_those_of_the_network(self, name):
        network = build_network(SMALL[name], num_channels=2, num_outputs=3)
        anatomy = anatomy_of(SMALL[name], PATCHES[name])
        assert anatomy.parameters == sum(weight.numel() for weight in network.parameters())

    def test_what_stages_keep_is_what_a_step_was_counted_to_keep_but_for_its_loss(self, name):
        plan = plan_with(SMALL[name], PATCHES[name])
        (key, configuration), *_ = plan.configurations.items()
        weights = deep_supervision_weights(SMALL[name].num_supervised)
        loss = configuration.loss.changed(deep_supervision_weights=weights)
        configuration = configuration.model_copy(update={"loss": loss})
        count = MemoryCounter().count(configuration, setting_of(plan_setting(plan), configuration))
        anatomy = plan_anatomy(plan, key)
        logits = 4 * configuration.batch_size * 3 * PATCHES[name][0] * PATCHES[name][1]
        assert anatomy.saved_bytes < count.activations_bytes < anatomy.saved_bytes + 12 * logits

    def test_checkpointing_keeps_less(self, name):
        usual, sparing = (anatomy_of(SMALL[name], PATCHES[name], activation_checkpointing=on) for on in (False, True))
        assert 0 < sparing.saved_bytes < usual.saved_bytes
        assert [stage.parameters for stage in sparing.stages] == [stage.parameters for stage in usual.stages]


@pytest.mark.slow
def test_shapes_levels_and_work_of_windows_of_tokens():
    anatomy = anatomy_of(SMALL["swin_unetr"], PATCHES["swin_unetr"])
    assert [stage.shape for stage in anatomy.encoder] == [(64 >> level, 128 >> level) for level in range(6)]
    assert [stage.stride for stage in anatomy.stages] == [(1, 1), *[(2, 2)] * 10]
    assert [stage.has_attention for stage in anatomy.stages] == [False, *[True] * 4, *[False] * 6]
    blocks = [stage.work[0].count for stage in anatomy.encoder[1:5]]
    assert blocks == [2, 1, 1, 1]
    assert anatomy.encoder[1].work[0].num_tokens == 49
    assert (IMAGE, 1) in pairs(anatomy.flows)


@pytest.mark.slow
def test_tokens_of_a_transformer_lie_on_their_grid():
    anatomy = anatomy_of(SMALL["unetr"], PATCHES["unetr"])
    bottleneck = anatomy.encoder[-1]
    assert (bottleneck.shape, bottleneck.work[0].count, bottleneck.work[0].num_tokens) == ((3, 2), 12, 6)
    # Its skip connections come up from the tokens.
    up = {(source, target) for source, target in pairs(anatomy.flows) if 0 <= target < source <= 4}
    assert up == {(4, 3), (3, 2), (2, 1)}


@pytest.mark.slow
def test_gates_are_told_and_skips_are_no_ways_through_a_stage():
    gated = anatomy_of(SMALL["attention_unet"], PATCHES["attention_unet"])
    assert [work.unit for work in gated.decoder[0].work] == ["gate", "upsampling", "convolution"]
    added = anatomy_of(SMALL["segresnet"], PATCHES["segresnet"])
    assert pairs(added.flows) == {(IMAGE, 0), (0, 1), (1, 2), (2, 3), (3, 4), (1, 3), (0, 4)}


def test_a_trace_leaves_no_real_tensors_and_no_hooks_behind():
    before = torch.rand(1)
    trace(spec_of("plain_unet", "2d", deep_supervision=True), ENDS, Batch((16, 24), 1, "bf16"))
    assert type(before + 1) is torch.Tensor
    assert type(torch.zeros(1)) is torch.Tensor


def test_parts_that_are_not_as_usual_are_told():
    spec = spec_of("plain_unet", "2d", deep_supervision=True)
    assert anatomy_of(spec, (16, 24)).parts == ()
    changed = spec.changed(norm="group", attention_gates=True)
    assert anatomy_of(changed, (16, 24)).parts == ("norm group", "attention_gates")
